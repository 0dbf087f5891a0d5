"""Drives a reference and a subject with one random sequence and judges what they answered."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.compare import Difference, Judge, outcome_of
from tests.compat.driver import KV, LEASE, MAINTENANCE, DriverProcess
from tests.compat.operations import STREAMS, Generator, Operation

BATCH = 800
DIFFERENCES_MAX = 25
Drivers = tuple[DriverProcess, DriverProcess]


@dataclass
class Report:
    """The end of a run. `explained` counts the uses of each rule of `differences`."""

    operations: int
    differences: list[Difference | str]
    explained: dict[str, int]
    revision: int
    hash_kv: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        shown = "\n".join(map(str, self.differences))
        return f"{self.operations} operations, revision {self.revision}\n{shown}"


@dataclass
class Comparison:
    """Two running members and one seed."""

    reference: str
    subject: str
    seed: int
    versions: tuple[str, str] = ("", "")
    watch_seconds_max: float = 120.0
    """For a watcher that is late; one that will never be equal is a failure anyway."""
    plant: Any = None
    """For the harness's own test: called with each batch of the subject's answers."""
    generator: Generator = field(init=False)
    differences: list[Difference | str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.generator = Generator(self.seed)

    def run(self, operations: int) -> Report:
        """The random sequence, then the questions about the state it leaves."""
        with self._drivers() as drivers:
            return self._run(drivers, operations)

    def compare_state(self, reference: str, subject: str) -> Report:
        """The closing questions again, to the same two members after a restart."""
        self.reference, self.subject = reference, subject
        # Hashes of earlier compactions live in memory only (spec/kv.md X5).
        self.generator.world.compactions.clear()
        self.generator.world.restarted = True
        with self._drivers() as drivers:
            judge = Judge(*self.versions, self.generator.world)
            self._step(drivers, judge, _closing_questions(self.generator))
            return self._report(drivers, judge, time.monotonic())

    @contextlib.contextmanager
    def _drivers(self) -> Iterator[Drivers]:
        drivers = (DriverProcess(self.reference), DriverProcess(self.subject))
        try:
            yield drivers
        finally:
            for driver in drivers:
                driver.close()

    def _run(self, drivers: Drivers, operations: int) -> Report:
        began = time.monotonic()
        generator = self.generator
        self.versions = tuple(_version(driver) for driver in drivers)  # type: ignore[assignment]
        judge = Judge(*self.versions, generator.world)
        while judge.operations < operations and not self.differences:
            self._step(drivers, judge, generator.batch(BATCH))
            self._settle(drivers, judge, generator)
            if not self.differences:
                self._step(drivers, judge, [generator.compaction()])
        if not self.differences:
            self._step(drivers, judge, _closing_questions(generator))
            self._settle(drivers, judge, generator)
        return self._report(drivers, judge, began)

    def _report(self, drivers: Drivers, judge: Judge, began: float) -> Report:
        hash_kv = rpc.HashKVResponse.FromString(
            drivers[0].run([("call", MAINTENANCE + "HashKV", b"")])[0][2]
        )
        return Report(
            judge.operations,
            self.differences,
            judge.explained,
            int(hash_kv.header.revision),
            int(hash_kv.hash),
            time.monotonic() - began,
        )

    def _step(
        self,
        drivers: Drivers,
        judge: Judge,
        operations: list[Operation],
    ) -> None:
        for driver in drivers:
            driver.submit(operations)
        answers = [driver.collect() for driver in drivers]
        if self.plant is not None:
            self.plant(operations, answers[1])
        judge.calls(operations, *answers)
        for difference in judge.differences[:DIFFERENCES_MAX]:
            if difference.reread:
                difference.afterwards = _read_again(drivers, difference.reread)
        self.differences += judge.differences[:DIFFERENCES_MAX]
        judge.differences.clear()

    def _settle(
        self,
        drivers: Drivers,
        judge: Judge,
        generator: Generator,
    ) -> None:
        """Bring all watchers up to date, compare what they saw, then start some streams anew."""
        for driver in drivers:
            driver.submit([("settle",)])
        revisions = [driver.collect()[0] for driver in drivers]
        if revisions[0] != revisions[1]:
            self.differences.append(f"revisions after settling: {revisions}")
        generator.world.revision = revisions[0]
        generator.world.unsettled.clear()
        complaints = self._compare_watches(drivers, judge)
        self.differences += complaints[:DIFFERENCES_MAX]
        ask = [("progress", s) for s in range(STREAMS) if _all_caught_up(generator, s)]
        self._step(drivers, judge, ask)
        self._renew_streams(drivers, judge, generator)

    def _compare_watches(self, drivers: Drivers, judge: Judge) -> list[str]:
        """Equal at once as a rule; a watcher that is late is waited for."""
        deadline = time.monotonic() + self.watch_seconds_max
        pause = threading.Event()
        while True:
            logs = [driver.run([("logs",)])[0] for driver in drivers]
            explained = dict(judge.explained)
            complaints = judge.watches(logs[0], logs[1])
            if not complaints or time.monotonic() > deadline:
                return complaints
            judge.explained = explained
            pause.wait(0.05)

    def _renew_streams(
        self,
        drivers: Drivers,
        judge: Judge,
        generator: Generator,
    ) -> None:
        world = generator.world
        stream = generator.dice.randrange(STREAMS)
        if not generator.chance(0.4) or stream not in world.watches:
            return
        world.watches.pop(stream)
        world.next_auto_id.pop(stream, None)
        world.future_watch.discard(stream)
        for place in [place for place in world.starts if place[0] == stream]:
            world.starts.pop(place)
        for driver in drivers:
            driver.run([("forget", stream)])


def _all_caught_up(generator: Generator, stream: int) -> bool:
    """Old releases answer too early or from an empty stream (spec/watch.md W11): not asked then."""
    world = generator.world
    live = [w for w in world.watches.get(stream, ()) if not generator.was_compacted(stream, w)]
    return bool(live) and stream not in world.future_watch


def _read_again(drivers: Drivers, request: bytes) -> str:
    answers = (driver.run([("call", KV + "Range", request)])[0] for driver in drivers)
    told = (str(outcome_of(KV + "Range", answer)) for answer in answers)
    return "".join(
        f"\n  {side} afterwards: {text}"
        for side, text in zip(("reference", "subject"), told, strict=True)
    )


def _version(driver: DriverProcess) -> str:
    code, details, body = driver.run([("call", MAINTENANCE + "Status", b"")])[0]
    assert not code, details
    return str(rpc.StatusResponse.FromString(body).version)


def _closing_questions(generator: Generator) -> list[Operation]:
    """The whole state: every readable revision's contents by sample, all leases, all hashes."""
    world = generator.world
    everything = {"key": b"\0", "range_end": b"\0"}
    revisions = {world.compacted, world.revision, 0}
    low = max(world.compacted, 1)
    if low < world.revision:
        revisions |= {generator.dice.randint(low, world.revision) for _ in range(40)}
    asked: list[Operation] = [*generator.await_compaction()]
    for revision in sorted(r for r in revisions if r >= 0):
        read = rpc.RangeRequest(**everything, revision=revision)
        asked.append(("call", KV + "Range", read.SerializeToString()))
        hash_kv = rpc.HashKVRequest(revision=revision)
        asked.append(("call", MAINTENANCE + "HashKV", hash_kv.SerializeToString()))
    asked.append(("call", LEASE + "LeaseLeases", b""))
    for lease in sorted(world.leases):
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        asked.append(("call", LEASE + "LeaseTimeToLive", request.SerializeToString()))
    return asked
