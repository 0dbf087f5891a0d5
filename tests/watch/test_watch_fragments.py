"""Fragmentation (spec/watch.md D6, D7)."""

from __future__ import annotations

import pytest

from kvserver.watch.messages import fragments
from tests.watch.conftest import Bench

F = 624_288


def test_pieces_of_a_replay() -> None:  # case 19
    bench = Bench(fragment_bytes=F)
    for number in range(32):
        bench.put(b"key%02d" % number, value=b"x" * 40_000)
    bench.create(b"key", b"kez", start_revision=1, fragment=True)
    _, *pieces = bench.take()
    assert [len(r.events) for r in pieces] == [15, 15, 2]
    assert [r.fragment for r in pieces] == [True, True, False]
    assert {(r.watch_id, r.header.revision) for r in pieces} == {(0, 33)}
    assert all(r.ByteSize() < F for r in pieces)
    assert [e.kv.mod_revision for r in pieces for e in r.events] == list(range(2, 34))


def test_whole_without_the_wish() -> None:  # D7
    bench = Bench(fragment_bytes=1000)
    bench.create(b"a", b"b")
    bench.create(b"a", b"b", fragment=True)
    bench.take()
    bench.put(*(b"a%d" % i for i in range(5)), value=b"x" * 400)
    got = [(r.watch_id, len(r.events), r.fragment) for r in bench.take()]
    assert got == [(0, 5, False), (1, 2, True), (1, 2, True), (1, 1, False)]


def test_one_event_is_never_split() -> None:  # D6
    bench = Bench(fragment_bytes=100)
    bench.create(b"a", fragment=True)
    bench.take()
    bench.put(b"a", value=b"x" * 400)
    assert [(len(r.events), r.fragment) for r in bench.take()] == [(1, False)]


@pytest.mark.parametrize("limit", range(60, 140))
def test_exactly_at_the_limit(limit: int) -> None:  # D6: split when size >= F
    bench = Bench(fragment_bytes=limit)
    bench.create(b"a", b"b", fragment=True)
    bench.take()
    bench.put(b"a1", b"a2", value=b"x" * 20)
    responses = bench.take()
    whole = responses[0].ByteSize()
    if len(responses) == 1:
        assert whole < limit and not responses[0].fragment
    else:
        assert [len(r.events) for r in responses] == [1, 1]
        first, second = responses
        assert first.fragment and not second.fragment
        joined = first.ByteSize() - 2 + sum(e.ByteSize() + 2 for e in second.events)
        assert joined >= limit


def test_a_piece_holds_at_least_one_event() -> None:
    assert fragments(b"h", [b"e" * 50, b"f" * 50], 10) == [
        b"h\x38\x01" + b"e" * 50,
        b"h" + b"f" * 50,
    ]


@pytest.mark.parametrize("limit", range(20, 40))
def test_pieces_are_as_full_as_they_may_be(limit: int) -> None:  # D6: below F, never at it
    entries = [b"e" * 5] * 12
    pieces = fragments(b"head", entries, limit)
    sizes = [len(piece) for piece in pieces[:-1]]
    assert len(set(sizes)) <= 1
    assert all(limit - 5 <= size < limit for size in sizes)
    assert sum(piece.count(b"e" * 5) for piece in pieces) == 12


def test_slow_sink_with_large_responses() -> None:  # D1
    bench = Bench(fragment_bytes=1000)
    bench.create(b"a", b"b", fragment=True)
    bench.take()
    bench.sink.room = 0
    bench.put(*(b"a%d" % i for i in range(5)), value=b"x" * 400)
    assert bench.take() == []
    bench.sink.room = 1
    bench.stream.resume()
    assert [(len(r.events), r.fragment) for r in bench.take()] == [
        (2, True),
        (2, True),
        (1, False),
    ]
