"""HashKV among members: ours, and theirs over the peer port (spec/maintenance.md C4). The other
side of the question is `services/peer_side.py`. Owner: the loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

from kvserver import errors
from kvserver.errors import KeydeckError
from kvserver.limits import PEER_HASH_SECONDS
from kvserver.logs import Logger
from kvserver.member.corruption import ToldHash
from kvserver.membership.ids import format_id
from kvserver.membership.types import Member
from kvserver.mvcc.hash import KVHash
from kvserver.peers.network import PeerNetwork
from kvserver.runtime.background import Background
from kvserver.runtime.member_loop import MemberLoop


async def hash_here(member: MemberLoop, background: Background, revision: int) -> KVHash:
    """The hash of our own store as of a revision, 0 meaning the current one. Raises `RequestError`,
    also when another store has taken this one's place meanwhile."""
    history = background.history
    job = member.store.hash_kv(revision)
    while not job.step():
        await asyncio.sleep(0)
        if background.history != history:
            raise errors.LeaderChanged
    assert job.hash is not None
    return job.hash


class PeerHashes:
    """Asks other members."""

    def __init__(self, network: PeerNetwork, log: Logger) -> None:
        self._network = network
        self._log = log

    async def ask_all(self, members: Iterable[Member], revision: int) -> dict[int, ToldHash | None]:
        """By member id; None for those who could not say. We ourselves are not asked."""
        own = self._network.identity.member_id
        asked = [member for member in members if member.id != own]
        told = await asyncio.gather(*(self.ask(member, revision) for member in asked))
        return {member.id: found for member, found in zip(asked, told, strict=True)}

    async def ask(self, member: Member, revision: int) -> ToldHash | None:
        """Why there is no answer is only logged: a member that lags, or has compacted further, is
        no worse for it."""
        reason = "the member has no peer URL"
        for url in member.peer_urls:
            try:
                answer = await self._network.client.request(
                    url,
                    "GET",
                    "/members/hashkv",
                    {
                        "Content-Type": "application/json",
                        "X-Etcd-Cluster-ID": format_id(self._network.identity.cluster_id),
                    },
                    b'{"revision":%d}' % revision,
                    PEER_HASH_SECONDS,
                )
                if answer.status == 200:
                    return _decode(answer.body)
                reason = answer.text
            except (KeydeckError, ValueError, KeyError, TypeError) as error:
                reason = str(error)
        self._log.warn(
            "cannot fetch hash from a peer",
            remote_peer_id=format_id(member.id),
            revision=revision,
            error=reason,
        )
        return None


def _decode(body: bytes) -> ToldHash:
    fields = json.loads(body)
    return ToldHash(
        int(fields.get("hash", 0)),
        int(fields.get("compact_revision", 0)),
        int(fields["header"]["revision"]),
    )
