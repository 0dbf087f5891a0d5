"""Membership changes on behalf of clients and of other members (spec/cluster.md §3).

One at a time: raft loses a second change while one is under way. Every change is judged here
before it is proposed, and again by the membership when it is applied. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from kvserver import errors
from kvserver.clock import Clock
from kvserver.errors import KeydeckError
from kvserver.limits import LEADER_ASK_SECONDS, PROMOTE_ANSWER_SECONDS
from kvserver.membership import Member, Membership, member_id
from kvserver.membership.codec import encode_conf_context
from kvserver.membership.strict import check_add, check_promote, check_remove, is_in_sync
from kvserver.peers.network import PeerNetwork, is_peer_url
from kvserver.raft.types import ConfChangeType
from kvserver.runtime.member_loop import MemberLoop


class MemberChanges:
    """Adds, removes, updates and promotes members."""

    def __init__(
        self, member: MemberLoop, network: PeerNetwork, clock: Clock, is_strict: bool
    ) -> None:
        self._member = member
        self._network = network
        self._clock = clock
        self._is_strict = is_strict
        self._lock = asyncio.Lock()
        self.promote_successes = 0
        self.promote_failures: Counter[str] = Counter()
        """By what the refusal says. Both count while this member leads."""

    @property
    def _membership(self) -> Membership:
        return self._member.membership

    # -- changes; each returns when it is applied here, and raises `RequestError`

    async def add(self, peer_urls: Sequence[str], is_learner: bool) -> Member:
        urls = _checked(peer_urls)
        number = member_id(urls, "", int(self._clock.wall()))
        added = Member(number, urls, is_learner=is_learner)
        kind = ConfChangeType.ADD_LEARNER_NODE if is_learner else ConfChangeType.ADD_NODE
        async with self._lock:
            if self._is_strict:
                check_add(self._membership.members(), is_learner, self._connected())
            await self._propose(kind, number, encode_conf_context(added))
        return added

    async def remove(self, number: int) -> None:
        async with self._lock:
            if self._membership.get(number) is None:
                raise errors.MemberNotFound
            if self._is_strict:
                check_remove(
                    self._membership.members(),
                    number,
                    self._member.member_id,
                    self._connected(),
                    self._network.active_since(number) is not None,
                )
            elif [voter.id for voter in self._membership.voters()] == [number]:
                raise errors.MemberNotEnoughStarted  # nobody would be left to decide anything
            await self._propose(ConfChangeType.REMOVE_NODE, number, b"")

    async def update(self, number: int, peer_urls: Sequence[str]) -> None:
        changed = Member(number, _checked(peer_urls))
        async with self._lock:
            if self._membership.get(number) is None:
                raise errors.MemberNotFound
            await self._propose(ConfChangeType.UPDATE_NODE, number, encode_conf_context(changed))

    async def promote(self, number: int) -> None:
        """At the leader, wherever it is (§3.4)."""
        end = self._member.loop.time() + self._member.request_timeout_seconds
        while True:
            if self._member.is_leader:
                await self.promote_here(number)
                return
            if self._member.leader and await self._promote_there(number):
                return
            if self._member.loop.time() > end:
                raise errors.Timeout
            await asyncio.sleep(LEADER_ASK_SECONDS)

    async def promote_here(self, number: int) -> None:
        try:
            await self._promote_here(number)
        except errors.RequestError as error:
            self.promote_failures[error.message] += 1
            raise
        self.promote_successes += 1

    async def _promote_here(self, number: int) -> None:
        if not self._member.is_leader:
            raise errors.NotLeader
        async with self._lock:
            known = self._membership.get(number)
            if known is None:
                raise errors.MemberNotFound
            if not known.is_learner:
                raise errors.MemberNotLearner
            self._check_in_sync(number)
            if self._is_strict:
                check_promote(self._membership.members())
            context = encode_conf_context(Member(number), is_promote=True, peer_urls=None)
            await self._propose(ConfChangeType.ADD_NODE, number, context)

    def _check_in_sync(self, number: int) -> None:
        status = self._member.raft_status()
        ours, theirs = status.progress.get(status.id), status.progress.get(number)
        if ours is None or theirs is None or not is_in_sync(theirs.match, ours.match):
            raise errors.LearnerNotReady

    async def _promote_there(self, number: int) -> bool:
        """Ask the leader; False when it could not be asked, or leads no more."""
        leader = self._membership.get(self._member.leader)
        for url in leader.peer_urls if leader else ():
            try:
                answer = await self._network.client.request(
                    url,
                    "POST",
                    f"/members/promote/{number}",
                    timeout_seconds=PROMOTE_ANSWER_SECONDS,
                )
            except KeydeckError:
                continue
            if answer.status == 200:
                await self._member.readable()
                return True
            if answer.status == 404:
                raise errors.MemberNotFound
            if answer.status == 412:
                for refusal in (errors.LearnerNotReady, errors.MemberNotLearner):
                    if refusal.message.removeprefix("etcdserver: ") in answer.text:
                        raise refusal
                raise errors.MemberNotEnoughStarted
        return False

    # -- how

    def _connected(self) -> set[int]:
        """Members with a link that has been up for a while, ourselves among them."""
        members = self._membership.members()
        found = {member.id for member in members if self._network.is_stable(member.id)}
        return found | {self._member.member_id}

    async def _propose(self, kind: ConfChangeType, number: int, context: bytes) -> None:
        waiter = _Outcome(self._member.loop)
        self._member.propose_conf_change(kind, number, context, waiter)
        await waiter.future


def _checked(peer_urls: Sequence[str]) -> tuple[str, ...]:
    if not peer_urls or not all(map(is_peer_url, peer_urls)):
        raise errors.MemberBadURLs
    return tuple(peer_urls)


class _Outcome:
    """A future that waits for a change's outcome."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def reply(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def fail(self, code: int, message: str) -> None:
        if not self.future.done():
            self.future.set_exception(errors.RequestError(message, errors.Code(code)))
