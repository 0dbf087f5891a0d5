"""Clusters of real processes on loopback: Keydeck, etcd, or both together.

Members are `ServerProcess`es with fixed ports, so that any of them can be killed and started
again. Waiting is asking the members, never a fixed pause.

On a machine that is busy with something else there may be an election at any time. What may be
asked again is asked again then (`patiently`); what is about who leads is asked of a cluster with
`CALM` timeouts, in which nobody campaigns because he has not run for a while.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.servers_proc import ServerProcess, free_port, wait_until

KEYDECK = (sys.executable, "-m", "kvserver")
SECONDS_MAX = 120.0
CALL_SECONDS_MAX = 30.0
"""Both only end a test that hangs."""
CALM_ELECTION_SECONDS = 5
CALM = ("--heartbeat-interval=100", f"--election-timeout={CALM_ELECTION_SECONDS * 1000}")
T = TypeVar("T")
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
UNHEALTHY = "etcdserver: unhealthy cluster"
"""The links of a member are to be some seconds old before the membership may change."""


def patiently(call: Callable[[], T]) -> T:
    """The answer to what may be asked more than once, asked until no election is in its way."""
    deadline = time.monotonic() + SECONDS_MAX
    pause = threading.Event()
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in PASSING or time.monotonic() > deadline:
                raise
        pause.wait(0.05)


@dataclass
class ClusterMember:
    """One member and a client of it alone."""

    process: ServerProcess
    channel: grpc.Channel | None = field(default=None, repr=False)

    def stubs(self) -> grpc.Channel:
        if self.channel is None:
            self.channel = grpc.insecure_channel(
                self.process.endpoint,
                options=[
                    ("grpc.initial_reconnect_backoff_ms", 50),
                    ("grpc.min_reconnect_backoff_ms", 50),
                    ("grpc.max_reconnect_backoff_ms", 200),
                ],
            )
        return self.channel

    @property
    def kv(self) -> services.KVStub:
        return services.KVStub(self.stubs())

    @property
    def cluster(self) -> services.ClusterStub:
        return services.ClusterStub(self.stubs())

    @property
    def maintenance(self) -> services.MaintenanceStub:
        return services.MaintenanceStub(self.stubs())

    @property
    def lease(self) -> services.LeaseStub:
        return services.LeaseStub(self.stubs())

    @property
    def peer_url(self) -> str:
        return self.process.peer_url

    def put(self, key: bytes, value: bytes) -> int:
        """The revision. Written again where an election left open whether it was."""
        return patiently(lambda: self.put_once(key, value))

    def put_once(self, key: bytes, value: bytes) -> int:
        request = rpc.PutRequest(key=key, value=value)
        answer = self.kv.Put(request, timeout=CALL_SECONDS_MAX, wait_for_ready=True)
        return int(answer.header.revision)

    def get(self, key: bytes, *, serializable: bool = False) -> bytes | None:
        return patiently(lambda: self.get_once(key, serializable=serializable))

    def get_once(self, key: bytes, *, serializable: bool = False) -> bytes | None:
        request = rpc.RangeRequest(key=key, serializable=serializable)
        found = self.kv.Range(request, timeout=CALL_SECONDS_MAX, wait_for_ready=True).kvs
        return bytes(found[0].value) if found else None

    def status(self) -> rpc.StatusResponse:
        request = rpc.StatusRequest()
        return self.maintenance.Status(request, timeout=CALL_SECONDS_MAX, wait_for_ready=True)

    def hash_kv(self, revision: int = 0) -> tuple[int, int]:
        request = rpc.HashKVRequest(revision=revision)
        answer = patiently(lambda: self.maintenance.HashKV(request, timeout=CALL_SECONDS_MAX))
        return int(answer.hash), int(answer.header.revision)

    def members(self) -> list[rpc.Member]:
        request = rpc.MemberListRequest(linearizable=True)
        ask = self.cluster.MemberList
        return list(patiently(lambda: ask(request, timeout=CALL_SECONDS_MAX)).members)

    def add(self, peer_url: str, *, is_learner: bool = False) -> rpc.MemberAddResponse:
        """Adds a member. An answer that an election swallowed is made up from the list."""
        request = rpc.MemberAddRequest(peerURLs=[peer_url], isLearner=is_learner)
        answered = self._change(
            lambda: self.cluster.MemberAdd(request, timeout=CALL_SECONDS_MAX),
            done="etcdserver: Peer URLs already exists",
        )
        if answered is not None:
            return answered  # type: ignore[no-any-return]
        members = self.members()
        (added,) = (member for member in members if peer_url in member.peerURLs)
        return rpc.MemberAddResponse(member=added, members=members)

    def remove(self, number: int) -> None:
        request = rpc.MemberRemoveRequest(ID=number)
        self._change(
            lambda: self.cluster.MemberRemove(request, timeout=CALL_SECONDS_MAX),
            done="etcdserver: member not found",
        )

    def promote(self, number: int) -> list[rpc.Member]:
        """The members, once the learner was in sync and votes."""
        request = rpc.MemberPromoteRequest(ID=number)
        answered = self._change(
            lambda: self.cluster.MemberPromote(request, timeout=CALL_SECONDS_MAX),
            done="etcdserver: can only promote a learner member",
        )
        return self.members() if answered is None else list(answered.members)

    def _change(self, call: Callable[[], T], done: str) -> T | None:
        """A change of the membership, as soon as it may be made. None when it was made by a call
        whose answer was lost, which `done` tells."""
        answers: list[T | None] = []
        is_lost = False

        def made() -> bool:
            nonlocal is_lost
            try:
                answers.append(call())
            except grpc.RpcError as error:
                text = error.details() or ""
                if is_lost and text == done:
                    answers.append(None)
                elif text != UNHEALTHY and "in sync with leader" not in text:
                    is_lost = True
                    if error.code() not in PASSING:
                        raise
            return bool(answers)

        wait_until(made, SECONDS_MAX, "the membership may be changed")
        return answers[0]

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None


class Cluster:
    """Some members that were founded together, and those that joined them."""

    def __init__(self, members: list[ClusterMember], directory: Path) -> None:
        self.members = members
        self.directory = directory

    def __getitem__(self, index: int) -> ClusterMember:
        return self.members[index]

    def running(self) -> list[ClusterMember]:
        return [member for member in self.members if member.process.running()]

    def start(self) -> None:
        for member in self.members:
            if not member.process.running():
                member.process.spawn()
        for member in self.members:
            member.process.wait_ready(SECONDS_MAX)

    def leader(self, among: Sequence[ClusterMember] = ()) -> ClusterMember:
        """Waits until all of `among` know the same leader, and that is one of them."""
        found: list[ClusterMember] = []

        def agreed() -> bool:
            found.clear()
            try:
                answers = [(m, m.status()) for m in among or self.running()]
            except grpc.RpcError:
                return False
            leaders = {answer.leader for _, answer in answers}
            found.extend(m for m, answer in answers if {answer.header.member_id} == leaders)
            return len(found) == 1

        wait_until(agreed, SECONDS_MAX, "a leader that everybody knows")
        return found[0]

    def followers(self) -> list[ClusterMember]:
        return self.roles()[1]

    def roles(self) -> tuple[ClusterMember, list[ClusterMember]]:
        """The leader and the others, as of one moment."""
        leader = self.leader()
        return leader, [member for member in self.running() if member is not leader]

    def lead(self, member: ClusterMember) -> int:
        """Have this member lead; a term in which it does."""
        own = member.status().header.member_id
        terms: list[int] = []

        def leads() -> bool:
            leader = self.leader()
            if leader is member:
                status = member.status()
                terms.extend([status.raftTerm] if status.leader == own else [])
                return bool(terms)
            # Whoever leads no more by then says so.
            with contextlib.suppress(grpc.RpcError):
                request = rpc.MoveLeaderRequest(targetID=own)
                leader.maintenance.MoveLeader(request, timeout=CALL_SECONDS_MAX)
            return False

        wait_until(leads, SECONDS_MAX, f"{member.process.name} leads")
        return terms[0]

    def wait_equal(self, revision: int) -> set[int]:
        """The hashes of all running members, once all of them have `revision`."""

        def caught_up() -> bool:
            try:
                return all(m.status().header.revision >= revision for m in self.running())
            except grpc.RpcError:
                return False

        wait_until(caught_up, SECONDS_MAX, "every member has the revision")
        return {member.hash_kv(revision)[0] for member in self.running()}

    def joiner(
        self, name: str, command: Sequence[str] = KEYDECK, flags: Sequence[str] = ()
    ) -> ClusterMember:
        """A member that is to join; its peer URL is fixed, it is not started."""
        process = ServerProcess(
            command, self.directory / name / "data", name, flags, client_port=free_port(),
            peer_port=free_port(),
        )  # fmt: skip
        known = [f"{m.process.name}={m.process.peer_url}" for m in self.members]
        process.initial_cluster = ",".join([*known, f"{name}={process.peer_url}"])
        process.flags = ("--initial-cluster-state=existing", *flags)
        member = ClusterMember(process)
        self.members.append(member)
        return member


@contextlib.contextmanager
def cluster_of(
    directory: Path,
    *commands: Sequence[str],
    flags: Sequence[str] = (),
    starts: bool = True,
    scheme: str = "http",
) -> Iterator[Cluster]:
    """A cluster with one member per command; all of them are ended with the `with`."""
    members = [
        ClusterMember(
            ServerProcess(
                command, directory / f"m{i}" / "data", f"m{i}", flags, client_port=free_port(),
                peer_port=free_port(), peer_scheme=scheme,
            )
        )
        for i, command in enumerate(commands)
    ]  # fmt: skip
    initial = ",".join(f"{m.process.name}={m.process.peer_url}" for m in members)
    for member in members:
        member.process.initial_cluster = initial
    cluster = Cluster(members, directory)
    try:
        if starts:
            cluster.start()
        yield cluster
    finally:
        for member in cluster.members:
            member.close()
            if member.process.running():
                member.process.kill()
