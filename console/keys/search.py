"""Search by scanning, honestly: a server of this kind has no index but the order of keys.

One step reads a bounded number of keys at one revision and says how far it came; the next step
goes on behind it (console.md §3 trap 6). No Django, no gRPC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from console.gateway.records import Key, Part
from console.keys.paging import KeyRange, after

KEYS_A_CALL, CALLS_A_STEP = 1000, 20
VALUES_A_CALL, VALUE_CALLS_A_STEP = 100, 40
BYTES_A_STEP = 64 * 1024 * 1024
"""Of values, beyond which a step ends."""

MATCHES_A_STEP = 200
EXCERPT_BYTES = 48
"""Shown on either side of a hit in a value."""

Ask = Callable[[KeyRange, int, int], Part]
"""(range, limit, revision) → its first keys."""


@dataclass(frozen=True, slots=True)
class Needle:
    """The bytes looked for. Without case: ASCII letters of either case are the same."""

    data: bytes
    ignores_case: bool = False
    in_values: bool = False

    def find(self, key: Key) -> Excerpt | None:
        hay = (key.value or b"") if self.in_values else key.key
        at = hay.lower().find(self.data.lower()) if self.ignores_case else hay.find(self.data)
        if at == -1:
            return None
        end = at + len(self.data)
        if not self.in_values:
            return Excerpt(hay[:at], hay[at:end], hay[end:])
        start, stop = max(0, at - EXCERPT_BYTES), end + EXCERPT_BYTES
        return Excerpt(hay[start:at], hay[at:end], hay[end:stop], start > 0, stop < len(hay))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Where it was found."""

    before: bytes
    hit: bytes
    behind: bytes
    is_cut_before: bool = False
    is_cut_behind: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    key: Key
    excerpt: Excerpt


@dataclass(frozen=True, slots=True)
class Step:
    """`scanned` keys were looked at, of `left` that were there from the step's start on;
    `last_key` is where to go on, None at the end."""

    matches: tuple[Match, ...]
    scanned: int
    left: int
    last_key: bytes | None
    revision: int
    calls: int


def scan(
    ask: Ask,
    keys: KeyRange,
    needle: Needle,
    *,
    last_key: bytes | None = None,
    revision: int = 0,
    is_spent: Callable[[], bool] = lambda: False,
) -> Step:
    """One step of a search, behind `last_key`."""
    limit = VALUES_A_CALL if needle.in_values else KEYS_A_CALL
    calls_max = VALUE_CALLS_A_STEP if needle.in_values else CALLS_A_STEP
    matches: list[Match] = []
    scanned = left = size = 0
    for calls in range(1, calls_max + 1):
        start = keys.start if last_key is None else after(last_key)
        part = ask(KeyRange(start, keys.end), limit, revision)
        if calls == 1:
            left, revision = part.count, revision or part.newest
        for key in part.keys:
            scanned += 1
            size += key.size_bytes or 0
            last_key = key.key
            excerpt = needle.find(key)
            if excerpt:
                matches.append(Match(key, excerpt))
                if len(matches) == MATCHES_A_STEP:
                    break
        if scanned >= left or not part.keys:
            return Step(tuple(matches), scanned, left, None, revision, calls)
        if len(matches) == MATCHES_A_STEP or size > BYTES_A_STEP or is_spent():
            break
    return Step(tuple(matches), scanned, left, last_key, revision, calls)
