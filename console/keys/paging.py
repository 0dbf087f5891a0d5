"""Ranges of keys and pages through them. No Django, no gRPC: arithmetic on byte strings.

A listing is a `[start, end)` of the keyspace. Page one reads the newest revision; every later
page starts at the last key + NUL and reads at the revision of page one, so that a listing is one
picture of the store however long somebody takes over it (console.md §3 trap 6).
"""

from __future__ import annotations

from dataclasses import dataclass

FROM_NUL = b"\x00"
"""As a key: the first key there can be. As a range_end: no end (spec/kv.md §3)."""

PAGE_KEYS = 100


@dataclass(frozen=True, slots=True)
class KeyRange:
    """`[start, end)` as the server understands it; end NUL is the end of the keyspace."""

    start: bytes
    end: bytes

    @property
    def is_everything(self) -> bool:
        return self.start == FROM_NUL and self.end == FROM_NUL

    @property
    def has_end(self) -> bool:
        return self.end != FROM_NUL

    def __contains__(self, key: bytes) -> bool:
        return self.start <= key and (not self.has_end or key < self.end)


def prefix_range(prefix: bytes) -> KeyRange:
    """All keys that begin with `prefix`; no prefix is the whole keyspace, from NUL."""
    if not prefix:
        return KeyRange(FROM_NUL, FROM_NUL)
    return KeyRange(prefix, prefix_end(prefix))


def one_key(key: bytes) -> KeyRange:
    """The range that holds this key only."""
    return KeyRange(key, after(key))


def prefix_end(prefix: bytes) -> bytes:
    """The least key beyond every key with this prefix; NUL when there is none (all 0xff)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else FROM_NUL


def after(key: bytes) -> bytes:
    """The least key greater than `key`."""
    return key + b"\x00"


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page lies in its listing. `seen` counts the keys on the pages before it."""

    range: KeyRange
    last_key: bytes | None = None
    revision: int = 0
    seen: int = 0

    @property
    def is_first(self) -> bool:
        return self.last_key is None

    @property
    def start(self) -> bytes:
        return self.range.start if self.last_key is None else after(self.last_key)

    def following(self, last_key: bytes, shown: int, revision: int) -> Page:
        """The page behind one that showed `shown` keys up to `last_key` at `revision`."""
        return Page(self.range, last_key, self.revision or revision, self.seen + shown)
