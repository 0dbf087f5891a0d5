"""A member without its sockets, threads and files: raft, the state machines, what they owe the disk
and the loop that drives them, wired together.

The server puts listeners, threads and LMDB around it; the simulator (tests/support/sim) puts a
simulated network, disk and clock in their places and runs this very wiring. So whatever is not the
same in both is an argument here. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass

from kvserver.apply.applier import Applier
from kvserver.apply.auth import AuthApplier
from kvserver.auth import AuthStore, Checker, make_tokens
from kvserver.auth.passwords import COST_DEFAULT, COSTS
from kvserver.bootstrap import Recovered, State, rebuild
from kvserver.clock import Clock
from kvserver.cluster_duties import ClusterDuties
from kvserver.config import Config
from kvserver.config.durations import parse_duration
from kvserver.datadir import DataDir
from kvserver.fs import FileSystem
from kvserver.lease.lessor import ttl_seconds_min
from kvserver.limits import (
    APPEND_BYTES_MAX,
    APPLY_BYTES_MAX,
    FLUSH_INTERVAL_SECONDS,
    FLUSH_RECORDS_MAX,
    GRPC_OVERHEAD_BYTES,
    INFLIGHT_APPENDS_MAX,
    REQUEST_TIMEOUT_BASE_SECONDS,
    STALL_TICKS,
)
from kvserver.logs import Logger
from kvserver.member.compactor import Compactor, PeriodicCompactor, RevisionCompactor
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.membership.ids import RequestIds
from kvserver.peers.identity import Identity
from kvserver.peers.network import PeerNetwork
from kvserver.raft import Config as RaftConfig
from kvserver.raft import RawNode, plan_ready
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.background import Background
from kvserver.runtime.duties import Duties
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.install import Installer
from kvserver.runtime.lag import PROBE_SECONDS
from kvserver.runtime.member_loop import MemberLoop, Plan
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.runtime.timed_applier import TimedApplier
from kvserver.wal import purge_segments
from kvserver.watch.hub import Hub

MakeNetwork = Callable[[Identity, MemberLoop, Callable[[], None]], PeerNetwork]
"""(who we are, whom it tells what the others say, whom it tells that we are no member any more)."""


@dataclass(frozen=True, slots=True)
class RaftLimits:
    """What no flag changes, and a test makes tiny."""

    append_bytes_max: int = APPEND_BYTES_MAX
    inflight_appends_max: int = INFLIGHT_APPENDS_MAX
    apply_bytes_max: int = APPLY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a member stands on."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    fs: FileSystem
    layout: DataDir
    append: AppendThread
    flush: FlushThread
    make_network: MakeNetwork
    random: Callable[[int, int], int]
    """An integer between both bounds, bounds included."""
    hash_password: Callable[[str, int], bytes]
    """(password, bcrypt's cost)."""
    log: Logger
    raft_limits: RaftLimits = RaftLimits()
    lag_probe_seconds: float = PROBE_SECONDS
    plan: Plan = plan_ready


class Core:
    """Built from what the disk holds, then started."""

    def __init__(self, config: Config, found: Recovered, around: Surroundings) -> None:
        self.config = config
        self.found = found
        self._around = around
        self._log = around.log
        self.state = self._rebuild()
        self._build()

    # -- building

    def _rebuild(self) -> State:
        config = self.config
        return rebuild(
            self.found.backend,
            self._auth_store(),
            ttl_min_seconds=ttl_seconds_min(config.election_ticks, config.heartbeat_seconds),
            has_checkpoints=config.has_feature("LeaseCheckpoint"),
            learners_max=config.max_learners,
        )

    def _auth_store(self) -> AuthStore:
        config = self.config
        tokens = make_tokens(
            config.auth_token,
            simple_ttl_seconds=config.auth_token_ttl,
            parse_duration=parse_duration,
            read_file=self._around.fs.read_file,
            monotonic=self._around.clock.monotonic,
            wall=self._around.clock.wall,
            warn=self._log.warn,
        )
        cost = self.bcrypt_cost
        return AuthStore(
            self.found.backend, tokens, lambda password: self._around.hash_password(password, cost)
        )

    @property
    def bcrypt_cost(self) -> int:
        cost = self.config.bcrypt_cost
        return cost if cost in COSTS else COST_DEFAULT

    def _build(self) -> None:
        found, state = self.found, self.state
        cluster = self.cluster = self._make_cluster()
        node = self._make_node()
        header = HeaderBytes(found.cluster_id, found.member_id)
        header.set_term(node.term)
        background = self.background = self._make_background()
        storage = self.storage = self._make_storage(node)
        background.on_compacted = storage.when_durable
        self.checker = Checker(state.auth, state.lessor.keys)
        member = self.member = self._make_member(node, header)
        member.mailbox.network = self.network = self._make_network()
        self.installer = self._make_installer()
        member.install = self.installer.install
        cluster.attach(member, storage, self.network)
        storage.on_room = member.wake
        if state.interrupted_compaction is not None:
            background.add_compaction(state.interrupted_compaction)
        self.duties = self._make_duties()

    def _make_cluster(self) -> ClusterDuties:
        return ClusterDuties(
            loop=self._around.loop,
            clock=self._around.clock,
            config=self.config,
            recovered=self.found,
            membership=self.state.membership,
            log=self._log,
        )

    def _make_node(self) -> RawNode:
        config, found, limits = self.config, self.found, self._around.raft_limits
        return RawNode(
            RaftConfig(
                id=found.member_id,
                random=self._around.random,
                election_ticks=config.election_ticks,
                pre_vote=config.pre_vote,
                tells_commits=False,
                takes_promises=True,
                append_bytes_max=limits.append_bytes_max,
                inflight_appends_max=limits.inflight_appends_max,
                apply_bytes_max=limits.apply_bytes_max,
            ),
            found.raft_storage,
            found.applied_index,
        )

    def _make_background(self) -> Background:
        config = self.config
        background = Background(self._around.loop, self._around.clock, self._log)
        background.compaction_sleep_seconds = config.compaction_sleep_interval
        background.warning_seconds = config.warning_apply_duration
        self.state.store.compactions.batch_revisions = config.compaction_batch_limit
        return background

    def _make_storage(self, node: RawNode) -> StorageDuty:
        config, found, around = self.config, self.found, self._around
        return StorageDuty(
            loop=around.loop,
            clock=around.clock,
            backend=found.backend,
            flush=around.flush,
            wal=found.wal,
            snapshotter=found.snapshotter,
            purge=self._purge,
            append=around.append,
            node=node,
            membership=self.state.membership,
            snapshot_index=found.snapshot_index,
            flush_interval_seconds=config.backend_batch_interval or FLUSH_INTERVAL_SECONDS,
            flush_records=config.backend_batch_limit or FLUSH_RECORDS_MAX,
            snapshot_entries=config.snapshot_count,
            catch_up_entries=config.snapshot_catchup_entries,
            log=self._log,
        )

    def _make_applier(self) -> Applier:
        state = self.state
        return self._applier_type()(
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=AuthApplier(state.auth, self.checker),
            space=self.found.backend,
            quota_bytes=self.config.quota_bytes,
            on_compaction=self.background.add_compaction,
        )

    def _make_member(self, node: RawNode, header: HeaderBytes) -> MemberLoop:
        config, found, state, around = self.config, self.found, self.state, self._around
        election_seconds = config.election_timeout / 1000
        member = MemberLoop(
            loop=around.loop,
            clock=around.clock,
            node=node,
            member_id=found.member_id,
            applier=self._make_applier(),
            conf_changes=ConfChanges(state.membership, self.cluster.note_conf_state),
            storage=self.storage,
            append=around.append,
            request_ids=RequestIds(found.member_id, int(around.clock.wall() * 1000)),
            header=header,
            hub=Hub(state.store, header, config.max_request_bytes + GRPC_OVERHEAD_BYTES),
            applied_index=found.applied_index,
            request_bytes_max=config.max_request_bytes,
            request_timeout_seconds=REQUEST_TIMEOUT_BASE_SECONDS + 2 * election_seconds,
            election_timeout_seconds=election_seconds,
            stall_seconds=STALL_TICKS * config.heartbeat_seconds,
            on_leader=self.cluster.became_leader,
            log=self._log,
            plan=around.plan,
        )
        member.warning_seconds = config.warning_apply_duration
        member.is_learner = found.member_id in node.conf_state.learners
        return member

    def _make_network(self) -> PeerNetwork:
        found = self.found
        urls = tuple(self.config.initial_advertise_peer_urls)
        identity = Identity(found.member_id, found.cluster_id, urls)
        return self._around.make_network(identity, self.member, self.cluster.note_removed)

    def _make_installer(self) -> Installer:
        state, cluster = self.state, self.cluster
        return Installer(
            loop=self._around.loop,
            storage=self.storage,
            background=self.background,
            directory=self._around.layout.snap,
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=state.auth,
            on_membership=lambda new: cluster.note_conf_state(new.conf_state, new.index),
            log=self._log,
        )

    def _make_duties(self) -> Duties:
        return Duties(
            loop=self._around.loop,
            clock=self._around.clock,
            member=self.member,
            storage=self.storage,
            compactor=self._compactor(),
            heartbeat_seconds=self.config.heartbeat_seconds,
            lag_probe_seconds=self._around.lag_probe_seconds,
        )

    def _applier_type(self) -> Callable[..., Applier]:
        if self.config.metrics == "extensive":
            return functools.partial(TimedApplier, monotonic=self._around.clock.monotonic)
        return Applier

    def _compactor(self) -> Compactor | None:
        config = self.config
        now = self._around.clock.monotonic()
        if config.auto_compaction_mode == "revision":
            revisions = config.auto_compaction_revisions
            return RevisionCompactor(revisions, now) if revisions else None
        seconds = config.auto_compaction_seconds
        return PeriodicCompactor(seconds, now) if seconds else None

    def _purge(self) -> None:
        """Append thread: segments and snapshots beyond what the flags keep."""
        purge_segments(self._around.fs, self._around.layout.wal, self.config.max_wals)
        self.found.snapshotter.purge(self.config.max_snapshots)

    # -- running

    def start(self) -> None:
        """The duties by the clock, what is committed already, and the way to the others."""
        self.duties.start()
        self.member.start()
        self.cluster.start()

    def stop(self) -> None:
        """Take no more; tell everybody who waits. What is applied is not flushed by this."""
        self.duties.stop()
        self.background.stop()
        self.member.stop()
        self.storage.stop()
