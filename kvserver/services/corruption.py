"""Looking for members whose data is not the cluster's (spec/maintenance.md §9).

Whoever is found gets a CORRUPT alarm, which is replicated and stops writes everywhere until an
operator has replaced the member. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.errors import FatalError
from kvserver.logs import Logger
from kvserver.member.corruption import (
    ToldHash,
    compact_verdict,
    differing,
    periodic_culprit,
)
from kvserver.member.proposal import CallbackWaiter
from kvserver.membership.ids import format_id
from kvserver.mvcc.hash import KVHash
from kvserver.proto import rpc_pb2
from kvserver.runtime.background import Background
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.peer_hashes import PeerHashes, hash_here


class CorruptionChecks:
    """The initial check of this member, and the leader's checks of all."""

    def __init__(
        self, member: MemberLoop, background: Background, peers: PeerHashes, log: Logger
    ) -> None:
        self._member = member
        self._background = background
        self._peers = peers
        self._log = log
        self._compaction_checked = 0
        """The newest compaction whose hashes agreed on all members."""
        self._tasks: list[asyncio.Task[None]] = []

    # -- when

    def start(self, period_seconds: float, compaction_period_seconds: float) -> None:
        """0 is off, for either."""
        for seconds, check in (
            (period_seconds, self.check_members),
            (compaction_period_seconds, self.check_compactions),
        ):
            if seconds > 0:
                self._tasks.append(self._member.loop.create_task(self._repeat(seconds, check)))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _repeat(self, seconds: float, check: Callable[[], Awaitable[None]]) -> None:
        while not self._member.is_stopped:
            await asyncio.sleep(seconds)
            if not self._member.is_leader:
                continue
            try:
                await check()
            except errors.RequestError as error:
                self._log.warn("failed to check for corruption", error=error.message)

    # -- before anything is served

    async def check_before_start(self) -> None:
        """C1. Raises `FatalError`."""
        own_id = self._member.member_id
        self._log.info("starting initial corruption check", local_member_id=format_id(own_id))
        own = await self._hash_here(0)
        told = await self._peers.ask_all(self._member.membership.members(), own.revision)
        answered = {number: found for number, found in told.items() if found is not None}
        wrong = differing(_told(own), answered)
        for number in wrong:
            self._log.warn(
                "found different hash values from remote peer",
                local_member_id=format_id(own_id),
                local_member_revision=own.revision,
                local_member_hash=own.hash,
                remote_peer_id=format_id(number),
                remote_peer_hash=answered[number].hash,
            )
        if wrong:
            raise FatalError(
                f"{format_id(own_id)} found data inconsistency with peers: find the member whose "
                "data is wrong and replace it"
            )
        self._log.info(
            "initial corruption checking passed; no corruption", peers_compared=len(answered)
        )

    # -- while this member leads

    async def check_members(self) -> None:
        """C2: everybody's current data, as of one revision."""
        member = self._member
        first = await self._hash_here(0)
        told = await self._peers.ask_all(member.membership.members(), first.revision)
        await member.readable()
        second = await self._hash_here(0)
        answered = {number: found for number, found in told.items() if found is not None}
        culprit = periodic_culprit(member.member_id, _told(first), _told(second), answered)
        if culprit is None:
            self._log.info(
                "finished periodic corruption check",
                revision=first.revision,
                hash=first.hash,
                peers_compared=len(answered),
            )
        else:
            self._accuse(culprit, first)

    async def check_compactions(self) -> None:
        """C3: what compactions have hashed, newest first."""
        member = self._member
        for own in reversed(tuple(member.store.compactions.hashes)):
            if own.revision <= self._compaction_checked:
                return
            told = await self._peers.ask_all(member.membership.members(), own.revision)
            if not told:
                return
            verdict = compact_verdict(member.member_id, _told(own), told)
            for number in verdict.accused:
                self._accuse(number, own)
            if not verdict.accused and verdict.is_whole:
                self._compaction_checked = own.revision
                self._log.info(
                    "successfully checked hash on whole cluster",
                    revision=own.revision,
                    hash=own.hash,
                    peers_compared=len(told),
                )
            if verdict.is_settled:
                return

    def _accuse(self, number: int, own: KVHash) -> None:
        self._log.error(
            "found data inconsistency with peers",
            corrupted_member_id=format_id(number),
            leader_revision=own.revision,
            leader_compact_revision=own.compact_revision,
            leader_hash=own.hash,
        )
        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=number, alarm=rpc_pb2.CORRUPT
        )
        waiter = CallbackWaiter(self._accused)
        self._member.propose(Kind.ALARM, request, request.SerializeToString(), waiter)

    def _accused(self, error: errors.RequestError | None) -> None:
        if error is not None:
            self._log.warn("failed to raise a CORRUPT alarm", error=error.message)

    async def _hash_here(self, revision: int) -> KVHash:
        return await hash_here(self._member, self._background, revision)


def _told(own: KVHash) -> ToldHash:
    """What another member would have heard from us."""
    return ToldHash(own.hash, own.compact_revision, own.revision)
