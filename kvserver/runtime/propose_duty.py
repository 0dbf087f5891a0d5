"""Proposals of one member: from its clients to raft, or to the leader (spec/kv.md E2, E5, E6).

What came since the last turn is one batch. It waits while there is no leader, while an append is
under way, and while a leader hands over; nothing is ever given to raft twice, for it could be
applied twice (spec/cluster.md §4). Owner: the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvserver import errors
from kvserver.apply.command import HeaderEncoder, Kind, encode_command
from kvserver.auth.identity import NOBODY, Identity
from kvserver.member.proposal import ForwardedProposals, Proposal, Waiter, WaitingProposals
from kvserver.membership.ids import RequestIds
from kvserver.proto import legacy_pb2
from kvserver.raft import ConfChange, ConfChangeType, ProposalDropped, RawNode
from kvserver.raft.types import DropReason
from kvserver.runtime.counters import Counters


class ProposeDuty:
    """Those who wait for the outcome of a write, from `propose` until it is applied."""

    def __init__(
        self,
        *,
        node: RawNode,
        request_ids: RequestIds,
        counters: Counters,
        request_bytes_max: int,
        now: float,
        wake: Callable[[], None],
    ) -> None:
        self.refusal: type[errors.RequestError] | None = None
        """Why no proposal is taken at the moment."""
        self.now = now
        """As of the last tick: fine enough for time-outs, and no clock is read per proposal."""
        self.new: list[Proposal] = []
        """Not given to raft yet."""
        self.taken = 0
        """How many since the start."""
        self.waiting = WaitingProposals()
        self.forwarded = ForwardedProposals()
        self._conf_waiters: dict[int, tuple[Waiter, float]] = {}
        self._node = node
        self._request_ids = request_ids
        self._counters = counters
        self._request_bytes_max = request_bytes_max
        self._header_encoder = HeaderEncoder()
        self._wake = wake

    def __len__(self) -> int:
        return len(self.new) + len(self.waiting) + len(self.forwarded)

    # -- in

    def propose(
        self,
        kind: Kind,
        request: Any,
        body: bytes,
        waiter: Waiter | None,
        identity: Identity = NOBODY,
    ) -> None:
        """Put one command into the log in the name of `identity`; `waiter` hears the outcome once
        it is applied.

        Hot: no future, no task, no closure. Raises what a client must hear at once.
        """
        if self.refusal is not None:
            raise self.refusal
        request_id = self._request_ids.next()
        if identity is NOBODY:
            header = self._header_encoder.encode(request_id)
        else:
            header = self._header_encoder.encode_with(request_id, identity)
        data = encode_command(kind, body, header)
        if len(data) > self._request_bytes_max:
            raise errors.RequestTooLarge
        self.taken += 1
        self.new.append(Proposal(kind, request, data, request_id, waiter, self.now, identity))
        self._wake()

    def propose_legacy(self, request: legacy_pb2.Request, waiter: Waiter | None) -> None:
        """Put a v2 request into the log, for members of releases that know no other form
        (spec/raft-wire.md W6)."""
        if self.refusal is not None:
            raise self.refusal
        request.ID = self._request_ids.next()
        data = request.SerializeToString()
        self.new.append(Proposal(Kind.LEGACY, request, data, request.ID, waiter, self.now))
        self._wake()

    def propose_as_leader(
        self, kind: Kind, request: Any, body: bytes, waiter: Waiter | None, identity: Identity
    ) -> None:
        """Put a command into the log that only this reign may give: at once, under its own term.
        It is never forwarded, or a leader that was replaced without knowing would have its
        successor end leases that were renewed there (spec/lease.md E1); so it does not wait for a
        hand-over either, but fails. Raises `NotLeader`."""
        if not self._node.is_leader:
            raise errors.NotLeader
        self.propose(kind, request, body, waiter, identity)
        proposals = [self.new.pop()]
        if not self._append(proposals):
            for proposal in proposals:
                proposal.fail(errors.RequestError("raft proposal dropped"))

    def propose_conf_change(
        self, kind: ConfChangeType, node_id: int, context: bytes, waiter: Waiter
    ) -> None:
        """One at a time: a second one while the first is under way would be lost
        (spec/raft.md §8). Raises `RequestError`."""
        if self.refusal is not None:
            raise self.refusal
        request_id = self._request_ids.next()
        try:
            self._node.propose_conf_change(ConfChange(request_id, kind, node_id, context))
        except ProposalDropped as dropped:
            if dropped.reason is DropReason.NO_LEADER:
                raise errors.NoLeader from None
            raise errors.RequestError("raft proposal dropped") from None
        self._conf_waiters[request_id] = waiter, self.now
        self._wake()

    def take_conf_waiter(self, request_id: int) -> Waiter | None:
        """Who asked for the conf change that is being applied."""
        found = self._conf_waiters.pop(request_id, None)
        return None if found is None else found[0]

    # -- to raft

    def give_to_raft(self, may_append: bool) -> None:
        """What is new becomes entries here, if this member leads and `may_append`, or goes to the
        leader.

        Raft's own word on who leads: what was stepped just now may have ended our leadership, and a
        waiter at an index that another leader fills would apply its request in the place of theirs.
        """
        if self._node.is_leader:
            if may_append:
                proposals, self.new = self.new, []
                if not self._append(proposals):
                    self.new = proposals
        elif self._node.leader:
            self._forward()

    def _append(self, proposals: list[Proposal]) -> bool:
        """False while we hand over: none was taken, and they may wait for whoever leads then, where
        etcd gives them back to their callers (spec/kv.md E6)."""
        first = self._node.last_index + 1
        try:
            self._node.propose([proposal.data for proposal in proposals])
        except ProposalDropped as dropped:
            if dropped.reason is DropReason.TRANSFER:
                return False
            for proposal in proposals:
                proposal.fail(errors.RequestError("raft proposal dropped"))
            return True
        self.waiting.add(first, self._node.term, proposals)
        return True

    def _forward(self) -> None:
        """In one message; each is recognised when it comes back to be applied."""
        proposals, self.new = self.new, []
        try:
            self._node.propose([proposal.data for proposal in proposals])
        except ProposalDropped:  # the leader has just been lost: they wait for the next one
            self.new = proposals
            return
        self.forwarded.add(self._node.term, proposals)

    # -- the end of waiting

    def leader_committed(self, term: int, now: float) -> None:
        """A leader of `term` has committed its first entry."""
        self._counters.proposals_failed += self.waiting.fail_older(term)
        self.forwarded.succeeded(term, now)

    def expire(
        self,
        before: float,
        succeeded_before: float,
        timeout_of: Callable[[float], errors.RequestError],
    ) -> None:
        """Give up what started before `before`, and what a leader was given that was succeeded
        before `succeeded_before`. `timeout_of` is what a write that began at that time is told."""
        failed = self.waiting.expire(before, timeout_of)
        failed += self.forwarded.expire(before, timeout_of)
        failed += self.forwarded.fail_lost(succeeded_before)
        while self.new and self.new[0].started_at < before:  # no leader in time (spec/kv.md E4)
            failed += 1
            self.new.pop(0).fail(errors.DeadlineExceeded("context deadline exceeded"))
        self._counters.proposals_failed += failed
        late = [number for number, (_, since) in self._conf_waiters.items() if since < before]
        for number in late:
            waiter, _ = self._conf_waiters.pop(number)
            waiter.fail(errors.Timeout.code, errors.Timeout.message)

    def stop(self) -> None:
        """Take no more; tell everybody who waits (spec/kv.md E6)."""
        self.refusal = errors.Stopped
        new, self.new = self.new, []
        for proposal in new:
            proposal.fail(errors.Stopped())
        self.waiting.fail_all(errors.Stopped())
        self.forwarded.fail_all(errors.Stopped())
        waiters, self._conf_waiters = list(self._conf_waiters.values()), {}
        for waiter, _ in waiters:
            waiter.fail(errors.Stopped.code, errors.Stopped.message)
