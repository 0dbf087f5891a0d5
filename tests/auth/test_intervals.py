"""Sets of keys as intervals (spec/auth.md §1, §4; trap 9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.auth.intervals import Intervals, is_valid_grant
from tests.support.auth_model import AuthModel

Place = tuple[bytes, bytes]
POINT, OPEN = b"", b"\x00"

keys = st.text("ab", min_size=1, max_size=2).map(str.encode) | st.just(b"a\x00")
places = st.tuples(keys, keys | st.sampled_from([POINT, OPEN]))
proper = places.filter(lambda place: place[1] in (POINT, OPEN) or place[0] < place[1])


@pytest.mark.parametrize(
    ("grants", "asked", "allowed"),
    [
        ([(b"a", b"c"), (b"c", b"e")], (b"a", b"e"), True),  # case 6
        ([(b"a", b"c"), (b"d", b"e")], (b"a", b"e"), False),
        ([(b"a", b"d"), (b"c", b"e")], (b"b", b"e"), True),
        ([(b"a", POINT)], (b"a", POINT), True),
        ([(b"a", POINT)], (b"a", b"b"), False),
        ([(b"a", POINT)], (b"a", b"a\x00"), True),  # literally the same keys
        ([(b"a", POINT), (b"a\x00", b"b")], (b"a", b"b"), True),
        ([(b"a", POINT), (b"b", b"c")], (b"a", b"c"), False),
        ([(b"a", b"c")], (b"b", OPEN), False),  # an open end needs an open grant
        ([(b"b", OPEN)], (b"c", OPEN), True),
        ([(b"b", OPEN)], (b"a", OPEN), False),
        ([(b"a", b"b"), (b"b", OPEN)], (b"a", OPEN), True),
        ([(b"b", OPEN)], (b"z", POINT), True),
        ([(b"b", OPEN), (b"c", b"d")], (b"c", b"x"), True),
        ([(b"\x00", OPEN)], (b"\x00", OPEN), True),
        ([(b"a", OPEN)], (b"\x00", OPEN), False),
        ([], (b"a", POINT), False),
        ([(b"c", b"a")], (b"b", POINT), False),  # old releases stored inverted grants
        ([(b"a", b"c")], (b"c", POINT), False),
    ],
)
def test_what_a_union_covers(grants: list[Place], asked: Place, allowed: bool) -> None:
    assert Intervals(grants).covers(*asked) is allowed


@pytest.mark.parametrize(
    ("grants", "asked", "allowed"),
    [
        ([(b"a", b"z")], (b"f", b"c"), True),
        ([(b"c", b"z")], (b"f", b"c"), True),
        ([(b"a", b"f")], (b"f", b"c"), False),
        ([(b"c", b"d")], (b"c", b"c"), True),
        ([(b"e", POINT)], (b"e", b"a"), True),
        ([(b"d", OPEN)], (b"f", b"c"), True),
        ([(b"g", OPEN)], (b"f", b"c"), False),
        ([], (b"f", b"c"), False),
    ],
)
def test_inverted_ranges_need_their_first_key(
    grants: list[Place], asked: Place, allowed: bool
) -> None:
    """They name no key, so it matters to nobody but a client that expects etcd's answer."""
    assert Intervals(grants).covers(*asked) is allowed


@given(st.lists(proper, max_size=6), proper)
def test_covering_is_having_every_key(grants: list[Place], asked: Place) -> None:
    model = AuthModel(users={"u": {"r"}}, roles={"r": dict.fromkeys(grants, 0)})
    assert Intervals(grants).covers(*asked) is model.may("u", False, *asked)


@given(st.lists(places, max_size=6), places)
def test_a_range_is_never_more_than_its_keys(grants: list[Place], asked: Place) -> None:
    """Whatever is stored and asked: an allowed range names no key that is not granted."""
    model = AuthModel(users={"u": {"r"}}, roles={"r": dict.fromkeys(grants, 0)})
    if Intervals(grants).covers(*asked):
        assert model.may("u", False, *asked)


@pytest.mark.parametrize(
    ("key", "end", "is_valid"),
    [
        (b"a", b"", True),
        (b"a", b"b", True),
        (b"a", OPEN, True),
        (b"\x00", OPEN, True),
        (b"", b"", False),
        (b"", OPEN, False),
        (b"b", b"a", False),
        (b"a", b"a", False),
    ],
)
def test_which_ranges_can_be_granted(key: bytes, end: bytes, is_valid: bool) -> None:
    """§4, "Invalid range at grant"; case 23."""
    assert is_valid_grant(key, end) is is_valid
