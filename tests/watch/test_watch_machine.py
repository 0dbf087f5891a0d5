"""Random writes, compactions, watches and slow streams against the watch guarantees."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvserver.proto import rpc_pb2
from kvserver.watch import Hub, hub
from tests.support.watch_checks import StreamLog
from tests.watch.fakes import FakeHistory, FakeSink, encode_header

KEYS = [b"a", b"ab", b"b", b"ba", b"c"]
keys = st.sampled_from(KEYS)
ends = st.sampled_from([b"", b"", b"\x00", b"b", b"c", b"ac"])
streams = st.integers(0, 2)
values = st.one_of(st.none(), st.binary(max_size=30))


class WatchMachine(RuleBasedStateMachine):
    """Three streams with small sinks over one history."""

    @initialize(work=st.sampled_from([1, 5, 3000]), fragment_bytes=st.sampled_from([80, 2_000_000]))
    def begin(self, work: int, fragment_bytes: int) -> None:
        self.work = work
        self.history = FakeHistory()
        self.hub = Hub(self.history, encode_header, fragment_bytes)
        self.sinks = [FakeSink(room) for room in (2, 5, 1000)]
        self.streams = [self.hub.open_stream(sink) for sink in self.sinks]
        self.logs = [StreamLog() for _ in self.sinks]
        self.done: list[StreamLog] = []

    @rule(changes=st.lists(st.tuples(keys, values), min_size=1, max_size=3))
    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        live = set(self.history.keys())
        kept = []
        for key, value in changes:  # a delete of a missing key is no change
            if value is not None:
                live.add(key)
            elif key in live:
                live.remove(key)
            else:
                continue
            kept.append((key, value))
        if kept:
            events = self.history.commit(*kept)
            self.hub.notify(self.history.revision, events)

    @rule(number=st.integers(0, 30))
    def write_many(self, number: int) -> None:
        for count in range(number):
            events = self.history.commit((KEYS[count % 5], b"%d" % count))
            self.hub.notify(self.history.revision, events)

    @rule(back=st.integers(0, 20))
    def compact(self, back: int) -> None:
        revision = self.history.revision - back
        if revision > max(self.history.compact_revision, 1):
            self.history.compact(revision)

    @rule(
        stream=streams,
        key=keys,
        end=ends,
        back=st.one_of(st.none(), st.integers(-3, 25)),
        watch_id=st.sampled_from([0, 0, 1, 7, -4]),
        flags=st.integers(0, 15),
    )
    def create(
        self, stream: int, key: bytes, end: bytes, back: int | None, watch_id: int, flags: int
    ) -> None:
        start = 0 if back is None else max(self.history.revision - back, 1)
        request = rpc_pb2.WatchCreateRequest(
            key=key,
            range_end=end,
            start_revision=start,
            watch_id=watch_id,
            prev_kv=bool(flags & 1),
            fragment=bool(flags & 2),
            progress_notify=bool(flags & 4),
            filters=[flags & 1] if flags & 8 else [],
        )
        self.logs[stream].asked(request)
        self.streams[stream].request(rpc_pb2.WatchRequest(create_request=request))

    @rule(stream=streams, watch_id=st.sampled_from([0, 1, 2, 3, 7, -4]))
    def cancel(self, stream: int, watch_id: int) -> None:
        request = rpc_pb2.WatchCancelRequest(watch_id=watch_id)
        self.streams[stream].request(rpc_pb2.WatchRequest(cancel_request=request))

    @rule(stream=streams)
    def ask_progress(self, stream: int) -> None:
        request = rpc_pb2.WatchProgressRequest()
        self.streams[stream].request(rpc_pb2.WatchRequest(progress_request=request))

    @rule(stream=streams)
    def tick(self, stream: int) -> None:
        self.streams[stream].progress_tick()

    @rule()
    def step(self) -> None:
        before, hub.STEP_WORK_MAX = hub.STEP_WORK_MAX, self.work
        try:
            self.hub.step()
        finally:
            hub.STEP_WORK_MAX = before

    @rule(stream=streams, count=st.integers(1, 8))
    def read(self, stream: int, count: int) -> None:
        for response in self.sinks[stream].read(count):
            self.logs[stream].add(response)
        if self.sinks[stream].writable:
            self.streams[stream].resume()

    @rule(count=st.integers(1, 5))
    def install_snapshot(self, count: int) -> None:
        for number in range(count):
            self.history.commit((KEYS[number], b"installed"))
        self.hub.history_replaced()

    @rule(stream=streams)
    def reconnect(self, stream: int) -> None:
        self.streams[stream].close()
        for response in self.sinks[stream].read():
            self.logs[stream].add(response)
        self.done.append(self.logs[stream])
        self.logs[stream] = StreamLog()
        self.streams[stream] = self.hub.open_stream(self.sinks[stream])

    @invariant()
    def queues_are_bounded(self) -> None:
        """Beside answers to requests and ticks, a full sink is sent nothing (D1)."""
        for stream in getattr(self, "streams", []):
            assert stream.behind >= len(stream.parked)

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        for _ in range(3):
            for number, sink in enumerate(self.sinks):
                sink.room = 1_000_000
                self.streams[number].resume()
            while self.hub.step():
                pass
        for number in range(3):
            self.read(number, 0)
        self.check()

    def check(self) -> None:
        history = self.history
        compacted = history.compact_revision
        for log in self.logs:
            assert log.check(history.truth, compacted, history.revision) == []
        for log in self.done:
            assert log.check(history.truth, compacted) == []


WatchMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, derandomize=True
)
TestWatchMachine = WatchMachine.TestCase
