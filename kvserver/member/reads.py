"""Linearizable reads that wait: one ReadIndex round for all that arrive together
(spec/kv.md E2).

A round is bound to one fresh context. It moves from *asked* (waiting for the quorum to confirm)
to *confirmed at an index*, and its readers run once that index is applied here.
"""

from __future__ import annotations

from collections.abc import Callable

from kvserver import errors

Reader = Callable[[errors.RequestError | None], None]
"""Called once: with None when the read may run, or with why it may not."""


class ReadRound:
    """Readers that share one context."""

    __slots__ = ("asked_at", "context", "index", "readers", "started_at")

    def __init__(
        self, context: bytes, readers: list[Reader], started_at: float, asked_at: float
    ) -> None:
        self.asked_at = asked_at
        self.context = context
        self.readers = readers
        self.started_at = started_at
        self.index: int | None = None

    def finish(self, error: errors.RequestError | None) -> None:
        readers, self.readers = self.readers, []
        for reader in readers:
            reader(error)


class ReadQueue:
    """Readers not asked for yet, and rounds under way. Owner: the loop."""

    def __init__(self) -> None:
        self._waiting: list[Reader] = []
        self._waiting_since = 0.0
        self._rounds: dict[bytes, ReadRound] = {}

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def has_readers(self) -> bool:
        """Whether anybody waits to read, asked for or not."""
        return bool(self._waiting or self._rounds)

    def add(self, reader: Reader, now: float) -> None:
        if not self._waiting:
            self._waiting_since = now
        self._waiting.append(reader)

    @property
    def is_asking(self) -> bool:
        """Whether a round waits for its index. Those who come meanwhile share the next one."""
        return any(found.index is None for found in self._rounds.values())

    def open_round(self, context: bytes, now: float = 0.0) -> None:
        """Everybody who waits goes into the round with this context."""
        self._rounds[context] = ReadRound(context, self._waiting, self._waiting_since, now)
        self._waiting = []

    def add_confirmed(self, context: bytes, reader: Reader, index: int, now: float) -> None:
        """A round that asks nobody: the reader runs once `index` is applied here."""
        found = self._rounds[context] = ReadRound(context, [reader], now, now)
        found.index = index

    def unanswered(self, asked_before: float) -> list[bytes]:
        """Contexts whose question or answer was probably lost."""
        return [
            context
            for context, found in self._rounds.items()
            if found.index is None and found.asked_at < asked_before
        ]

    def ask_again(self, old: bytes, new: bytes, now: float) -> None:
        """The same readers under a fresh context."""
        found = self._rounds.pop(old)
        found.context, found.asked_at = new, now
        self._rounds[new] = found

    def fail_unconfirmed(self, error: errors.RequestError) -> int:
        """The leader that was asked leads no more (spec/kv.md E3). How many rounds that ended."""
        contexts = [c for c, r in self._rounds.items() if r.index is None]
        for context in contexts:
            self._rounds.pop(context).finish(error)
        return len(contexts)

    def confirm(self, context: bytes, index: int) -> None:
        """Raft has confirmed this context; an unknown one belongs to a round given up."""
        found = self._rounds.get(context)
        if found is not None:
            found.index = index

    def run(self, applied: int) -> None:
        """Run the readers of all rounds whose index is applied."""
        ready = [r for r in self._rounds.values() if r.index is not None and r.index <= applied]
        for found in ready:
            del self._rounds[found.context]
            found.finish(None)

    def expire(self, before: float) -> int:
        """Give up on those who have waited since before `before` (spec/kv.md E3). How many rounds
        that ended, those counted that were never asked for."""
        ended = 0
        if self._waiting and self._waiting_since < before:
            waiting, self._waiting = self._waiting, []
            ended += 1
            for reader in waiting:
                reader(errors.Timeout())
        contexts = [c for c, r in self._rounds.items() if r.started_at < before]
        for context in contexts:
            self._rounds.pop(context).finish(errors.Timeout())
        return ended + len(contexts)

    def fail_all(self, error: errors.RequestError) -> None:
        waiting, self._waiting = self._waiting, []
        for reader in waiting:
            reader(error)
        rounds, self._rounds = self._rounds, {}
        for found in rounds.values():
            found.finish(error)
