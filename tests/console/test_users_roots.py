"""What somebody may read as roots of the key browser: the same keys, as prefixes and keys."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.keys.paging import prefix_range
from console.users.roots import PIECES_MAX, Root, pieces_of, roots_of
from console.users.spans import Span, span_of

BUSY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says how busy the machine is."""

EVERYTHING = Span(b"", None)


def shown(spans: list[Span], within: Span = EVERYTHING) -> list[str]:
    return [
        f"prefix {root.prefix.decode()}"
        if root.prefix is not None
        else f"key {root.key.decode()}"
        if root.key is not None
        else "range"
        for root in roots_of(spans, within)
    ]


@pytest.mark.parametrize(
    ("span", "roots"),
    [
        (Span(b"/app/", b"/app0"), ["prefix /app/"]),
        (span_of(b"/app", b""), ["key /app"]),
        (Span(b"/a", b"/c"), ["prefix /a", "prefix /b"]),
        (Span(b"/q/a", b"/q/d"), ["prefix /q/a", "prefix /q/b", "prefix /q/c"]),
        (Span(b"\x00", None), ["prefix "]),
        (Span(b"", None), ["prefix "]),
        (Span(b"/app/", b"/app/z"), ["range"]),
        (Span(b"b", b"a"), []),
    ],
)
def test_a_range_as_roots(span: Span, roots: list[str]) -> None:
    assert shown([span]) == roots


def test_only_what_lies_within_what_was_asked_for() -> None:
    spans = [Span(b"/app/", b"/app0"), Span(b"/b/", b"/b0")]
    assert shown(spans, Span(b"/app/eu/", b"/app/eu0")) == ["prefix /app/eu/"]
    assert shown(spans, Span(b"/a", b"/b")) == ["prefix /app/"]
    assert shown(spans, Span(b"/zzz", None)) == []


ends = st.binary(max_size=2).map(lambda tail: b"k" + tail)


@BUSY
@given(ends, ends, st.binary(max_size=3).map(lambda tail: b"k" + tail))
def test_the_pieces_hold_the_same_keys_once(start: bytes, end: bytes, key: bytes) -> None:
    span = Span(start, end)
    at = start
    for number, root in enumerate(pieces_of(span)):
        if number > PIECES_MAX:
            return
        assert root.span.start == at
        assert span.covers(root.span)
        if root.prefix is not None:
            keys = prefix_range(root.prefix)
            assert root == Root(Span(keys.start, keys.end), prefix=root.prefix)
        else:
            assert root.span.is_one_key
        at = root.span.end or b""
    assert at == max(start, end) if start < end else at == start
