"""Replay, slow streams, compaction, snapshot install (spec/watch.md §2 V5, §4, M4)."""

from __future__ import annotations

import pytest

from kvserver.proto import rpc_pb2
from kvserver.watch import catch_up, hub
from kvserver.watch import slice as slice_module
from tests.watch.conftest import Bench
from tests.watch.fakes import FakeSink


def revisions(responses: list[rpc_pb2.WatchResponse]) -> list[int]:
    return [e.kv.mod_revision for r in responses for e in r.events]


def test_batches_of_a_thousand_revisions(bench: Bench) -> None:  # case 20, V5
    for _ in range(2500):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    _, *batches = bench.take()
    assert [len(r.events) for r in batches] == [1000, 1000, 500]
    assert {r.header.revision for r in batches} == {2501}
    assert revisions(batches) == list(range(2, 2502))


def test_batches_never_split_a_revision(bench: Bench) -> None:  # case 21
    for _ in range(1100):
        bench.put(b"a", b"b", b"c")
    bench.create(b"", b"\x00", start_revision=1)
    _, *batches = bench.take()
    assert [len(r.events) for r in batches] == [3000, 300]


def test_step_does_a_bounded_amount_of_work(bench: Bench) -> None:  # design D6
    for _ in range(5000):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    steps = 1
    while bench.hub.step():
        steps += 1
    assert steps >= 5000 // catch_up.STEP_WORK_MAX
    assert not bench.hub.has_work
    assert revisions(bench.take()) == list(range(2, 5002))


def test_batches_count_the_revisions_of_the_interval(bench: Bench) -> None:  # V5
    for number in range(3000):
        bench.put(b"a" if number % 2 else b"b")
    bench.create(b"a", start_revision=1)
    bench.create(b"b", b"c", start_revision=1, filters=[rpc_pb2.WatchCreateRequest.NODELETE])
    responses = bench.take()
    for watch_id in (0, 1):
        mine = [r for r in responses if r.watch_id == watch_id]
        assert [len(r.events) for r in mine] == [0, 1000, 500]


def test_history_longer_than_a_slice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_module, "SLICE_REVISIONS_MAX", 1500)
    for _ in range(4000):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    _, *batches = bench.take()
    assert [len(r.events) for r in batches] == [1000, 500, 1000, 500, 1000]
    assert revisions(batches) == list(range(2, 4002))


def test_long_records_end_a_slice_early(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_module, "SLICE_BYTES_MAX", 25_000)
    for _ in range(600):
        bench.put(b"a", value=b"x" * 100)
    bench.create(b"a", start_revision=1)
    _, *batches = bench.take()
    assert [len(r.events) for r in batches] == [258, 258, 84]


def test_a_slow_reader_does_not_make_history_be_read_again(bench: Bench) -> None:
    for _ in range(4000):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    bench.sink.room = 1
    seen: list[int] = []
    for _ in range(6):
        seen += revisions(bench.take())
        bench.stream.resume()
    assert seen == list(range(2, 4002))
    assert sum(bench.history.asked) < 4600


def test_long_records_are_read_a_few_at_a_time(bench: Bench) -> None:  # design D6
    for _ in range(60):
        bench.put(b"a", value=b"x" * 100_000)
    bench.create(b"a", start_revision=1)
    _, whole = bench.take()
    assert len(whole.events) == 60, "read in parts, sent as one"
    assert max(bench.history.asked[1:]) <= 8
    assert bench.history.asked[-1] == 5


def test_one_reading_serves_many(bench: Bench) -> None:  # design D7
    for _ in range(500):
        bench.put(b"a", b"b")
    for number in range(300):
        bench.create((b"a", b"b", b"c")[number % 3], start_revision=1)
    bench.create(b"a", b"c", start_revision=100)
    bench.history.asked.clear()
    responses = bench.take()
    assert len(bench.history.asked) <= 6
    assert sum(len(r.events) for r in responses) == 200 * 500 + 2 * 402


def test_header_is_of_the_time_of_sending(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:  # V5, also when watchers share what was encoded
    monkeypatch.setattr(hub, "STEP_WORK_MAX", 1)
    for _ in range(10):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    bench.create(b"a", start_revision=1)
    bench.sink.read()
    while len(bench.sink.queue) < 1:
        bench.hub.step()
    bench.put(b"b")
    first, second = bench.take()
    assert (first.header.revision, second.header.revision) == (11, 12)
    assert first.events == second.events


@pytest.mark.parametrize("work", [1, 600, 3000])
def test_writes_during_replay_follow_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, work: int
) -> None:  # V8: also between reading a slice and sending it
    monkeypatch.setattr(hub, "STEP_WORK_MAX", work)
    for _ in range(1500):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    for _ in range(60):
        bench.hub.step()
        bench.put(b"a")
    bench.settle()
    bench.put(b"a")
    seen = revisions(bench.take())
    assert seen == list(range(2, bench.history.revision + 1))


def test_nobody_starves_behind_new_replays(bench: Bench) -> None:
    for _ in range(2000):
        bench.put(b"a")
    bench.create(b"a", start_revision=1, watch_id=7)
    for _ in range(40):  # newcomers from the beginning, all the time
        bench.create(b"a", start_revision=1)
        bench.hub.step()
    assert revisions([r for r in bench.sink.read() if r.watch_id == 7])[-1] == 2001


def test_slow_stream_falls_back_to_the_store(bench: Bench) -> None:  # D1
    bench.create(b"a")
    bench.take()
    bench.sink.room = 2
    for _ in range(50):
        bench.put(b"a")
    assert len(bench.sink.queue) == 2
    assert bench.hub.slow_watcher_count == 1
    assert not bench.hub.has_work, "a parked watcher waits for its sink"
    first = bench.take()
    bench.stream.resume()
    rest = bench.take()
    assert revisions(first + rest) == list(range(2, 52))
    assert bench.hub.slow_watcher_count == 0
    bench.put(b"a")
    assert revisions(bench.take()) == [52]


def test_slow_stream_does_not_hold_up_others(bench: Bench) -> None:  # D2
    bench.create(b"a")
    fast = FakeSink()
    other = bench.hub.open_stream(fast)
    request = rpc_pb2.WatchCreateRequest(key=b"a")
    other.request(rpc_pb2.WatchRequest(create_request=request))
    bench.sink.room = 0
    for _ in range(20):
        bench.put(b"a")
    assert revisions(fast.read()) == list(range(2, 22))


def test_sink_that_fills_during_replay(bench: Bench) -> None:  # D1
    for _ in range(3500):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    bench.sink.room = 2
    seen: list[int] = []
    for _ in range(10):
        bench.settle()
        assert len(bench.sink.queue) <= 2
        seen += revisions(bench.sink.read())
        bench.stream.resume()
    assert seen == list(range(2, 3502))


def test_parked_watcher_can_be_cancelled(bench: Bench) -> None:
    bench.create(b"a")
    bench.sink.room = 1
    bench.put(b"a")
    bench.cancel(0)
    bench.stream.resume()
    created, canceled = bench.take()
    assert created.created and canceled.canceled
    assert bench.hub.slow_watcher_count == 0


def test_start_at_compact_revision_is_allowed(bench: Bench) -> None:  # case 14, W5, N2
    for key in (b"h", b"h", b"h"):
        bench.put(key)
    bench.commit((b"h", None))
    bench.history.compact(3)
    bench.create(b"h", start_revision=3, prev_kv=True)
    _, replay = bench.take()
    at_compact, after, deleted = replay.events
    assert [e.kv.mod_revision for e in replay.events] == [3, 4, 5]
    assert not at_compact.HasField("prev_kv")
    assert after.prev_kv.mod_revision == 3
    assert deleted.prev_kv.mod_revision == 4


def test_start_before_compact_revision(bench: Bench) -> None:  # case 15, D3, W5
    for _ in range(15):
        bench.put(b"h")
    bench.history.compact(14)
    bench.create(b"h", start_revision=13)
    bench.create(b"h", start_revision=1)
    for _ in range(2):
        created, canceled = bench.sink.read(2)
        assert created.created and created.header.revision == 16
        assert canceled.canceled and not canceled.created and not canceled.events
        assert canceled.watch_id == created.watch_id
        assert canceled.compact_revision == 14 and canceled.cancel_reason == ""
        header = canceled.header
        assert (header.revision, header.cluster_id, header.raft_term) == (0, 7, 3)
    bench.put(b"h")
    assert bench.take() == []


def test_cancel_after_compaction_cancel(bench: Bench) -> None:  # case 16, W10
    bench.put(b"h")
    bench.put(b"h")
    bench.history.compact(3)
    bench.create(b"h", start_revision=2, watch_id=8)
    bench.create(b"h", watch_id=8)
    bench.cancel(8)
    _, compacted, duplicate, canceled = bench.take()
    assert compacted.compact_revision == 3
    assert duplicate.cancel_reason.startswith("mvcc: duplicate watch ID")
    assert canceled.canceled and canceled.header.revision == 3
    assert canceled.compact_revision == 0


def test_tombstone_at_the_compact_revision_is_seen(bench: Bench) -> None:  # case 17, D5
    bench.put(b"h")
    bench.commit((b"h", None))
    bench.history.compact(3)
    bench.create(b"h", start_revision=3)
    assert bench.taken() == [(0, 3, []), (0, 3, [b"h"])]


def test_live_watcher_survives_compaction(bench: Bench) -> None:  # D4
    bench.create(b"a")
    bench.put(b"a")
    bench.history.compact(2)
    bench.put(b"a")
    assert revisions(bench.take()) == [2, 3]


def test_compaction_ends_a_parked_watcher(bench: Bench) -> None:  # D1, D3
    bench.create(b"a")
    bench.take()
    bench.sink.room = 1
    for _ in range(5):
        bench.put(b"a")
    bench.history.compact(5)
    assert revisions(bench.take()) == [2]
    bench.stream.resume()
    (canceled,) = bench.take()
    assert canceled.canceled and canceled.compact_revision == 5
    assert canceled.header.revision == 0


def test_compaction_in_the_middle_of_a_replay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:  # D3
    monkeypatch.setattr(hub, "STEP_WORK_MAX", 1)
    for _ in range(3000):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    while not bench.sink.queue or len(bench.sink.queue) < 2:
        bench.hub.step()
    bench.history.compact(2500)
    _, *batches, canceled = bench.take()
    assert canceled.compact_revision == 2500
    assert revisions(batches) == list(range(2, revisions(batches)[-1] + 1))
    assert revisions(batches)[-1] < 2500


@pytest.mark.parametrize("steps", range(12))
def test_compaction_while_a_slice_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:  # D3; the fake history refuses to be asked for what is compacted
    monkeypatch.setattr(hub, "STEP_WORK_MAX", 1)
    for _ in range(900):
        bench.put(b"a")
    bench.create(b"a", start_revision=1)
    bench.create(b"a", start_revision=800)
    for _ in range(steps):
        bench.hub.step()
    bench.history.compact(700)
    responses = bench.take()
    first, second = ([r for r in responses if r.watch_id == i] for i in (0, 1))
    assert revisions(second) == list(range(800, 902))
    assert revisions(first) == list(range(2, 902)) or first[-1].compact_revision == 700


def test_snapshot_install(bench: Bench) -> None:  # M4
    bench.create(b"a")
    bench.create(b"a", start_revision=5)
    bench.create(b"a", start_revision=9)
    bench.create(b"b", b"c", prev_kv=True)
    bench.put(b"a")
    bench.take()
    for key in (b"a", b"b", b"a", b"a"):  # written elsewhere: revisions 3 to 6
        bench.history.commit((key, b"v"))
    bench.hub.history_replaced()
    assert bench.hub.has_work
    got: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for _ in range(4):
        for response in bench.take():
            got[response.watch_id] += revisions([response])
        bench.put(b"a")
    assert got == {0: [3, 5, 6, 7, 8, 9], 1: [5, 6, 7, 8, 9], 2: [9], 3: [4]}


def test_snapshot_install_beyond_a_compaction(bench: Bench) -> None:  # M4
    bench.create(b"a")
    bench.create(b"b", start_revision=20)
    bench.put(b"a")
    bench.take()
    for _ in range(6):
        bench.history.commit((b"a", b"v"))
    bench.history.compact(6)
    bench.hub.history_replaced()
    (canceled,) = bench.take()
    assert (canceled.watch_id, canceled.compact_revision) == (0, 6)
    assert bench.hub.slow_watcher_count == 1, "the future watcher survives"


def test_snapshot_install_without_news(bench: Bench) -> None:
    bench.create(b"a")
    bench.take()
    bench.hub.history_replaced()
    bench.settle()
    bench.put(b"a")
    assert revisions(bench.take()) == [2]
