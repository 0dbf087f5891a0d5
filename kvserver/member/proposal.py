"""Proposals of this member and those who wait for them.

A leader's proposals get their log indexes in the order they are handed to raft, so a waiter is
found by its entry's index and confirmed by its term: no id is looked up on the put path. Only
proposals forwarded to another leader are found by request id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.auth.identity import NOBODY, Identity


class Waiter(Protocol):
    """Who is told the outcome, exactly once. `transport.Call` is one."""

    def reply(self, body: bytes) -> None: ...

    def fail(self, code: int, message: str) -> None: ...


class Proposal:
    """One command on its way through the log."""

    __slots__ = (
        "data",
        "identity",
        "kind",
        "request",
        "request_id",
        "started_at",
        "term",
        "waiter",
    )

    def __init__(
        self,
        kind: Kind,
        request: Any,
        data: bytes,
        request_id: int,
        waiter: Waiter | None,
        started_at: float,
        identity: Identity = NOBODY,
    ) -> None:
        self.kind = kind
        self.request = request
        self.data = data
        self.request_id = request_id
        self.waiter = waiter
        self.started_at = started_at
        self.identity = identity
        self.term = 0

    def fail(self, error: errors.RequestError) -> None:
        if self.waiter is not None:
            self.waiter.fail(error.code, error.message)


TimeoutOf = Callable[[float], errors.RequestError]
"""What a proposal that started at that time is told when its time is over (spec/kv.md E5)."""


def _plain_timeout(started_at: float) -> errors.RequestError:
    return errors.Timeout()


def _expire(waiting: dict[Any, Proposal], before: float, error: TimeoutOf) -> int:
    """In insertion order, which is nearly the order of time."""
    late = []
    for key, proposal in waiting.items():
        if proposal.started_at >= before:
            break
        late.append(key)
    for key in late:
        proposal = waiting.pop(key)
        proposal.fail(error(proposal.started_at))
    return len(late)


def _fail_older(waiting: dict[Any, Proposal], term: int) -> int:
    old = [key for key, proposal in waiting.items() if proposal.term < term]
    for key in old:
        waiting.pop(key).fail(errors.TimeoutDueToLeaderFail())
    return len(old)


class CallbackWaiter:
    """A waiter for the server's own proposals: one callback with the error, or None."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[errors.RequestError | None], None]) -> None:
        self._callback = callback

    def reply(self, body: bytes) -> None:
        self._callback(None)

    def fail(self, code: int, message: str) -> None:
        self._callback(errors.RequestError(message, errors.Code(code)))


class ForwardedProposals:
    """Proposals that went to the leader, by the data of the entry that they become: it holds
    their request id, so it is theirs alone. Owner: the loop."""

    __slots__ = ("_succession", "by_data")

    def __init__(self) -> None:
        self.by_data: dict[bytes, Proposal] = {}
        self._succession: tuple[int, float] | None = None
        """The term in which a leader committed last, and when we saw it."""

    def __len__(self) -> int:
        return len(self.by_data)

    def add(self, term: int, proposals: list[Proposal]) -> None:
        by_data = self.by_data
        for proposal in proposals:
            proposal.term = term
            by_data[proposal.data] = proposal

    def pop(self, data: bytes) -> Proposal | None:
        return self.by_data.pop(data, None)

    def expire(self, before: float, error: TimeoutOf = _plain_timeout) -> int:
        return _expire(self.by_data, before, error)

    def succeeded(self, term: int, now: float) -> None:
        """A leader of `term` has committed. What an earlier one was given may still be on its way:
        a leader that is handing over passes on what it takes no more."""
        self._succession = term, now

    def fail_lost(self, before: float) -> int:
        """Give up what a leader was given that was succeeded before `before`: its outcome is
        unknown."""
        if self._succession is None or self._succession[1] >= before:
            return 0
        term, self._succession = self._succession[0], None
        return _fail_older(self.by_data, term)

    def fail_all(self, error: errors.RequestError) -> None:
        waiting = list(self.by_data.values())
        self.by_data.clear()
        for proposal in waiting:
            proposal.fail(error)


class WaitingProposals:
    """Proposals in the log that are not applied yet, by entry index. Owner: the loop."""

    __slots__ = ("_by_index",)

    def __init__(self) -> None:
        self._by_index: dict[int, Proposal] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def add(self, first_index: int, term: int, proposals: list[Proposal]) -> None:
        index = first_index
        by_index = self._by_index
        for proposal in proposals:
            proposal.term = term
            by_index[index] = proposal
            index += 1

    def pop(self, index: int, term: int) -> Proposal | None:
        """The proposal that became this entry. One overwritten by another leader's entry is
        told that its outcome is unknown."""
        proposal = self._by_index.pop(index, None)
        if proposal is not None and proposal.term != term:
            proposal.fail(errors.TimeoutDueToLeaderFail())
            return None
        return proposal

    def expire(self, before: float, error: TimeoutOf = _plain_timeout) -> int:
        """Fail every proposal that started before `before`; how many there were."""
        return _expire(self._by_index, before, error)

    def fail_older(self, term: int) -> int:
        """A leader of `term` has committed: what an earlier one took and is not applied by now
        is lost, or in another's hands. Its outcome is unknown."""
        return _fail_older(self._by_index, term)

    def fail_all(self, error: errors.RequestError) -> None:
        waiting = list(self._by_index.values())
        self._by_index.clear()
        for proposal in waiting:
            proposal.fail(error)
