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
        config, found, state, around = self.config, self.found, self.state, self._around
        loop, clock, limits = around.loop, around.clock, around.raft_limits
        cluster = self.cluster = ClusterDuties(
            loop=loop,
            clock=clock,
            config=config,
            recovered=found,
            membership=state.membership,
            log=self._log,
        )
        node = RawNode(
            RaftConfig(
                id=found.member_id,
                random=around.random,
                election_ticks=config.election_ticks,
                pre_vote=config.pre_vote,
                append_bytes_max=limits.append_bytes_max,
                inflight_appends_max=limits.inflight_appends_max,
                apply_bytes_max=limits.apply_bytes_max,
            ),
            found.raft_storage,
            found.applied_index,
        )
        header = HeaderBytes(found.cluster_id, found.member_id)
        header.set_term(node.term)
        background = self.background = Background(loop, clock, self._log)
        background.compaction_sleep_seconds = config.compaction_sleep_interval
        background.warning_seconds = config.warning_apply_duration
        state.store.compactions.batch_revisions = config.compaction_batch_limit
        storage = self.storage = StorageDuty(
            loop=loop,
            clock=clock,
            backend=found.backend,
            flush=around.flush,
            wal=found.wal,
            snapshotter=found.snapshotter,
            purge=self._purge,
            append=around.append,
            node=node,
            membership=state.membership,
            snapshot_index=found.snapshot_index,
            flush_interval_seconds=config.backend_batch_interval or FLUSH_INTERVAL_SECONDS,
            flush_records=config.backend_batch_limit or FLUSH_RECORDS_MAX,
            snapshot_entries=config.snapshot_count,
            catch_up_entries=config.snapshot_catchup_entries,
            log=self._log,
        )
        background.on_compacted = storage.when_durable
        self.checker = Checker(state.auth, state.lessor.keys)
        applier = self._applier_type()(
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=AuthApplier(state.auth, self.checker),
            space=found.backend,
            quota_bytes=config.quota_bytes,
            on_compaction=background.add_compaction,
        )
        hub = Hub(state.store, header, config.max_request_bytes + GRPC_OVERHEAD_BYTES)
        member = self.member = MemberLoop(
            loop=loop,
            clock=clock,
            node=node,
            member_id=found.member_id,
            applier=applier,
            conf_changes=ConfChanges(state.membership, cluster.note_conf_state),
            storage=storage,
            append=around.append,
            request_ids=RequestIds(found.member_id, int(clock.wall() * 1000)),
            header=header,
            hub=hub,
            applied_index=found.applied_index,
            request_bytes_max=config.max_request_bytes,
            request_timeout_seconds=REQUEST_TIMEOUT_BASE_SECONDS
            + 2 * config.election_timeout / 1000,
            election_timeout_seconds=config.election_timeout / 1000,
            stall_seconds=STALL_TICKS * config.heartbeat_seconds,
            on_leader=cluster.became_leader,
            log=self._log,
            plan=around.plan,
        )
        member.warning_seconds = config.warning_apply_duration
        member.is_learner = found.member_id in node.conf_state.learners
        urls = tuple(config.initial_advertise_peer_urls)
        identity = Identity(found.member_id, found.cluster_id, urls)
        network = self.network = around.make_network(identity, member, cluster.note_removed)
        member.mailbox.network = network
        self.installer = Installer(
            loop=loop,
            storage=storage,
            background=background,
            directory=around.layout.snap,
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=state.auth,
            on_membership=lambda new: cluster.note_conf_state(new.conf_state, new.index),
            log=self._log,
        )
        member.install = self.installer.install
        cluster.attach(member, storage, network)
        storage.on_room = member.wake
        if state.interrupted_compaction is not None:
            background.add_compaction(state.interrupted_compaction)
        self.duties = Duties(
            loop=loop,
            clock=clock,
            member=member,
            storage=storage,
            compactor=self._compactor(),
            heartbeat_seconds=config.heartbeat_seconds,
            lag_probe_seconds=around.lag_probe_seconds,
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
