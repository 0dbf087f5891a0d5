"""The roots of a key browser for somebody who may read a part of the keys only. No Django, no
gRPC in here.

A browser opens prefixes and keys; a range somebody may read need not be one. It is cut into as
many as it takes, in order, or stays a range that is only named when these would be too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from console.keys.paging import FROM_NUL, after, prefix_end
from console.users.spans import Span, earlier

PIECES_MAX = 32
"""More pieces of one range than this are no help to anybody."""

ROOTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Root:
    """`prefix`, when the root is one; `key`, when it is one key; neither: only a range."""

    span: Span
    prefix: bytes | None = None
    key: bytes | None = None


def roots_of(spans: Iterable[Span], within: Span) -> tuple[Root, ...]:
    """What of `spans` lies in `within`, as roots."""
    shared = (
        Span(max(one.start, within.start), earlier(one.end, within.end))
        for one in spans
        if one.meets(within)
    )
    found = (root for span in shared for root in _cut(span))
    return tuple(islice(found, ROOTS_MAX))


def _cut(span: Span) -> tuple[Root, ...]:
    pieces = tuple(islice(pieces_of(span), PIECES_MAX + 1))
    return pieces if len(pieces) <= PIECES_MAX else (Root(span),)


def pieces_of(span: Span) -> Iterator[Root]:
    """Prefixes and keys that make up the span, in order and without overlap."""
    at: bytes | None = span.start
    if span.start <= FROM_NUL and span.end is None:
        yield Root(span, prefix=b"")
        return
    while at is not None and not Span(at, span.end).is_empty:
        end = None if (bound := prefix_end(at)) == FROM_NUL else bound
        whole = Span(at, end)
        if at and not Span(at, after(at)).covers(span) and span.covers(whole):
            yield Root(whole, prefix=at)
            at = end
        else:
            # The end lies inside this prefix: its first key, then what follows it.
            yield Root(Span(at, after(at)), key=at)
            at = after(at)
