"""The window of append messages to one follower that are not answered yet.

Each is known by the index of its last entry; an answer for an index frees that one and all before
it. Owner: the leader's Progress of that follower.
"""

from __future__ import annotations

from collections import deque

from kvserver.raft.invariants import violation


class Inflights:
    __slots__ = ("_last_indexes", "is_full", "messages_max")

    def __init__(self, messages_max: int) -> None:
        self.messages_max = messages_max
        self.is_full = False
        self._last_indexes: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._last_indexes)

    def add(self, last_index: int) -> None:
        """One more message is under way; there must be room."""
        indexes = self._last_indexes
        if self.is_full:
            raise violation("append window of %d overrun", self.messages_max)
        indexes.append(last_index)
        self.is_full = len(indexes) >= self.messages_max

    def free_up_to(self, index: int) -> None:
        """Messages whose last entry is at or below `index` have been answered."""
        indexes = self._last_indexes
        while indexes and indexes[0] <= index:
            indexes.popleft()
            self.is_full = False

    def clear(self) -> None:
        self._last_indexes.clear()
        self.is_full = False
