"""What a cluster said, as frozen records for views and templates. No Django, no gRPC in here."""

from __future__ import annotations

from dataclasses import dataclass

from console.keys.paging import Page


@dataclass(frozen=True, slots=True)
class Key:
    """One key at one revision. `value` is None where only keys were asked for."""

    key: bytes
    value: bytes | None
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @property
    def lease_hex(self) -> str:
        return f"{self.lease:x}"

    @property
    def size_bytes(self) -> int | None:
        return None if self.value is None else len(self.value)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of keys. `total` counts the whole range at `revision`, this page included."""

    page: Page
    keys: tuple[Key, ...]
    total: int
    revision: int
    has_more: bool
    has_values: bool

    @property
    def next_page(self) -> Page | None:
        if not self.has_more or not self.keys:
            return None
        return self.page.following(self.keys[-1].key, len(self.keys), self.revision)


@dataclass(frozen=True, slots=True)
class Part:
    """The first keys of a range. `count` is the number of keys in all of it (spec/kv.md R4),
    `newest` the store's newest revision, which need not be the one that was read."""

    keys: tuple[Key, ...]
    count: int
    newest: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class LeaseTime:
    """`remaining_seconds` below 0: the lease is gone."""

    id: int
    remaining_seconds: int
    granted_seconds: int
    keys: tuple[bytes, ...] = ()
    """Attached keys in order, where they were asked for."""

    @property
    def id_hex(self) -> str:
        return f"{self.id:x}"

    @property
    def is_gone(self) -> bool:
        return self.remaining_seconds < 0


@dataclass(frozen=True, slots=True)
class LeaseList:
    """A page of leases. `total` counts all; `unseen` of this page could not be asked for."""

    leases: tuple[LeaseTime, ...]
    total: int
    unseen: int
    why_unseen: str


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a guarded write. On a conflict nothing was written and `found` is what the
    key holds now, None when it does not exist."""

    is_done: bool
    revision: int
    found: Key | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key. `prev` is the key before it, None for a new key or where the state
    before has been compacted."""

    revision: int
    key: bytes
    is_delete: bool
    now: Key | None
    prev: Key | None

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes or 0 for one in (self.now, self.prev) if one)

    @property
    def kind(self) -> str:
        if self.is_delete:
            return "delete"
        assert self.now is not None
        return "create" if self.now.create_revision == self.revision else "put"


@dataclass(frozen=True, slots=True)
class History:
    """Events oldest first, and what was covered: everything from `first` to `read_to` was read,
    `until` was wanted. `compacted` is the compact revision where it was met, else 0. Of what
    did not fit, the oldest `left_out` events are missing."""

    events: tuple[Event, ...]
    first: int
    compacted: int
    read_to: int
    until: int
    left_out: int
    is_complete: bool
