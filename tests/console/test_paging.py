"""Ranges and pages (console.md §3 traps 5, 6 and 13; spec/kv.md §3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.keys.paging import FROM_NUL, KeyRange, Page, after, prefix_range


@given(st.binary(max_size=8), st.binary(min_size=1, max_size=10))
def test_a_prefix_range_holds_exactly_the_keys_with_the_prefix(prefix: bytes, key: bytes) -> None:
    assert (key in prefix_range(prefix)) == key.startswith(prefix)


@given(st.binary(max_size=6), st.binary(max_size=8))
def test_nothing_lies_between_a_key_and_the_one_after(key: bytes, other: bytes) -> None:
    assert other <= key or other >= after(key)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (b"/app/", KeyRange(b"/app/", b"/app0")),
        (b"a\xff", KeyRange(b"a\xff", b"b")),
        (b"\xff\xff", KeyRange(b"\xff\xff", FROM_NUL)),
        (b"", KeyRange(FROM_NUL, FROM_NUL)),
    ],
)
def test_range_end(prefix: bytes, expected: KeyRange) -> None:
    assert prefix_range(prefix) == expected


def test_later_pages_stay_at_the_revision_of_the_first() -> None:
    first = Page(prefix_range(b"/a/"))
    second = first.following(b"/a/x", shown=100, revision=7)
    third = second.following(b"/a/y", shown=100, revision=9)
    assert first.start == b"/a/"
    assert second.start == b"/a/x\x00"
    assert (second.revision, third.revision) == (7, 7)
    assert third.seen == 200
