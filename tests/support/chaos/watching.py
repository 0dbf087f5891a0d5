"""Watches that go on where they were, on whatever member answers; judged by `watch_checks`."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Iterator
from typing import Any

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.chaos.cluster import ChaosCluster
from tests.support.chaos.load import Book, Caller
from tests.support.watch_checks import StreamLog, Truth, WatcherLog, check_resumed

STREAM_SECONDS_MAX = 4.0
"""After that a watch is resumed elsewhere, whether it was well or not."""
PROGRESS_SECONDS = 0.2
PAUSE_SECONDS = 0.05


class Watching(threading.Thread):
    """One watch over its whole life, in parts: one per stream."""

    def __init__(
        self,
        caller: Caller,
        wanted: rpc.WatchCreateRequest,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name=caller.name, daemon=True)
        self.parts: list[WatcherLog] = []
        self.faults: list[str] = []
        self.served_by: list[str] = []
        self._caller = caller
        self._wanted = wanted
        self._stopping = stopping
        self._first_revision = int(wanted.start_revision)

    @property
    def seen(self) -> int:
        """Everything up to this revision has been shown."""
        shown = [max(part.last_revision, part.bookmark) for part in self.parts]
        # A part that was only created has shown nothing.
        return max([self._first_revision - 1, *shown])

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._once()
                self._stopping.wait(PAUSE_SECONDS)
        finally:
            self._caller.close()

    def _once(self) -> None:
        request = rpc.WatchCreateRequest()
        request.CopyFrom(self._wanted)
        request.start_revision = self.seen + 1
        log = StreamLog()
        log.asked(request)
        known = len(self.parts)
        ended = threading.Event()
        seconds = STREAM_SECONDS_MAX * self._caller.dice.uniform(0.2, 1)
        stub, member = services.WatchStub(self._caller.channel()), self._caller.member
        if member.is_etcd:
            # Before 3.5.8 it answers with a revision whose events it has not shown yet (W11).
            ended.set()
        stream: Any = stub.Watch(self._requests(request, ended), timeout=seconds)
        try:
            for response in stream:
                log.add(response)
                self.parts[known:] = log.watchers
                if self._stopping.is_set():
                    break
        except grpc.RpcError:
            pass
        finally:
            ended.set()
            stream.cancel()
        self._caller.move_on()
        self.served_by.extend(f"{member.label} from {request.start_revision}" for _ in log.watchers)
        self.faults.extend(log.faults)
        self.faults.extend(f"refused: {reason}" for reason in log.refusals)

    def _requests(
        self, request: rpc.WatchCreateRequest, ended: threading.Event
    ) -> Iterator[rpc.WatchRequest]:
        """Runs in a thread of gRPC's. Progress is asked for again and again (W11)."""
        yield rpc.WatchRequest(create_request=request)
        while not ended.wait(PROGRESS_SECONDS):
            yield rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())

    def check(self, truth: Truth, last: int) -> list[str]:
        if not self.parts:
            return [*self.faults, f"{self.name} was never served"]
        faults = [*self.faults, *check_resumed(self.parts, truth, last)]
        return [f"{fault}; served by {', '.join(self.served_by)}" for fault in faults]


def start_watches(
    cluster: ChaosCluster, book: Book, seed: int, first: int, stopping: threading.Event
) -> list[Watching]:
    """Of everything, of a range without puts, and of one key: from revision `first` on."""
    create = rpc.WatchCreateRequest
    wanted = [
        create(key=b"\0", range_end=b"\0", prev_kv=True, start_revision=first),
        create(key=b"k", range_end=b"k06", start_revision=first, filters=[create.NOPUT]),
        create(key=b"k03", prev_kv=True, start_revision=first, progress_notify=True),
    ]
    watches = []
    for number, request in enumerate(wanted):
        dice = random.Random(seed * 100 + 50 + number)
        caller = Caller(f"w{number}.{seed}", cluster, book, dice)
        watches.append(Watching(caller, request, stopping))
        watches[-1].start()
    return watches


def read_log(channel: grpc.Channel, first: int, last: int, seconds: float) -> WatcherLog:
    """Everything from `first` to `last`, as one member has it. Raises grpc.RpcError."""
    request = rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", prev_kv=True, start_revision=first)
    log = StreamLog()
    log.asked(request)
    requests: queue.SimpleQueue[rpc.WatchRequest | None] = queue.SimpleQueue()
    requests.put(rpc.WatchRequest(create_request=request))
    stream: Any = services.WatchStub(channel).Watch(iter(requests.get, None), timeout=seconds)
    try:
        for response in stream:
            log.add(response)
            if log.watchers and log.watchers[0].last_revision >= last:
                break
    finally:
        requests.put(None)
        stream.cancel()
    whole = log.watchers[0]
    # A lease may have ended since.
    whole.events = [event for event in whole.events if event.kv.mod_revision <= last]
    whole.last_revision = min(whole.last_revision, last)
    return whole
