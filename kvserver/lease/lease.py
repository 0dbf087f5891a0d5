"""One lease and its keys, kept small because there may be very many."""

from __future__ import annotations

from math import inf


class Lease:
    """Owner: the loop, through the `Lessor`.

    `deadline` is a monotonic time, infinite on a member that is not primary. `queued_at` is the
    time under which the lease stands in the queue of deadlines; the deadline may be later by then.
    `remaining_seconds` is the last checkpoint, 0 if there is none.
    """

    __slots__ = ("_keys", "deadline", "queued_at", "remaining_seconds", "ttl_seconds")

    def __init__(self, ttl_seconds: int) -> None:
        self.ttl_seconds = ttl_seconds
        self.remaining_seconds = 0
        self.deadline = inf
        self.queued_at = inf
        # None, the only key, or a set: a set of one would be larger than all the rest.
        self._keys: bytes | set[bytes] | None = None

    def attach(self, key: bytes) -> None:
        keys = self._keys
        if keys is None:
            self._keys = key
        elif isinstance(keys, set):
            keys.add(key)
        elif keys != key:
            self._keys = {keys, key}

    def detach(self, key: bytes) -> None:
        keys = self._keys
        if isinstance(keys, set):
            keys.discard(key)
        elif keys == key:
            self._keys = None

    def keys(self) -> list[bytes]:
        """The attached keys in ascending order (spec/lease.md V2)."""
        if self._keys is None:
            return []
        return sorted(self._keys) if isinstance(self._keys, set) else [self._keys]

    def life_seconds(self) -> int:
        """What a new primary gives it: the checkpoint if there is one, else all (P1)."""
        return self.remaining_seconds or self.ttl_seconds
