"""The composition root: the one place that builds concrete things and wires them together."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
from collections.abc import Callable
from typing import Any

from kvserver import failpoints
from kvserver.apply.applier import Applier
from kvserver.apply.auth import AuthApplier
from kvserver.auth import AuthStore, Checker, make_tokens
from kvserver.auth.passwords import COST_DEFAULT, COSTS, hash_password
from kvserver.bootstrap import Recovered, State, rebuild, recover
from kvserver.clock import Clock, SystemClock
from kvserver.cluster_duties import ClusterDuties
from kvserver.config import Config
from kvserver.config.durations import parse_duration
from kvserver.datadir import DataDir, prepare
from kvserver.errors import FatalError
from kvserver.founding import founding_of
from kvserver.fs import RealFileSystem
from kvserver.lease.lessor import ttl_seconds_min
from kvserver.limits import (
    FLUSH_INTERVAL_SECONDS,
    FLUSH_RECORDS_MAX,
    GRPC_OVERHEAD_BYTES,
    QUOTA_BYTES_WARN,
    REQUEST_TIMEOUT_BASE_SECONDS,
)
from kvserver.listeners import listen, peer_dialling_tls
from kvserver.logs import Logger
from kvserver.member.compactor import Compactor, PeriodicCompactor, RevisionCompactor
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.membership.ids import RequestIds
from kvserver.peers.identity import Identity
from kvserver.peers.network import PeerNetwork
from kvserver.raft import Config as RaftConfig
from kvserver.raft import RawNode
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.background import Background
from kvserver.runtime.duties import Duties
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.install import Installer
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.runtime.timed_applier import TimedApplier
from kvserver.services.failpoints_http import answer_failpoints
from kvserver.serving import Serving
from kvserver.transport import Server as Transport
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION
from kvserver.wal import purge_segments
from kvserver.watch.hub import Hub


class MemberServer:
    """One member of a cluster with everything around it. Owner: the loop."""

    def __init__(
        self,
        config: Config,
        log: Logger,
        loop: asyncio.AbstractEventLoop,
        clock: Clock | None = None,
    ) -> None:
        refuse_what_is_missing(config)
        self._config = config
        self._log = log
        self._loop = loop
        self._clock = clock or SystemClock()
        self._fs = RealFileSystem()
        self._fatal: asyncio.Future[None] = loop.create_future()
        self._layout = DataDir.at(config.data_dir, config.wal_dir)
        self._lock = prepare(self._fs, self._layout, log)
        gc.disable()
        try:
            self._recovered = self._recover()
            self._state = self._rebuild()
            self._build()
        except BaseException:
            gc.enable()
            self._lock.release()
            raise

    # -- building

    def _recover(self) -> Recovered:
        config = self._config
        if config.quota_bytes > QUOTA_BYTES_WARN:
            self._log.warn("quota exceeds the recommended maximum", quota_bytes=config.quota_bytes)
        founding = founding_of(config, peer_dialling_tls(config))
        return recover(
            self._fs,
            self._layout.snap,
            self._layout.wal,
            founding,
            config.quota_bytes,
            self._log,
        )

    def _rebuild(self) -> State:
        config = self._config
        return rebuild(
            self._recovered.backend,
            self._auth_store(),
            ttl_min_seconds=ttl_seconds_min(config.election_ticks, config.heartbeat_seconds),
            has_checkpoints=config.has_feature("LeaseCheckpoint"),
            learners_max=config.max_learners,
        )

    def _auth_store(self) -> AuthStore:
        config = self._config
        tokens = make_tokens(
            config.auth_token,
            simple_ttl_seconds=config.auth_token_ttl,
            parse_duration=parse_duration,
            read_file=self._fs.read_file,
            monotonic=self._clock.monotonic,
            wall=self._clock.wall,
            warn=self._log.warn,
        )
        cost = self._bcrypt_cost
        return AuthStore(
            self._recovered.backend, tokens, lambda password: hash_password(password, cost)
        )

    @property
    def _bcrypt_cost(self) -> int:
        cost = self._config.bcrypt_cost
        return cost if cost in COSTS else COST_DEFAULT

    def _build(self) -> None:
        config, found, state, loop = self._config, self._recovered, self._state, self._loop
        cluster = self._cluster = ClusterDuties(
            loop=loop,
            clock=self._clock,
            config=config,
            recovered=found,
            membership=state.membership,
            log=self._log,
        )
        node = RawNode(
            RaftConfig(
                id=found.member_id,
                random=random.SystemRandom().randint,
                election_ticks=config.election_ticks,
                pre_vote=config.pre_vote,
            ),
            found.raft_storage,
            found.applied_index,
        )
        append = self._append = AppendThread(loop, self._clock, self._die)
        flush = self._flush = FlushThread(loop, self._die)
        header = HeaderBytes(found.cluster_id, found.member_id)
        header.set_term(node.term)
        background = self._background = Background(loop, self._clock, self._log)
        background.compaction_sleep_seconds = config.compaction_sleep_interval
        background.warning_seconds = config.warning_apply_duration
        state.store.compactions.batch_revisions = config.compaction_batch_limit
        storage = self._storage = StorageDuty(
            loop=loop,
            clock=self._clock,
            backend=found.backend,
            flush=flush,
            wal=found.wal,
            snapshotter=found.snapshotter,
            purge=self._purge,
            append=append,
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
        self._checker = Checker(state.auth, state.lessor.keys)
        applier = self._applier_type()(
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=AuthApplier(state.auth, self._checker),
            space=found.backend,
            quota_bytes=config.quota_bytes,
            on_compaction=background.add_compaction,
        )
        hub = Hub(state.store, header, config.max_request_bytes + GRPC_OVERHEAD_BYTES)
        member = self._member = MemberLoop(
            loop=loop,
            clock=self._clock,
            node=node,
            member_id=found.member_id,
            applier=applier,
            conf_changes=ConfChanges(state.membership, cluster.note_conf_state),
            storage=storage,
            append=append,
            request_ids=RequestIds(found.member_id, int(self._clock.wall() * 1000)),
            header=header,
            hub=hub,
            applied_index=found.applied_index,
            request_bytes_max=config.max_request_bytes,
            request_timeout_seconds=REQUEST_TIMEOUT_BASE_SECONDS
            + 2 * config.election_timeout / 1000,
            election_timeout_seconds=config.election_timeout / 1000,
            on_leader=cluster.became_leader,
            log=self._log,
        )
        member.warning_seconds = config.warning_apply_duration
        member.is_learner = found.member_id in node.conf_state.learners
        network = self._network = PeerNetwork(
            loop=loop,
            clock=self._clock,
            identity=Identity(
                found.member_id, found.cluster_id, tuple(config.initial_advertise_peer_urls)
            ),
            tls=peer_dialling_tls(config),
            raft=member,
            on_removed=cluster.note_removed,
            log=self._log,
        )
        member.network = network
        member.install = Installer(
            storage=storage,
            background=background,
            directory=self._layout.snap,
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=state.auth,
            on_membership=lambda new: cluster.note_conf_state(new.conf_state, new.index),
        ).install
        cluster.attach(member, storage, network)
        storage.on_room = member.wake
        if state.interrupted_compaction is not None:
            background.add_compaction(state.interrupted_compaction)
        self._duties = Duties(
            loop=loop,
            clock=self._clock,
            member=member,
            storage=storage,
            compactor=self._compactor(),
            heartbeat_seconds=config.heartbeat_seconds,
        )
        self._build_serving()

    def _applier_type(self) -> Callable[..., Applier]:
        if self._config.metrics == "extensive":
            return functools.partial(TimedApplier, monotonic=self._clock.monotonic)
        return Applier

    def _compactor(self) -> Compactor | None:
        config = self._config
        now = self._clock.monotonic()
        if config.auto_compaction_mode == "revision":
            revisions = config.auto_compaction_revisions
            return RevisionCompactor(revisions, now) if revisions else None
        seconds = config.auto_compaction_seconds
        return PeriodicCompactor(seconds, now) if seconds else None

    def _build_serving(self) -> None:
        self._serving = Serving(
            loop=self._loop,
            clock=self._clock,
            config=self._config,
            layout=self._layout,
            recovered=self._recovered,
            checker=self._checker,
            bcrypt_cost=self._bcrypt_cost,
            member=self._member,
            storage=self._storage,
            flush=self._flush,
            background=self._background,
            duties=self._duties,
            cluster=self._cluster,
            network=self._network,
            log=self._log,
        )

    # -- running

    async def start(self) -> None:
        """Returns when clients are served. Raises `FatalError` if that cannot be."""
        self._log.info(
            "starting a Keydeck server",
            keydeck_version=KEYDECK_VERSION,
            server_version=SERVER_VERSION,
            local_member_id=f"{self._recovered.member_id:x}",
            data_dir=self._config.data_dir,
        )
        self._loop.set_exception_handler(self._callback_failed)
        self._append.start()
        self._flush.start()
        await self._serve_failpoints()
        config, serving, log = self._config, self._serving, self._log
        await listen(serving.peers, config.listen_peer_urls, config, log, is_peer=True)
        freeze_garbage()
        self._duties.start()
        self._member.start()
        cluster = self._cluster
        cluster.start()
        await asyncio.wait(
            (cluster.published, self._fatal, cluster.removed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._fatal.done():
            self._fatal.result()
        if cluster.removed.done():
            return
        http_apart = config.listen_client_http_urls
        await listen(
            serving.clients, config.listen_client_urls, config, log, serve_http=not http_apart
        )
        await listen(serving.clients, http_apart, config, log, serve_grpc=False)
        await listen(serving.monitoring, config.listen_metrics_urls, config, log, serve_grpc=False)
        self._log.info("ready to serve client requests")

    async def _serve_failpoints(self) -> None:
        """Tests only: `GOFAIL_HTTP=host:port` opens the failpoint endpoint."""
        address = os.environ.get("GOFAIL_HTTP", "")
        failpoints.arm_from_variable(os.environ.get("GOFAIL_FAILPOINTS", ""))
        if address:
            self._failpoints = Transport((), answer_failpoints)
            host, _, port = address.rpartition(":")
            await self._failpoints.listen_tcp(host or "127.0.0.1", int(port), serve_grpc=False)

    async def wait(self) -> None:
        """Until something fatal happens, which is raised, or this member is removed."""
        await asyncio.wait(
            (self._fatal, self._cluster.removed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._fatal.done():
            self._fatal.result()

    async def stop(self, grace_seconds: float = 1.0) -> None:
        """Take no more, answer what is open, make everything durable, let the disk go."""
        serving = self._serving
        if not self._fatal.done():
            await self._cluster.hand_over()
        await serving.clients.drain(grace_seconds)
        self._cluster.stop()
        serving.stop_peers()
        await serving.peers.drain(0)
        await serving.monitoring.drain(0)
        self._duties.stop()
        self._background.stop()
        serving.stop()
        self._member.stop()
        self._storage.stop()
        if not self._fatal.done():
            durable = asyncio.Event()
            self._storage.when_durable(durable.set)
            waiting = self._loop.create_task(durable.wait())
            await asyncio.wait((waiting, self._fatal), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await self._flush.close()
        self._append.stop()
        self._recovered.backend.close()
        self._recovered.wal.close()
        self._lock.release()

    def _die(self, error: BaseException) -> None:
        if not self._fatal.done():
            self._member.stop()
            self._fatal.set_exception(error)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of the loop raised. A socket's trouble is its own; anything else may have left
        state half changed, and a member that guesses is worse than one that stops."""
        error = context.get("exception")
        if isinstance(error, OSError) or error is None or "transport" in context:
            self._log.warn(str(context.get("message", "event loop")), error=repr(error))
            return
        self._die(error)

    def _purge(self) -> None:
        """Append thread: segments and snapshots beyond what the flags keep."""
        purge_segments(self._fs, self._layout.wal, self._config.max_wals)
        self._recovered.snapshotter.purge(self._config.max_snapshots)


def refuse_what_is_missing(config: Config) -> None:
    """Flags that promise protection this release does not give are refused, never ignored."""
    missing = {
        "auto-tls": config.auto_tls,
        "peer-auto-tls": config.peer_auto_tls,
        "client-crl-file": config.client_crl_file,
        "peer-crl-file": config.peer_crl_file,
        "client-cert-allowed-hostname": config.client_cert_allowed_hostname,
        "peer-cert-allowed-cn": config.peer_cert_allowed_cn,
        "peer-cert-allowed-hostname": config.peer_cert_allowed_hostname,
        "cipher-suites": config.cipher_suites,
        "discovery-endpoints": config.discovery_endpoints,
        "discovery-srv": config.discovery_srv,
        "enable-distributed-tracing": config.enable_distributed_tracing,
        "force-new-cluster": config.force_new_cluster,
        "unsafe-no-fsync": config.unsafe_no_fsync,
    }
    named = [f"--{flag}" for flag, value in missing.items() if value]
    if named:
        raise FatalError(f"this release does not support {', '.join(named)}")


def freeze_garbage() -> None:
    """What start-up built stays: full collections must not walk a million index entries
    (design D10). While it was built nothing was collected, for it is all there to stay."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
