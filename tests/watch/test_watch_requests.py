"""Create, cancel and ids (spec/watch.md §1, §9)."""

from __future__ import annotations

from kvserver.proto import rpc_pb2
from kvserver.watch import Hub
from kvserver.watch.watcher import Sink
from tests.watch.conftest import Bench
from tests.watch.fakes import FakeHistory, FakeSink, encode_header

EMPTY = "mvcc: watcher range is empty"
DUPLICATE = "mvcc: duplicate watch ID provided on the WatchStream"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"


def refusal(response: rpc_pb2.WatchResponse) -> tuple[bool, bool, int, str, int]:
    return (
        response.created,
        response.canceled,
        response.watch_id,
        response.cancel_reason,
        response.header.revision,
    )


def test_created_carries_id_and_current_revision(at_six: Bench) -> None:  # case 1, W4, W6
    at_six.create(b"k0")
    (created,) = at_six.take()
    assert created.created and not created.canceled and not created.events
    assert (created.watch_id, created.header.revision) == (0, 6)
    assert (created.header.cluster_id, created.header.member_id) == (7, 9)
    assert created.header.raft_term == 3


def test_replay_from_start(at_six: Bench) -> None:  # case 2
    at_six.create(b"k0")
    at_six.create(b"k", b"l", start_revision=2)
    _, created, replay = at_six.take()
    assert created.created and (created.watch_id, created.header.revision) == (1, 6)
    assert (replay.watch_id, replay.header.revision) == (1, 6)
    assert [e.kv.mod_revision for e in replay.events] == [2, 3, 4, 5, 6]


def test_empty_key_watches_the_smallest_key_only(bench: Bench) -> None:  # case 3, W1
    bench.create(b"")
    bench.put(b"\x00")
    bench.put(b"\x00\x00")
    bench.put(b"a")
    assert bench.taken() == [(0, 1, []), (0, 2, [b"\x00"])]


def test_empty_key_with_open_end_watches_everything(bench: Bench) -> None:  # W1
    bench.create(b"", b"\x00")
    bench.put(b"\x00")
    bench.put(b"zz")
    assert [keys for _, _, keys in bench.taken()] == [[], [b"\x00"], [b"zz"]]


def test_empty_range_is_refused_and_takes_no_id(at_six: Bench) -> None:  # case 4, W2
    at_six.create(b"k", b"k")
    at_six.create(b"z", b"k")
    at_six.create(b"k0")
    first, second, third = at_six.take()
    assert refusal(first) == refusal(second) == (True, True, -1, EMPTY, 6)
    assert third.created and third.watch_id == 0


def test_duplicate_id_is_refused(bench: Bench) -> None:  # case 5
    bench.create(b"a", watch_id=100)
    bench.create(b"a", watch_id=100)
    created, refused = bench.take()
    assert created.created and created.watch_id == 100
    assert refusal(refused) == (True, True, -1, DUPLICATE, 1)


def test_explicit_ids_do_not_move_the_counter(bench: Bench) -> None:  # case 6, W3
    for _ in range(4):
        bench.create(b"a")
    bench.create(b"a", watch_id=4)
    bench.create(b"a")
    assert [r.watch_id for r in bench.take()] == [0, 1, 2, 3, 4, 5]


def test_cancel_and_reuse(at_six: Bench) -> None:  # case 7, W9
    at_six.create(b"k0", watch_id=100)
    at_six.take()
    at_six.cancel(100)
    at_six.cancel(100)
    at_six.cancel(999)
    at_six.create(b"k0", watch_id=100)
    canceled, created = at_six.take()
    assert canceled.canceled and not canceled.created and canceled.cancel_reason == ""
    assert (canceled.watch_id, canceled.header.revision) == (100, 6)
    assert canceled.compact_revision == 0
    assert created.created and created.watch_id == 100


def test_cancelled_watcher_hears_nothing_more(bench: Bench) -> None:  # W9
    bench.create(b"a")
    bench.create(b"a", watch_id=5)
    bench.take()
    bench.cancel(0)
    bench.put(b"a")
    assert bench.taken() == [(0, 1, []), (5, 2, [b"a"])]


def test_future_start(at_six: Bench) -> None:  # case 8, W5
    at_six.create(b"k", b"l", start_revision=20)
    for _ in range(15):
        at_six.put(b"k0")
    created, *events = at_six.take()
    assert created.header.revision == 6
    assert [r.events[0].kv.mod_revision for r in events] == [20, 21]


def test_start_at_the_next_revision(at_six: Bench) -> None:  # case 38
    at_six.create(b"k0", start_revision=7)
    at_six.put(b"k0")
    assert at_six.taken() == [(0, 6, []), (0, 7, [b"k0"])]


def test_start_at_the_current_revision_replays_it(at_six: Bench) -> None:  # W5
    at_six.create(b"k4", start_revision=6)
    assert at_six.taken() == [(0, 6, []), (0, 6, [b"k4"])]


def test_cancelled_future_watcher_never_wakes(bench: Bench) -> None:
    bench.create(b"a", start_revision=3)
    bench.cancel(0)
    bench.take()
    bench.put(b"a")
    bench.put(b"a")
    assert bench.take() == []


def test_negative_start_is_refused(at_six: Bench) -> None:  # case 18, W2
    at_six.create(b"k0", start_revision=-1)
    (refused,) = at_six.take()
    assert refusal(refused) == (True, True, -1, COMPACTED, 6)
    assert refused.compact_revision == 0


def test_empty_request_is_ignored(bench: Bench) -> None:  # case 29
    bench.stream.request(rpc_pb2.WatchRequest())
    bench.create(b"a")
    assert [r.created for r in bench.take()] == [True]


def test_five_creates_at_once(bench: Bench) -> None:  # case 39
    for _ in range(5):
        bench.create(b"a")
    assert [(r.created, r.watch_id) for r in bench.take()] == [(True, i) for i in range(5)]


def test_negative_explicit_id(bench: Bench) -> None:  # case 40
    bench.create(b"a", watch_id=-5)
    bench.put(b"a")
    created, event = bench.take()
    assert created.watch_id == event.watch_id == -5
    assert event.events[0].kv.key == b"a"


def test_checks_come_in_order() -> None:  # W2, §6
    asked = []

    def authorize(key: bytes, end: bytes) -> str | None:
        asked.append((key, end))
        return "no"

    hub = Hub(FakeHistory(), encode_header)
    sink = FakeSink()
    stream = hub.open_stream(sink, authorize)
    for fields in (
        {"key": b"z", "range_end": b"a", "start_revision": -1},
        {"key": b"z", "range_end": b"a"},
        {"range_end": b"\x00"},
    ):
        request = rpc_pb2.WatchCreateRequest(**fields)  # type: ignore[arg-type]
        stream.request(rpc_pb2.WatchRequest(create_request=request))
    assert [r.cancel_reason for r in sink.read()] == [COMPACTED, "no", "no"]
    assert asked == [(b"z", b"a"), (b"\x00", b"\x00")]


def test_streams_have_their_own_ids_and_end_alone(bench: Bench) -> None:  # W3, W14
    sink = FakeSink()
    other = bench.hub.open_stream(sink)
    request = rpc_pb2.WatchCreateRequest(key=b"a")
    other.request(rpc_pb2.WatchRequest(create_request=request))
    bench.create(b"a")
    bench.create(b"a", start_revision=90)
    assert bench.hub.watcher_count == 3
    bench.stream.close()
    assert bench.hub.watcher_count == 1
    bench.sink.read()
    bench.put(b"a")
    assert bench.take() == []
    assert [r.watch_id for r in sink.read()] == [0, 0]


def test_the_fake_sink_is_a_sink() -> None:
    sink: Sink = FakeSink(room=1)
    sink.send(b"")
    assert not sink.writable
