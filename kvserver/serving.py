"""What a member serves: gRPC services, plain HTTP, the peer port and the metrics, each built from
the parts behind them. The transports listen when the composition root says so.

Owner: the loop.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from typing import Any

from kvserver.bootstrap import map_bytes
from kvserver.clock import Clock
from kvserver.core import Core
from kvserver.datadir import DataDir
from kvserver.descriptors import connections_max, raise_limit
from kvserver.fs import FileSystem
from kvserver.limits import GRPC_OVERHEAD_BYTES
from kvserver.logs import Logger
from kvserver.metrics.registry import Registry
from kvserver.peers.server import RaftHttp, wants_body_stream
from kvserver.peers.snapshot_receiver import SnapshotReceiver
from kvserver.peers.snapshot_sender import SnapshotSender
from kvserver.runtime.applied_state import AppliedState
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.hashing import HashWorker
from kvserver.services.access import Access
from kvserver.services.auth import AuthService
from kvserver.services.cluster import ClusterService
from kvserver.services.concurrency import Queues
from kvserver.services.corruption import CorruptionChecks
from kvserver.services.downgrade import DowngradeService
from kvserver.services.election import ElectionService
from kvserver.services.gate import Gate, error_status
from kvserver.services.gateway import ClientApp, Door, Gateway
from kvserver.services.health import Health
from kvserver.services.http import HealthCounters, HttpApp, MonitoringApp
from kvserver.services.inner_client import InnerClient
from kvserver.services.kv import KVService
from kvserver.services.leader_guard import LeaderGuard
from kvserver.services.leader_leases import ForwardedLeases
from kvserver.services.lease import LeaseService
from kvserver.services.lock import LockService
from kvserver.services.maintenance import MaintenanceService
from kvserver.services.member_changes import MemberChanges
from kvserver.services.metrics import register_metrics
from kvserver.services.peer_hashes import PeerHashes
from kvserver.services.peer_http import PeerHttpApp
from kvserver.services.peer_side import PeerSide
from kvserver.services.pprof import ROOT as PPROF_ROOT
from kvserver.services.pprof import Pprof
from kvserver.services.reflection import Reflection
from kvserver.services.request_stats import RequestStats
from kvserver.services.request_traces import TRACE_SECONDS, RequestTraces
from kvserver.services.snapshot import SnapshotService
from kvserver.services.watch import WatchService
from kvserver.tracing import Tracing
from kvserver.transport import Method, TransportLimits
from kvserver.transport import Server as Transport
from kvserver.transport.slow_calls import EndedCall, Tell, watch_every_end


class Serving:
    """The transports of one member and the handlers behind them."""

    def __init__(
        self,
        *,
        core: Core,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        fs: FileSystem,
        layout: DataDir,
        flush: FlushThread,
        log: Logger,
    ) -> None:
        config, member, storage, network = core.config, core.member, core.storage, core.network
        recovered, cluster = core.found, core.cluster
        self._loop = loop
        self._clock = clock
        self._config = config
        self._member = member
        self._storage = storage
        self._background = core.background
        self._network = network
        self._bcrypt_cost = core.bcrypt_cost
        self._log = log
        self._sender = SnapshotSender(
            loop, network, AppliedState(member, storage), layout.snap, log
        )
        network.send_snapshot = self._sender.send
        self._received = SnapshotReceiver(
            loop=loop,
            network=network,
            flusher=flush,
            fs=fs,
            directory=layout.snap,
            map_bytes=lambda size: map_bytes(max(size, config.quota_bytes)),
            log=log,
        )
        core.installer.take_index = self._received.take_index
        self._hashing = HashWorker(loop)
        access = Access(core.checker, member, config.client_cert_auth, log)
        gate = Gate(member, access)
        self._snapshots = SnapshotService(
            loop,
            recovered.backend.open_snapshot,
            layout.snap,
            gate,
            log,
            core.background.figures.backup_seconds,
        )
        registry, health = Registry(), HealthCounters()
        is_profiled = config.enable_pprof or config.log_level == "debug"
        pprof = Pprof(clock) if is_profiled else None
        if pprof is not None:
            log.info("pprof is enabled", path=PPROF_ROOT)
        app = HttpApp(member, registry, health, log, pprof)
        limits = TransportLimits(
            connections_max=connections_max(raise_limit()),
            concurrent_streams_max=min(config.max_concurrent_streams, 2**31 - 1),
            ping_interval_seconds_min=config.grpc_keepalive_min_time,
            keepalive_seconds=config.grpc_keepalive_interval,
            keepalive_timeout_seconds=config.grpc_keepalive_timeout,
        )
        self._tracing = Tracing(config, log) if config.enable_distributed_tracing else None
        methods = list(self._methods(gate, access))
        self.clients = self._client_transport(methods, access, app, limits)
        member.when_answered(self.clients.flush)
        member.stood_still = self.clients.stood_still
        member.company.count_messages = self.clients.counters.messages_received
        raft = RaftHttp(network, clock)
        raft.receive_snapshot = self._received.receive
        side = PeerSide(member, core.background, network.identity, self._changes, self._leases)
        peers = PeerHttpApp(member, recovered.cluster_id, app, raft, cluster.known_members, side)
        self.peers = Transport(
            (),
            peers,
            limits,
            self._transport_log,
            wants_body_stream=wants_body_stream,
            kind="peer",
        )
        self.corruption = CorruptionChecks(member, core.background, PeerHashes(network, log), log)
        self.monitoring = Transport((), MonitoringApp(app), limits, self._transport_log)
        register_metrics(
            registry,
            member=member,
            storage=storage,
            duties=core.duties,
            background=core.background,
            gate=gate,
            changes=self._changes,
            network=network,
            health=health,
            transport=self.clients,
            methods=methods,
            features=config.feature_gates,
            is_extensive=config.metrics == "extensive",
        )

    def _client_transport(
        self, methods: list[Method], access: Access, app: HttpApp, limits: TransportLimits
    ) -> Transport:
        """`methods` gains the reflection of all others."""
        config = self._config
        names = {method.path[1:].rpartition("/")[0] for method in methods}
        methods += Reflection(sorted(names)).methods()
        access.require_rules(methods)
        if self._tracing is not None:
            self._tracing.wrap(methods)
        is_debugging = config.log_level == "debug"
        tell = self._teller(tells_all=is_debugging)
        if is_debugging:
            watch_every_end(methods, tell)
        gateway = Gateway(methods, self._transport_log) if config.enable_grpc_gateway else None
        client_app = ClientApp(Door(access, config.cors, config.host_whitelist), gateway, app)
        transport = Transport(
            methods,
            client_app,
            limits,
            self._transport_log,
            error_status,
            client_app.wants_body_stream,
            websocket_refusal=client_app.websocket_refusal,
        )
        transport.tell_slow_calls(
            min(config.warning_unary_request_duration or TRACE_SECONDS, TRACE_SECONDS), tell
        )
        return transport

    def _teller(self, *, tells_all: bool) -> Tell:
        """Who is told about calls that took long, or about all."""
        slow_seconds = self._config.warning_unary_request_duration
        stats = RequestStats(self._clock, self._log, slow_seconds, tells_all=tells_all)
        traces = RequestTraces(self._clock, self._log)

        def tell(call: EndedCall) -> None:
            stats.tell(call)
            traces.tell(call)

        return tell

    def _methods(self, gate: Gate, access: Access) -> Iterator[Method]:
        config, member = self._config, self._member
        size = config.max_request_bytes + GRPC_OVERHEAD_BYTES
        background = self._background
        kv = KVService(member, background, gate, access, config.max_txn_ops)
        yield from kv.methods(size)
        guard = LeaderGuard(member, self._loop, config.election_timeout / 1000)
        interval = config.watch_progress_notify_interval
        yield from WatchService(
            member,
            gate,
            guard,
            random.random,
            interval,
            access.permit_watch,
            self._tracing.watch_created if self._tracing else None,
        ).methods(size)
        forwarded = ForwardedLeases(member, self._network)
        lease = LeaseService(member, gate, guard, forwarded, access.permit_lease_keys)
        self._leases = lease
        yield from lease.methods(size)
        queues = Queues(InnerClient(member, kv, lease, access))
        yield from LockService(queues, gate).methods(size)
        yield from ElectionService(queues, gate, guard).methods(size)
        self._changes = MemberChanges(
            member, self._network, self._clock, config.strict_reconfig_check
        )
        yield from ClusterService(member, gate, self._changes).methods(size)
        yield from MaintenanceService(member, self._storage, background, gate, access).methods(size)
        yield from DowngradeService(member, gate).methods(size)
        yield from self._snapshots.methods(size)
        yield from AuthService(
            member,
            member.applier.auth,
            access,
            gate,
            self._hashing,
            self._bcrypt_cost,
            secrets.choice,
        ).methods(size)
        health = Health()
        if config.has_feature("StopGRPCServiceOnDefrag"):
            self._storage.on_defragmenting = lambda is_busy: health.set_serving(not is_busy)
        yield from health.methods()

    def start(self) -> None:
        """What asks other members by the clock."""
        config = self._config
        is_comparing = config.has_feature("CompactHashCheck")
        self.corruption.start(
            config.corrupt_check_time, config.compact_hash_check_time if is_comparing else 0
        )

    def stop_peers(self) -> None:
        """Nothing more goes to or comes from other members."""
        self.corruption.stop()
        self._sender.stop()
        self._received.stop()
        self._network.stop()

    def stop(self) -> None:
        """What runs beside the loop on behalf of clients."""
        self._hashing.stop()
        self._snapshots.stop()
        if self._tracing is not None:
            self._tracing.stop()

    def _transport_log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        getattr(self._log, level, self._log.info)(message, **fields)
