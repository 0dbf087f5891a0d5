"""What goes to other members and comes from them, between the network and raft.

Messages that come are stepped at the member's next turn. Those that vouch for something wait until
it is on the disk, in the order raft gave them; a received snapshot is installed in the same order.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from kvserver import errors, failpoints
from kvserver.limits import PEER_FOREIGN_PROPOSALS_MAX, PEER_STREAM_MESSAGES_MAX
from kvserver.raft import Message, MessageType, ProposalDropped, RawNode, Snapshot
from kvserver.raft.plan import InstallSnapshot, SendAfterPersist, SendMessages
from kvserver.raft.types import TAKES_PROMISES, DropReason
from kvserver.runtime.held_commits import HeldCommits

PASSING = (DropReason.NO_LEADER, DropReason.CANDIDATE, DropReason.TRANSFER)
"""Why nobody takes a proposal just now."""


class Network(Protocol):
    """The other members, as the loop sees them (peers/network.py)."""

    def send(self, messages: Sequence[Message]) -> None: ...

    def active_since(self, number: int) -> float | None: ...


class NoNetwork:
    """A member alone has nobody to talk to."""

    def send(self, messages: Sequence[Message]) -> None:
        raise errors.FatalError(f"a member alone cannot send {messages[0].type.name}")

    def active_since(self, number: int) -> float | None:
        return None


class Mailbox:
    """One member's post."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: RawNode,
        wake: Callable[[], None],
        install: Callable[[Snapshot], None],
    ) -> None:
        self.network: Network = NoNetwork()
        self.is_stopped = False
        self.inbox: list[Message] = []
        """For the next turn."""
        self.unsent: deque[SendAfterPersist | InstallSnapshot] = deque()
        """Steps that wait for the disk, in their order."""
        self._node = node
        self._wake = wake
        self._install = install
        self._held: deque[tuple[float, Message]] = deque()
        """Proposals of others that wait for a leader, and since when."""
        self._persisted_number = 0
        self.reads_asked = 0
        """By other members, for their clients."""
        self._commits = HeldCommits(loop, node, wake)

    def stop(self) -> None:
        self.is_stopped = True
        self._commits.stop()

    # -- in

    def receive(self, messages: Sequence[Message]) -> None:
        """What other members say; taken in at the next turn. Too much of it is dropped: raft
        repeats what matters."""
        if self.is_stopped or len(self.inbox) >= PEER_STREAM_MESSAGES_MAX:
            return
        self.inbox.extend(messages)
        self._wake()

    def step_inbox(self, now: float, *, leads: bool) -> None:
        """`leads`: whether this member did so at the end of the last turn."""
        inbox, self.inbox = self.inbox, []
        step = self._node.step
        for message in inbox:
            kind = message.type
            if kind is MessageType.PROPOSE:
                takes_promises = message.context == TAKES_PROMISES
                self._commits.expect(message.from_, takes_promises=takes_promises)
                self._step_proposal(message, now)
            else:
                if kind is MessageType.READ_INDEX:
                    self.reads_asked += 1
                    self._commits.expect(message.from_)
                step(message)
        if leads:
            self._commits.look()

    def _step_proposal(self, message: Message, now: float) -> None:
        """Somebody's forwarded proposal waits here while there is no leader (spec/raft.md §8), or
        while we hand over. None of it was taken, so that it may be given to the next leader."""
        try:
            self._node.step(message)
        except ProposalDropped as dropped:
            if dropped.reason in PASSING and len(self._held) < PEER_FOREIGN_PROPOSALS_MAX:
                self._held.append((now, message))

    def release_held(self) -> None:
        """There is a leader now."""
        if self._held:
            self.inbox += [message for _, message in self._held]
            self._held.clear()
            self._wake()

    def expire(self, before: float) -> None:
        """Whoever sent a proposal that waits since before `before` has given it up."""
        while self._held and self._held[0][0] < before:
            self._held.popleft()

    def report_unreachable(self, member: int) -> None:
        if not self.is_stopped:
            self._node.report_unreachable(member)
            self._wake()

    def report_snapshot(self, member: int, is_success: bool) -> None:
        if not self.is_stopped:
            self._node.report_snapshot(member, is_success)
            self._wake()

    # -- out

    def send(self, step: SendMessages) -> None:
        self._send_now(step.messages)

    def _send_now(self, messages: Sequence[Message]) -> None:
        is_leader = self._node.is_leader
        failpoints.hit("raftBeforeLeaderSend" if is_leader else "raftBeforeFollowerSend")
        self.network.send(messages)

    def send_after_persist(self, step: SendAfterPersist) -> None:
        if step.after_persist <= self._persisted_number:
            self._send_now(step.messages)
        else:
            self.unsent.append(step)

    def install(self, step: InstallSnapshot) -> None:
        if step.after_persist <= self._persisted_number:
            self._install(step.snapshot)
        else:
            self.unsent.append(step)

    def persisted(self, number: int, *, leads: bool) -> None:
        """Everything of the Readys up to `number` is on the disk: what rests on it may go."""
        self._persisted_number = number
        if leads:
            promises = self._commits.promises()
            if promises:
                self._send_now(promises)
            self._commits.look()
        unsent = self.unsent
        if not unsent:
            return
        messages: list[Message] = []
        installs: list[InstallSnapshot] = []
        while unsent and unsent[0].after_persist <= number:
            step = unsent.popleft()
            if isinstance(step, InstallSnapshot):
                installs.append(step)
            else:
                messages += step.messages
        if messages:
            self._send_now(messages)
        for install in installs:
            self._install(install.snapshot)
