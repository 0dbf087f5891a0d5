"""This member's place in its cluster: whom it dials, what it tells about itself, how it leaves.

The member's parts call back here when raft, the membership or a link has changed.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from google.protobuf.message import Message

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.bootstrap import Recovered
from kvserver.clock import Clock
from kvserver.config import Config
from kvserver.limits import REMOVED_STOP_SECONDS
from kvserver.logs import Logger
from kvserver.member.proposal import CallbackWaiter
from kvserver.membership import Member, Membership
from kvserver.membership.legacy_requests import needs_legacy, put_attributes, put_version
from kvserver.peers.identity import minor_version
from kvserver.peers.network import PeerNetwork
from kvserver.peers.versions import VersionMonitor
from kvserver.proto import membership_pb2
from kvserver.raft import ConfState
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.version import SERVER_VERSION

FAST_FORWARD_PEERS_MIN = 2
FAST_FORWARD_SECONDS_MAX = 5.0
PROPOSE_RETRY_SECONDS = 0.2
VERSION_GRACE_SECONDS = 2.0
VERSION_ASK_SECONDS = 0.1
NO_LEGACY_SINCE = (3, 5)
"""A cluster of this version has no member that needs legacy requests."""
Done = Callable[[errors.RequestError | None], None]


class ClusterDuties:
    """`attach` gives it the parts that were built with its callbacks."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        config: Config,
        recovered: Recovered,
        membership: Membership,
        log: Logger,
    ) -> None:
        self.published: asyncio.Future[None] = loop.create_future()
        """Done when the cluster knows our name and client URLs."""
        self.removed: asyncio.Future[None] = loop.create_future()
        """Done when this member is no longer one."""
        self._loop = loop
        self._clock = clock
        self._config = config
        self._member_id = recovered.member_id
        self._known_before = recovered.known_members
        self._membership = membership
        self._log = log
        self._publishing: asyncio.Task[None] | None = None
        self._started_at = clock.monotonic()

    def attach(self, member: MemberLoop, storage: StorageDuty, network: PeerNetwork) -> None:
        self._member = member
        self._storage = storage
        self._network = network
        self._versions = VersionMonitor(
            client=network.client,
            member_id=self._member_id,
            members=self._membership.members,
            current=lambda: self._membership.version,
            downgrade_target=lambda: self._membership.downgrade_target,
            downgrade_check_seconds=self._config.downgrade_check_time,
            is_leader=lambda: member.is_leader and not member.is_stopped,
            propose=self._propose_version,
            end_downgrade=self._end_downgrade,
        )

    def start(self) -> None:
        self._started_at = self._clock.monotonic()
        self._network.on_link = self._link_is_up
        self._network.start()
        self._reconcile()
        if not self._is_alone:
            self._publish()

    def stop(self) -> None:
        self._versions.stop()
        if self._publishing is not None:
            self._publishing.cancel()

    # -- whom there is

    @property
    def _is_alone(self) -> bool:
        return self._member.node.conf_state.voters == (self._member_id,)

    def note_conf_state(self, conf_state: ConfState, index: int) -> None:
        self._storage.note_conf_state(conf_state, index)
        self._member.is_learner = self._member_id in conf_state.learners
        self._reconcile()
        if self._membership.is_removed(self._member_id):
            # Not at once: the leader's own removal has to reach the others first.
            self._loop.call_later(REMOVED_STOP_SECONDS, self.note_removed)

    def known_members(self) -> list[Member]:
        """The membership; until the log of a joined cluster has arrived here, what the others
        told."""
        membership, own = self._membership, self._member_id
        members = membership.members()
        if membership.get(own) is not None or membership.is_removed(own):
            return members
        known = {member.id: member for member in self._known_before}
        known.update((member.id, member) for member in members)
        return [known[number] for number in sorted(known)]

    def _reconcile(self) -> None:
        self._network.reconcile(self.known_members(), self._membership.is_removed)

    def _link_is_up(self) -> None:
        """With two peers reached soon after the start, the first election need not wait for a
        whole timeout (spec/peer.md §6)."""
        if self._network.active_count() < FAST_FORWARD_PEERS_MIN:
            return
        self._network.on_link = lambda: None
        is_soon = self._clock.monotonic() - self._started_at < FAST_FORWARD_SECONDS_MAX
        if is_soon and self._config.initial_election_tick_advance:
            self._member.fast_forward(self._config.election_ticks - 2)

    # -- leaving

    def note_removed(self) -> None:
        """Removed members stop, and never come back (spec/cluster.md §3.2)."""
        if not self.removed.done():
            self._log.error("the member has been permanently removed from the cluster")
            self.removed.set_result(None)

    async def hand_over(self, seconds_max: float) -> None:
        """A leader that stops leaves another voter in its place (spec/cluster.md §4), if that voter
        takes it so soon."""
        member = self._member
        if not member.is_leader or self._is_alone or self.removed.done():
            return
        links = [
            (since, voter)
            for voter in member.node.conf_state.voters
            if (since := self._network.active_since(voter)) is not None
        ]
        if not links:
            return
        target = min(links)[1]
        self._log.info("leadership transfer starting", target_member_id=f"{target:x}")
        try:
            async with asyncio.timeout(seconds_max):
                await member.move_leader(target)
        except (errors.RequestError, TimeoutError) as error:
            self._log.warn("leadership transfer failed", error=repr(error))
        else:
            self._log.info("leadership transfer finished", target_member_id=f"{target:x}")

    # -- what is told through raft

    def became_leader(self) -> None:
        self._versions.start(self._loop)
        if not self._is_alone:
            return
        wanted = self._versions.wanted([SERVER_VERSION])
        if wanted is not None:
            self._propose_version(wanted)
        self._publish_attributes()

    def _propose_version(self, version: str, is_legacy: bool = False) -> None:
        if is_legacy:
            self._try(lambda: self._member.propose_legacy(put_version(version), None), None)
            return
        request = membership_pb2.ClusterVersionSetRequest(ver=version)
        self._propose(Kind.CLUSTER_VERSION_SET, request, None)

    def _end_downgrade(self) -> None:
        self._log.info(
            "the cluster has been downgraded", target_version=self._membership.downgrade_target
        )
        request = membership_pb2.DowngradeInfoSetRequest(enabled=False)
        self._propose(Kind.DOWNGRADE_INFO_SET, request, None)

    def _publish(self) -> None:
        if self._is_alone:
            self._publish_attributes()
        else:
            self._publishing = self._loop.create_task(self._publish_among_others())

    def _publish_attributes(self) -> None:
        """Tell the cluster our name and client URLs (spec/cluster.md §2.1)."""
        name, client_urls = self._config.name, self._config.advertise_client_urls
        attributes = membership_pb2.ClusterMemberAttrSetRequest(
            member_ID=self._member_id,
            member_attributes=membership_pb2.Attributes(name=name, client_urls=client_urls),
        )
        self._propose(Kind.CLUSTER_MEMBER_ATTR_SET, attributes, self._published_attributes)

    async def _publish_among_others(self) -> None:
        """A member of 3.4 stops for good at the form that others use (spec/raft-wire.md W6), so
        everybody's version is asked for first, until the cluster's says that there is none. Who
        does not answer for a while is taken to be newer."""
        end = self._loop.time() + VERSION_GRACE_SECONDS
        while (minor_version(self._membership.version or "") or (0, 0)) < NO_LEGACY_SINCE:
            versions = await self._versions.ask()
            if needs_legacy(versions):
                self._publish_legacy()
                return
            if None not in versions or self._loop.time() > end:
                break
            await asyncio.sleep(VERSION_ASK_SECONDS)
        self._publish_attributes()

    def _publish_legacy(self) -> None:
        name, client_urls = self._config.name, self._config.advertise_client_urls
        request = put_attributes(self._member_id, name, client_urls)
        waiter = CallbackWaiter(self._published_attributes)
        self._try(lambda: self._member.propose_legacy(request, waiter), self._published_attributes)

    def _propose(self, kind: Kind, request: Message, done: Done | None) -> None:
        waiter = CallbackWaiter(done) if done else None
        body = request.SerializeToString()
        self._try(lambda: self._member.propose(kind, request, body, waiter), done)

    def _try(self, propose: Callable[[], None], done: Done | None) -> None:
        """A member that is behind with applying takes nothing at the moment: `done` hears that.
        Nothing may be raised, for this may be called from within an apply."""
        try:
            propose()
        except errors.RequestError as refusal:
            if done is not None:
                done(refusal)

    def _published_attributes(self, error: errors.RequestError | None) -> None:
        if error is None and not self.published.done():
            self._log.info(
                "published local member to cluster through raft",
                local_member_id=f"{self._member.member_id:x}",
            )
            self.published.set_result(None)
        elif error is not None and not self._member.is_stopped:
            # A leader that has been removed refuses everything at once until its process ends.
            self._loop.call_later(PROPOSE_RETRY_SECONDS, self._publish)
