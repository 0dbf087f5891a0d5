"""Revision keys: how a revision (main, sub) is written on disk and ordered in memory.

A revision key is main as 8 bytes big-endian, `_`, sub as 8 bytes big-endian, and `t` behind it for
a tombstone (spec/kv.md X1). Revision keys compare as bytes in the order of their revisions, so the
index keeps them as they are and never turns them into numbers on a read path.
"""

from __future__ import annotations

from typing import Final

RevisionKey = bytes

PUT_LENGTH: Final = 17
TOMBSTONE_LENGTH: Final = PUT_LENGTH + 1
"""One byte more, and that is the only difference."""
FIRST: Final = b""
"""Below every revision key."""

_SHORT_SUBS: Final = [b"_" + sub.to_bytes(8) for sub in range(256)]
SUB_ZERO: Final = _SHORT_SUBS[0]


def revision_key(main: int, sub: int) -> RevisionKey:
    return main.to_bytes(8) + (_SHORT_SUBS[sub] if sub < 256 else b"_" + sub.to_bytes(8))


def tombstone_key(main: int, sub: int) -> RevisionKey:
    return revision_key(main, sub) + b"t"


def is_tombstone(key: RevisionKey) -> bool:
    return len(key) == TOMBSTONE_LENGTH


def main_of(key: RevisionKey) -> int:
    return int.from_bytes(key[:8])


def sub_of(key: RevisionKey) -> int:
    return int.from_bytes(key[9:17])


def bound_after(main: int) -> bytes:
    """The least bytes above every revision key whose main is at most `main`; FIRST if negative."""
    return (main + 1).to_bytes(8) if main >= 0 else FIRST
