"""Clients that watch, lose their streams, and go on where they were."""

from __future__ import annotations

import random
from collections.abc import Callable

from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.calls import StreamPipe
from tests.support.sim.loop import SimLoop
from tests.support.sim.network import Fabric
from tests.support.sim.world import World
from tests.support.watch_checks import StreamLog, Truth

WATCH = "/etcdserverpb.Watch/Watch"


class Watching:
    """One watcher of one client, over as many streams as it takes."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        targets: Callable[[], list[str]],
        compacted: Callable[[], int],
    ) -> None:
        """`compacted()` is the compact revision, for watchers that look back as far as they may."""
        self.world = world
        self.fabric = fabric
        self.loop = loop
        self.name = name
        self.rng: random.Random = world.chance(name)
        self.is_stopped = False
        self.sessions: list[StreamLog] = []
        """One per stream. Each watcher goes on right after what the one before has seen."""
        self.events = 0
        self._targets = targets
        self._compacted = compacted
        self._pipe: StreamPipe | None = None
        self._template = self._choose()
        self._start = 0
        self._is_settled = False

    def _choose(self) -> rpc.WatchCreateRequest:
        rng = self.rng
        key, end = rng.choice(((b"k", b"l"), (b"\x00", b"\x00"), (b"k0", b""), (b"k1", b"k4")))
        request = rpc.WatchCreateRequest(
            key=key,
            range_end=end,
            prev_kv=rng.random() < 0.4,
            progress_notify=rng.random() < 0.6,
            fragment=rng.random() < 0.2,
        )
        if rng.random() < 0.2:
            request.filters.append(rng.choice((0, 1)))
        return request

    def open(self) -> None:
        """A stream at some member, and the watcher on it."""
        if self.is_stopped:
            return
        request = rpc.WatchCreateRequest()
        request.CopyFrom(self._template)
        if self.rng.random() < 0.15 and not self._is_settled:
            self._start = max(1, self._compacted())
        request.start_revision = self._start
        log = StreamLog()
        log.asked(request)
        self.sessions.append(log)
        target = self.rng.choice(self._targets())
        self.world.trace(self.name, f"watches at {target} from {self._start}")
        is_slow = self.rng.random() < 0.15 and not self._is_settled
        slow = self.rng.uniform(0.05, 0.4) if is_slow else 0.0

        def take(body: bytes) -> None:
            self._take(log, rpc.WatchResponse.FromString(body))

        def broken(reason: str) -> None:
            self.world.trace(self.name, f"stream broke: {reason}")
            self._resume()

        self._pipe = StreamPipe(
            self.fabric, self.loop, self.name, target, WATCH, take, broken, slow
        )
        self._pipe.send(rpc.WatchRequest(create_request=request).SerializeToString())
        self.loop.call_later(self.rng.expovariate(1 / 12), self._leave, self._pipe)
        if self.rng.random() < 0.4:  # while the watcher may not have caught up
            self._ask_progress(self._pipe)
        else:
            self.loop.call_later(self.rng.expovariate(1 / 3), self._ask_progress, self._pipe)

    def _take(self, log: StreamLog, response: rpc.WatchResponse) -> None:
        count = len(log.watchers)
        log.add(response)
        self.events += len(response.events)
        if len(log.watchers) > count:
            self._start = self._start or response.header.revision + 1  # from now on (W5)
        if response.canceled and response.compact_revision and self._pipe is not None:
            self._start = response.compact_revision
            self._pipe.close()
            self.loop.call_later(0.05, self.open)
        elif log.watchers:
            watcher = log.watchers[-1]
            self._start = max(self._start, watcher.last_revision + 1, watcher.bookmark + 1)

    def _ask_progress(self, pipe: StreamPipe) -> None:
        if not pipe.is_broken and not self.is_stopped:
            progress = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
            pipe.send(progress.SerializeToString())
            self.loop.call_later(self.rng.expovariate(1 / 3), self._ask_progress, pipe)

    def _leave(self, pipe: StreamPipe) -> None:
        """Now and then a client moves on by itself."""
        if pipe is self._pipe and not pipe.is_broken and not self._is_settled:
            pipe.close()
            self._resume()

    def _resume(self) -> None:
        self.loop.call_later(self.rng.uniform(0.05, 0.5), self.open)

    def settle(self) -> None:
        """Stay and read at once from now on: the end of the run wants whole streams."""
        self._is_settled = True
        if self._pipe is not None:
            self._pipe.read_seconds = 0.0

    @property
    def is_open(self) -> bool:
        return self._pipe is not None and not self._pipe.is_broken

    def faults(self, truth: Truth, compacted: int, complete_to: int) -> list[str]:
        faults: list[str] = []
        for number, log in enumerate(self.sessions):
            is_last = number == len(self.sessions) - 1 and self.is_open
            faults += log.check(truth, compacted, complete_to if is_last else None)
        return [f"{self.name}: {fault}" for fault in faults]
