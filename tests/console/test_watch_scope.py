"""Ranges and places of a watch, without a server (console.md §3 trap 8, §4 Watch)."""

from __future__ import annotations

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from console.gateway.feed import Connection
from console.keys.paging import FROM_NUL, KeyRange, one_key, prefix_range
from console.watch.cursors import (
    Cursor,
    NoPlace,
    Place,
    overlap,
    pack,
    starts,
    union,
    unpack,
    was_seen,
)
from console.watch.present import Chip, chips_of
from console.watch.scope import EVERYTHING, RANGES_MAX, label, pairs_of, scope_of

KEYS = st.binary(min_size=1, max_size=2).map(lambda key: bytes(b % 4 for b in key))
RANGES = st.one_of(
    KEYS.map(prefix_range),
    KEYS.map(one_key),
    st.tuples(KEYS, KEYS).map(lambda two: KeyRange(min(two), max(two) + b"\x00")),
    st.just(EVERYTHING),
)


def scope(query: str):
    return scope_of(QueryDict(query))


@pytest.mark.parametrize(
    ("query", "ranges"),
    [
        ("", (EVERYTHING,)),
        ("prefix=", (EVERYTHING,)),
        ("prefix=a", (KeyRange(b"a", b"b"),)),
        ("key=a", (KeyRange(b"a", b"a\x00"),)),
        ("key=a&end=c", (KeyRange(b"a", b"c"),)),
        ("key=&end=c", (KeyRange(FROM_NUL, b"c"),)),
        (r"key=a&end=\x00", (KeyRange(b"a", FROM_NUL),)),
        ("key=a&end=&key=b&end=d", (KeyRange(b"a", b"a\x00"), KeyRange(b"b", b"d"))),
        ("prefix=b&prefix=a&prefix=ab", (KeyRange(b"a", b"b"), KeyRange(b"b", b"c"))),
    ],
)
def test_every_kind_of_range(query: str, ranges: tuple[KeyRange, ...]) -> None:
    assert scope(query).ranges == ranges
    assert not scope(query).mistakes


@pytest.mark.parametrize(
    "query", ["prefix=%5C", "key=c&end=a", "show=x", "rev=x", "rev=-1", "text=%5C"]
)
def test_a_slip_is_named_and_the_rest_stays(query: str) -> None:
    found = scope("prefix=ok&" + query)
    assert len(found.mistakes) == 1
    assert found.asked == (prefix_range(b"ok"),)


def test_there_are_only_so_many_ranges() -> None:
    found = scope("&".join(f"prefix={number}" for number in range(RANGES_MAX + 1)))
    assert len(found.asked) == RANGES_MAX
    assert found.mistakes


@given(st.lists(RANGES, max_size=5, unique=True))
def test_an_address_means_what_it_was_made_from(asked: list[KeyRange]) -> None:
    query = QueryDict(mutable=True)
    for keys in asked:
        for name, value in pairs_of(keys):
            query.appendlist(name, value)
    # prefixes are read before exact ranges: the same ranges, perhaps in another order
    assert set(scope_of(query).asked) == set(asked)
    assert len({label(keys) for keys in asked}) == len(asked)


@given(st.lists(RANGES, max_size=5), KEYS)
def test_a_union_holds_the_same_keys_once(ranges: list[KeyRange], key: bytes) -> None:
    merged = union(ranges)
    assert sum(key in one for one in merged) == any(key in one for one in ranges)
    assert not any(overlap(a, b) for n, a in enumerate(merged) for b in merged[:n])


@given(
    st.lists(st.tuples(RANGES, st.integers(2, 9)), max_size=4),
    st.lists(RANGES, min_size=1, max_size=3),
    st.lists(st.tuples(KEYS, st.integers(1, 12)), max_size=20),
)
def test_other_ranges_go_on_without_a_hole_and_nothing_comes_twice(old, new, happened) -> None:
    """Trap 8. Whoever held `old` and goes on with `new`, from a page made at revision 10, is
    shown each event it has a right to exactly once."""
    held: list[Cursor] = []
    for keys, revision in old:
        if not any(overlap(keys, one.keys) for one in held):
            held.append(Cursor(keys, revision))
    ranges = union(new)
    page = [Cursor(keys, 10) for keys in ranges]
    begins = {one.keys: one.revision for one in starts(ranges, held, page)}
    assert set(begins) == set(ranges)
    for key, revision in happened:
        before = next((one for one in held if key in one.keys), None)
        shown = any(
            key in keys and revision >= start and not was_seen(key, revision, held)
            for keys, start in begins.items()
        )
        if before and any(key in keys for keys in ranges):
            assert shown == (revision >= before.revision)
        elif revision >= 10 and any(key in keys for keys in ranges):
            assert shown


@given(
    st.lists(st.tuples(RANGES, st.integers(1, 2**63 - 1)), max_size=4),
    st.integers(0, 2**63 - 1),
    st.tuples(*[st.integers(0, 2**53)] * 3),
)
def test_a_place_comes_back_as_it_was(cursors, since, counted) -> None:
    place = Place(tuple(Cursor(*one) for one in cursors), since, counted)
    assert unpack(pack(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "[]",
        "{}",
        '{"at": 5}',
        '{"at": [["zz", "00", "1"]], "since": "1", "counted": ["0", "0", "0"]}',
        '{"at": [["00", "00", 1]], "since": "1", "counted": ["0", "0", "0"]}',
        '{"at": [], "since": "1", "counted": ["0"]}',
        '{"at": [], "since": "-1", "counted": ["0", "0", "0"]}',
        "[" * 10_000,
    ],
)
def test_what_is_no_place_is_refused(text: object) -> None:
    with pytest.raises(NoPlace):
        unpack(text)


def test_chips_say_one_thing_when_all_ranges_fare_alike() -> None:
    live = (prefix_range(b"a"), Connection("live", 3))
    back = (prefix_range(b"b"), Connection("resuming", 7, "no endpoint answers"))
    gone = (one_key(b"c"), Connection("stopped", 9, "permission denied"))
    assert chips_of([live, live]) == [Chip("on", "live")]
    assert chips_of([back]) == [Chip("poll", "resuming from 7")]
    assert chips_of([gone]) == [Chip("off", "stopped: permission denied")]
    assert chips_of([live, back, gone]) == [
        Chip("on", "1 of 3 live"),
        Chip("off", "c stopped: permission denied"),
        Chip("poll", "b… resuming from 7"),
    ]
