"""What a compaction frees, told from events alone, against the rule itself (spec/kv.md Z3)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from console.gateway.records import Event, Key
from console.maintenance.prefixes import Groups, group_of, largest, rolled_up
from console.maintenance.reclaim import Freed, Reclaim, suggestions


def event(revision: int, key: bytes, value: bytes | None, prev: Key | None) -> Event:
    create = prev.create_revision if prev else revision
    version = prev.version + 1 if prev else 1
    now = None if value is None else Key(key, value, create, revision, version, 0)
    return Event(revision, key, value is None, now, prev)


def history(changes: list[tuple[bytes, bytes | None]]) -> list[Event]:
    """One revision a change, from 2 on; deletes of absent keys change nothing."""
    live: dict[bytes, Key] = {}
    events: list[Event] = []
    for key, value in changes:
        if value is None and key not in live:
            continue
        one = event(len(events) + 2, key, value, live.pop(key, None))
        if one.now:
            live[key] = one.now
        events.append(one)
    return events


def removed(events: list[Event], at: int) -> tuple[int, int]:
    """Z3, read aloud: values and tombstones of `events` that a compaction at `at` removes."""
    newest = {event.key: event.revision for event in events if event.revision <= at}
    gone = [
        event
        for event in events
        if event.revision <= at and (event.is_delete or event.revision != newest[event.key])
    ]
    return sum(1 for e in gone if not e.is_delete), sum(1 for e in gone if e.is_delete)


KEYS = st.sampled_from([b"/a/1", b"/a/2", b"/b/1", b"c"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=4)), max_size=40),
    st.integers(0, 42),
    st.integers(0, 42),
)
def test_what_is_freed_is_what_the_rule_removes(changes, first, at) -> None:
    """In two compactions as in one: the first leaves a baseline the second supersedes."""
    events = history(changes)
    first = min(first, at)
    counted = Freed()
    for low, high in ((0, first), (first, at)):
        reclaim = Reclaim()
        reclaim.feed(e for e in events if low < e.revision <= high)
        counted.add(reclaim.total)
        assert sum(one.records for one in reclaim.groups.values()) == reclaim.total.records
    assert (counted.versions, counted.tombstones) == removed(events, at)


def test_keys_deleted_and_not_back_are_lost_the_last_first() -> None:
    events = history(
        [
            (b"/a", b"12345"),
            (b"/b", b"1"),
            (b"/c", b"1"),
            (b"/a", None),
            (b"/b", None),
            (b"/c", None),
            (b"/b", b"again"),
        ]
    )
    reclaim = Reclaim()
    reclaim.feed(events)
    assert reclaim.lost_count == 2
    assert [(one.key, one.size_bytes) for one in reclaim.lost(5)] == [(b"/c", 1), (b"/a", 5)]
    assert [one.key for one in reclaim.lost(1)] == [b"/c"]


def test_a_value_compacted_before_is_no_version_of_unknown_size() -> None:
    """The first event of a window may have no state before (spec/watch.md): a delete then frees
    its tombstone only."""
    reclaim = Reclaim()
    reclaim.add(Event(9, b"/a", True, None, None))
    assert (reclaim.total.versions, reclaim.total.tombstones) == (0, 1)
    assert reclaim.lost(1)[0].size_bytes is None


def test_groups_end_at_slashes() -> None:
    key = b"/registry/pods/default/a"
    assert [group_of(key, depth) for depth in range(5)] == [
        b"",
        b"/registry/",
        b"/registry/pods/",
        b"/registry/pods/default/",
        b"/registry/pods/default/",
    ]
    assert group_of(b"plain", 3) == b""
    assert group_of(b"a//b", 2) == b"a//"
    assert group_of(b"/", 2) == b""


def test_too_many_groups_become_coarser_and_lose_nothing() -> None:
    groups: Groups[Freed] = Groups(Freed, Freed.add, depth=2, groups_max=10)
    for i in range(100):
        groups.of(b"/%d/%d/x" % (i % 5, i)).versions += 1
    assert groups.depth == 1
    assert sum(one.versions for one in groups.sums.values()) == 100
    assert sorted(groups.sums) == [b"/%d/" % i for i in range(5)]
    for i in range(20):
        groups.of(b"/new%d/x" % i).versions += 1
    assert groups.depth == 0
    assert {k: v.versions for k, v in groups.sums.items()} == {b"": 120}


def test_rolled_up_sums_are_the_same_sums() -> None:
    fine = {b"/a/b/": Freed(1), b"/a/c/": Freed(2), b"/d/": Freed(4)}
    coarse = rolled_up(fine, 1, Freed, Freed.add)
    assert {k: v.versions for k, v in coarse.items()} == {b"/a/": 3, b"/d/": 4}
    assert largest(coarse, lambda one: one.versions, 1) == [(b"/d/", Freed(4))]
    assert fine[b"/a/b/"].versions == 1  # the finer sums stay what they were


def test_suggestions_lie_in_the_window() -> None:
    known = [("keep 24 h", 500), ("keep 1 h", 40)]
    found = [(one.words, one.revision) for one in suggestions(5000, 100, known)]
    assert found == [("keep 24 h", 500), ("keep 1 000 revisions", 4000)]
    assert suggestions(7, 7, ()) == []
