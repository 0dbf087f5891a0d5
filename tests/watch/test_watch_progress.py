"""Progress, on request and by ticks (spec/watch.md W11, W12, §5)."""

from __future__ import annotations

from tests.watch.conftest import Bench


def test_request_answered_when_all_are_live(at_six: Bench) -> None:  # case 25
    at_six.create(b"k0")
    at_six.create(b"k", b"l")
    at_six.take()
    at_six.progress()
    assert at_six.taken() == [(-1, 6, [])]


def test_request_during_replay_is_not_answered(at_six: Bench) -> None:  # case 26
    at_six.create(b"k0")
    at_six.create(b"k", b"l", start_revision=2)
    at_six.progress()
    assert [r.watch_id for r in at_six.take()] == [0, 1, 1]
    at_six.progress()
    assert at_six.taken() == [(-1, 6, [])]


def test_request_without_watchers_is_not_answered(bench: Bench) -> None:  # case 27
    bench.progress()
    bench.create(b"a")
    bench.cancel(0)
    bench.progress()
    assert not any(r.watch_id == -1 for r in bench.take())


def test_request_with_a_future_watcher_is_not_answered(bench: Bench) -> None:  # W11
    bench.create(b"a")
    bench.create(b"b", start_revision=2)
    bench.take()
    bench.progress()
    assert bench.take() == []
    bench.put(b"x")
    bench.progress()
    assert bench.taken() == [(-1, 2, [])]


def test_request_with_a_parked_watcher_is_not_answered(bench: Bench) -> None:  # W11, W12
    bench.create(b"a")
    bench.create(b"b")
    bench.take()
    bench.sink.room = 0
    bench.put(b"a")
    bench.sink.room = 10
    bench.progress()
    assert bench.take() == []


def test_a_compacted_watcher_does_not_silence_the_stream(bench: Bench) -> None:  # W11
    bench.put(b"a")
    bench.put(b"a")
    bench.history.compact(3)
    bench.create(b"a", start_revision=1)
    bench.progress()
    bench.create(b"a")
    bench.take()
    bench.progress()
    assert bench.taken() == [(-1, 3, [])]


def test_tick_when_idle(bench: Bench) -> None:  # cases 22, 24, G2, G3
    bench.create(b"a", progress_notify=True)
    bench.take()
    bench.stream.progress_tick()
    bench.put(b"unrelated")
    bench.stream.progress_tick()
    assert bench.taken() == [(0, 1, []), (0, 2, [])]


def test_tick_is_skipped_once_after_events(bench: Bench) -> None:  # case 23, G2, G3
    bench.create(b"a", progress_notify=True)
    bench.create(b"b", progress_notify=True)
    bench.create(b"b")
    bench.put(b"a")
    bench.take()
    bench.stream.progress_tick()
    assert bench.taken() == [(1, 2, [])]
    bench.stream.progress_tick()
    assert bench.taken() == [(0, 2, []), (1, 2, [])]


def test_tick_skips_watchers_behind_or_ahead(bench: Bench) -> None:  # G2, G4
    bench.put(b"a")
    bench.create(b"a", progress_notify=True, start_revision=1)
    bench.create(b"a", progress_notify=True, start_revision=99)
    bench.stream.progress_tick()
    responses = bench.take()
    assert [(r.watch_id, len(r.events)) for r in responses] == [(0, 0), (1, 0), (0, 1)]


def test_tick_skips_a_full_sink(bench: Bench) -> None:  # G4
    bench.create(b"a", progress_notify=True)
    bench.take()
    bench.sink.room = 0
    bench.stream.progress_tick()
    assert bench.take() == []
