"""Finding the watchers of a key: the interval tree and the index over it, against a plain scan."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.watch.live import PREFIX_LENGTHS_MAX, LiveIndex, is_prefix_range
from kvserver.watch.ranges import IntervalTree
from kvserver.watch.watcher import NUL, Watcher
from tests.watch.conftest import Bench

KEYS = st.binary(min_size=1, max_size=3).map(lambda b: bytes(c % 4 * 85 for c in b))
ENDS = st.one_of(st.none(), KEYS)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(KEYS, ENDS), unique=True, max_size=30), st.data())
def test_tree_finds_what_a_scan_finds(ranges: list[tuple[bytes, bytes | None]], data) -> None:
    tree: IntervalTree[tuple[bytes, bytes | None]] = IntervalTree()
    for start, end in ranges:
        tree.insert(start, end, (start, end))
    gone = data.draw(st.sets(st.sampled_from(ranges))) if ranges else set()
    for start, end in gone:
        tree.remove(start, end)
    left = [r for r in ranges if r not in gone]
    assert tree.size == len(left)
    for key in data.draw(st.lists(KEYS, min_size=1, max_size=10)):
        found = list(tree.holding(key))
        expected = [(s, e) for s, e in left if s <= key and (e is None or key < e)]
        assert sorted(found, key=repr) == sorted(expected, key=repr)
        assert found == sorted(found, key=lambda r: (r[0], r[1] is None, r[1] or b""))


def test_tree_stays_shallow() -> None:
    tree: IntervalTree[int] = IntervalTree()
    for number in range(20_000):  # deep recursion would raise
        tree.insert(b"%08d" % number, b"%08d" % (number + 2), number)
    assert list(tree.holding(b"00010000")) == [9999, 10_000]
    for number in range(20_000):
        tree.remove(b"%08d" % number, b"%08d" % (number + 2))
    assert tree.size == 0


@pytest.mark.parametrize(
    ("key", "end", "expected"),
    [
        (b"a", b"b", True),
        (b"/registry/", b"/registry0", True),
        (b"a\xff", b"b", True),
        (b"a", b"c", False),
        (b"a", b"b\x00", False),
        (b"a", NUL, False),
        (b"\xff", NUL, False),
        (b"a\x00", b"b", False),
    ],
)
def test_prefix_ranges_are_known(key: bytes, end: bytes, expected: bool) -> None:
    assert is_prefix_range(key, end) is expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.one_of(st.just(b""), st.just(NUL), KEYS)), max_size=30), st.data()
)
def test_index_finds_what_a_scan_finds(wanted: list[tuple[bytes, bytes]], data) -> None:
    index = LiveIndex()
    stream = Bench().stream
    watchers = [Watcher(stream, i, key, end) for i, (key, end) in enumerate(wanted)]
    for watcher in watchers:
        watcher.kind = watcher.id % 3
        index.add(watcher)
    gone = data.draw(st.sets(st.sampled_from(watchers))) if watchers else set()
    for watcher in gone:
        index.remove(watcher)
    left = [w for w in watchers if w not in gone]
    assert index.size == len(left)
    for key in data.draw(st.lists(KEYS, min_size=1, max_size=10)):
        found = [w.id for g in index.find(key) for ws in g.by_kind.values() for w in ws]
        expected = [w.id for w in left if holds(w, key)]
        assert sorted(found) == expected


def holds(watcher: Watcher, key: bytes) -> bool:
    if not watcher.end:
        return key == watcher.key
    return watcher.key <= key and (watcher.end == NUL or key < watcher.end)


def test_many_prefix_lengths() -> None:
    index = LiveIndex()
    stream = Bench().stream
    count = PREFIX_LENGTHS_MAX + 8
    watchers = [Watcher(stream, i, b"a" * i, b"a" * (i - 1) + b"b") for i in range(1, count + 1)]
    for watcher in watchers:
        index.add(watcher)
    assert len(index.find(b"a" * count)) == count
    assert len(index.find(b"aab")) == 2
    for watcher in watchers:
        index.remove(watcher)
    assert index.find(b"a" * count) == []
