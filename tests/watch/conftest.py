from __future__ import annotations

import pytest

from kvserver.proto import rpc_pb2
from kvserver.watch import Hub
from tests.watch.fakes import FakeHistory, FakeSink, encode_header


class Bench:
    """A hub over a fake history, and one stream whose answers are read at once."""

    def __init__(self, fragment_bytes: int = 2_097_152) -> None:
        self.history = FakeHistory()
        self.hub = Hub(self.history, encode_header, fragment_bytes)
        self.sink = FakeSink()
        self.stream = self.hub.open_stream(self.sink)

    def put(self, *keys: bytes, value: bytes = b"v", lease: int = 0) -> None:
        self.commit(*((key, value) for key in keys), lease=lease)

    def commit(self, *changes: tuple[bytes, bytes | None], lease: int = 0) -> None:
        events = self.history.commit(*changes, lease=lease)
        self.hub.notify(self.history.revision, events)

    def create(self, key: bytes, end: bytes = b"", **fields: object) -> None:
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=end, **fields)  # type: ignore[arg-type]
        self.stream.request(rpc_pb2.WatchRequest(create_request=request))

    def cancel(self, watch_id: int) -> None:
        request = rpc_pb2.WatchCancelRequest(watch_id=watch_id)
        self.stream.request(rpc_pb2.WatchRequest(cancel_request=request))

    def progress(self) -> None:
        request = rpc_pb2.WatchProgressRequest()
        self.stream.request(rpc_pb2.WatchRequest(progress_request=request))

    def settle(self) -> None:
        """Let lagging watchers catch up."""
        while self.hub.step():
            pass

    def take(self) -> list[rpc_pb2.WatchResponse]:
        """Catch up, and read everything the stream was sent."""
        self.settle()
        return self.sink.read()

    def taken(self) -> list[tuple[int, int, list[bytes]]]:
        """The same as (watch_id, header revision, keys of the events)."""
        return [(r.watch_id, r.header.revision, [e.kv.key for e in r.events]) for r in self.take()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def at_six() -> Bench:
    """The store of the spec's cases: k0..k4 put at revisions 2..6."""
    bench = Bench()
    for number in range(5):
        bench.put(b"k%d" % number)
    return bench
