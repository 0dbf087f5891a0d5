"""One round: load, faults, mending, and then the truth."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeVar

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.cluster import ChaosCluster, ChaosMember
from tests.support.chaos.faults import FullDisk, Scene
from tests.support.chaos.leases import Lessee
from tests.support.chaos.load import READS, Book, Caller, Client, start_clients
from tests.support.chaos.plan import Planned
from tests.support.chaos.verdict import Evidence, Verdict, judge
from tests.support.chaos.watching import Watching, read_log, start_watches
from tests.support.linearizability import Operation, Start
from tests.support.servers_proc import wait_until

WARM_OPERATIONS = 60
MORE_SUCCESSES = 3
"""Of each client, once everything has been mended."""
SERVE_SECONDS_MAX = 120.0
CLIENT_SECONDS_MAX = 60.0
AFTER_SECONDS = 0.5
"""A fault that ended has its consequences while the load still runs."""
FORGOTTEN_SECONDS = 60.0
"""A call of unknown outcome of an earlier round is not expected to happen any more."""
EVERYTHING = (b"\0", b"\0")
T = TypeVar("T")


@dataclass
class RoundResult:
    number: int
    plan: Sequence[Planned]
    operations: int = 0
    unknown: int = 0
    unknown_that_happened: int = 0
    revision: int = 0
    seconds: float = 0.0
    failover_seconds: float | None = None
    """From the loss of a leader, as the only fault, to the next write acknowledged after it."""
    farewell_seconds: float | None = None
    """The longest time without an acknowledged write around a leader's SIGTERM."""
    violations: list[str] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)
    evidence: Evidence | None = None

    def __str__(self) -> str:
        faults = ", ".join(str(each) for each in self.plan) or "nothing"
        text = (
            f"round {self.number}: {faults}: {self.operations} operations, {self.unknown} unknown "
            f"of which {self.unknown_that_happened} happened, revision {self.revision}"
        )
        if self.failover_seconds is not None:
            text += f", failover {self.failover_seconds:.2f} s"
        if self.farewell_seconds is not None:
            text += f", farewell {self.farewell_seconds:.2f} s"
        end = f"{len(self.violations)} VIOLATIONS" if self.violations else "good"
        return f"{text}, {self.seconds:.1f} s: {end}"


class Rounds:
    """Rounds of one cluster, one after the other; calls of unknown outcome are carried over."""

    def __init__(self, cluster: ChaosCluster, seed: int) -> None:
        self.cluster = cluster
        self.book = Book()
        self._seed = seed
        self._number = 0
        self._doubtful: list[Operation] = []

    def run(self, plan: Sequence[Planned], number: int) -> RoundResult:
        self._number = number
        result = RoundResult(number, plan)
        began = monotonic()
        try:
            self._run(plan, result)
        except (AssertionError, grpc.RpcError) as error:
            result.violations.append(f"the round did not come to its end: {error}")
        for member in self.cluster.members:
            result.violations.extend(_complaints(member, result))
        result.seconds = monotonic() - began
        return result

    def _run(self, plan: Sequence[Planned], result: RoundResult) -> None:
        seed = self._seed * 1000 + self._number
        start = self._start()
        scene = Scene(self.cluster, self.book, random.Random(seed), start.revision)
        result.told = scene.told
        stopping, watching = threading.Event(), threading.Event()
        clients = start_clients(self.cluster, self.book, seed, stopping)
        lessee = Lessee(
            Caller(f"lessee.{seed}", self.cluster, self.book, random.Random(seed + 7)), stopping
        )
        lessee.start()
        watches = start_watches(self.cluster, self.book, seed, start.revision + 1, watching)
        try:
            self._break(scene, plan)
            self._recover(clients, result)
        finally:
            self.cluster.mend()
            stopping.set()
            for each in (*clients, lessee):
                each.join(CLIENT_SECONDS_MAX)
            if any(each.is_alive() for each in (*clients, lessee)):
                watching.set()
        try:
            last = self._last_words()
            self._wait_for(lambda: all(w.seen >= last for w in watches), "watches have seen all")
        finally:
            watching.set()
            for watch in watches:
                watch.join(CLIENT_SECONDS_MAX)
        # Leases may have ended while the watches caught up; they may have shown that.
        self._judge(result, scene, start, (last, self._last_words()), watches, lessee)

    def _start(self) -> Start:
        """Everything as it is now. Whatever comes later has a higher revision."""
        kv = self.cluster.members[0].kv
        answer = self._patiently(partial(kv.Range, _read_all(), timeout=CLIENT_SECONDS_MAX))
        return Start(int(answer.header.revision), list(answer.kvs))

    def _break(self, scene: Scene, plan: Sequence[Planned]) -> None:
        warm = self.book.acknowledged + WARM_OPERATIONS
        self._wait_for(lambda: self.book.acknowledged >= warm, "some calls before the faults")
        agenda: list[tuple[float, Callable[[Scene], None]]] = []
        for each in plan:
            agenda.append((each.begins, each.fault.begin))
            agenda.append((each.ends, each.fault.end))
        began = monotonic()
        for moment, step in sorted(agenda, key=lambda item: item[0]):
            scene.wait(began + moment - monotonic())
            step(scene)
        scene.wait(AFTER_SECONDS)

    def _recover(self, clients: Sequence[Client], result: RoundResult) -> None:
        """Liveness: once nothing is broken every member serves, and every client gets on.

        Who was to end may do so late, and is started again; nobody else may end.
        """
        may_end = {m for each in result.plan for m in each.fault.victims if each.fault.is_deadly}

        def serves(member: ChaosMember) -> bool:
            if not member.process.running() and member in may_end:
                member.spawn()
            assert member.process.running(), f"{member.label} ended: {member.process.log(3000)}"
            return member.serves()

        for member in self.cluster.members:
            assert member.process.running() or member in may_end, (
                f"{member.label} ended by itself: {member.process.log(3000)}"
            )
        self.cluster.mend()
        for member in self.cluster.members:
            self._wait_for(partial(serves, member), f"{member.label} serves again")
        goals = [(client, client.succeeded + MORE_SUCCESSES) for client in clients]
        self._wait_for(
            lambda: all(client.succeeded >= goal for client, goal in goals), "all clients get on"
        )

    def _last_words(self) -> int:
        """A linearizable read of everything through each member; the newest revision of all."""
        last = 0
        for member in self.cluster.members:
            invoked = self.book.now()
            kv = member.kv
            answer = self._patiently(partial(kv.Range, _read_all(), timeout=CLIENT_SECONDS_MAX))
            completed = self.book.now()
            self.book.add(Operation("last", member.label, _read_all(), invoked, completed, answer))
            last = max(last, int(answer.header.revision))
        return last

    def _judge(
        self,
        result: RoundResult,
        scene: Scene,
        start: Start,
        shown_and_last: tuple[int, int],
        watches: Sequence[Watching],
        lessee: Lessee,
    ) -> None:
        shown, last = shown_and_last
        operations = self.book.take()
        everything = [*self._doubtful, *operations]
        logs = {
            member.label: self._patiently(
                partial(read_log, member.stubs(), start.revision + 1, last, CLIENT_SECONDS_MAX)
            )
            for member in self.cluster.members
        }
        hashes = {member.label: self._hash(member, last) for member in self.cluster.members}
        evidence = Evidence(start, shown, last, everything, logs, hashes, watches, lessee)
        verdict: Verdict = judge(evidence)
        result.evidence = evidence
        result.violations.extend(verdict.violations)
        result.operations = len(operations)
        result.unknown = sum(each.is_unknown for each in everything)
        result.unknown_that_happened = verdict.unknown_that_happened
        result.revision = last
        if len(result.plan) == 1:
            result.failover_seconds = _failover(scene, operations)
            result.farewell_seconds = _farewell(scene, operations)
        horizon = self.book.now() - FORGOTTEN_SECONDS
        self._doubtful = [each for each in everything if each.is_unknown and each.invoked > horizon]

    def _hash(self, member: ChaosMember, revision: int) -> int:
        """All of its log up to `revision` was read, so it has that; who has not would refuse."""
        return int(self._patiently(lambda: member.hash_kv(revision))[0])

    def _patiently(self, read: Callable[[], T]) -> T:
        """Reads by the harness itself, which a busy machine may make wait."""
        found: list[T] = []

        def is_done() -> bool:
            with suppress(grpc.RpcError):
                found.append(read())
            return bool(found)

        self._wait_for(is_done, "a read is answered")
        return found[0]

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, SERVE_SECONDS_MAX, what)


def _complaints(member: ChaosMember, result: RoundResult) -> list[str]:
    """What a member says of itself that none may: nothing broke that this could come from."""
    has_full_disk = any(
        isinstance(each.fault, FullDisk) and member in each.fault.victims for each in result.plan
    )
    found = []
    for line in member.new_log_lines():
        is_fatal = '"level":"fatal"' in line or '"level":"panic"' in line
        if "Traceback" in line or (is_fatal and not has_full_disk):
            found.append(f"{member.label} logged: {line}")
    return found


def _read_all() -> rpc.RangeRequest:
    key, end = EVERYTHING
    return rpc.RangeRequest(key=key, range_end=end)


def _acknowledged_writes(operations: Sequence[Operation]) -> list[Operation]:
    return [
        each
        for each in operations
        if each.is_acknowledged and not isinstance(each.request, READS) and each.has_changed
    ]


def _failover(scene: Scene, operations: Sequence[Operation]) -> float | None:
    if len(scene.leader_losses) != 1:
        return None
    (lost,) = scene.leader_losses
    later = [e.completed for e in _acknowledged_writes(operations) if e.invoked > lost]
    return min((moment for moment in later if moment is not None), default=lost) - lost


def _farewell(scene: Scene, operations: Sequence[Operation]) -> float | None:
    if len(scene.leader_farewells) != 1:
        return None
    (asked,) = scene.leader_farewells
    moments = sorted(e.completed or 0 for e in _acknowledged_writes(operations))
    near = [moment for moment in moments if asked - 0.5 < moment < asked + 5]
    return max((b - a for a, b in itertools.pairwise(near)), default=0.0)
