"""One change of one key, as watchers get it."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """A named tuple because the put path makes one for every write."""

    key: bytes
    kv: bytes
    """The encoded KeyValue as it goes on the wire; of a tombstone key and mod_revision only
    (spec/watch.md V2)."""
    is_delete: bool
    is_create: bool
    """A put that began a generation."""
    main: int
    sub: int
