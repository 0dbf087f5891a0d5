"""The composition root: the one place that builds concrete things and wires them together."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from kvserver import errors, failpoints
from kvserver.apply.applier import Applier
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth import AuthStore, Checker, make_tokens
from kvserver.auth.passwords import COST_DEFAULT, COSTS, hash_password
from kvserver.bootstrap import Founding, Recovered, State, map_bytes, rebuild, recover
from kvserver.clock import Clock, SystemClock
from kvserver.config import Config
from kvserver.config.durations import parse_duration
from kvserver.datadir import DataDir, prepare
from kvserver.errors import FatalError
from kvserver.fs import RealFileSystem
from kvserver.lease.lessor import ttl_seconds_min
from kvserver.limits import (
    FLUSH_INTERVAL_SECONDS,
    FLUSH_RECORDS_MAX,
    GRPC_OVERHEAD_BYTES,
    QUOTA_BYTES_DEFAULT,
    QUOTA_BYTES_WARN,
    REMOVED_STOP_SECONDS,
    REQUEST_TIMEOUT_BASE_SECONDS,
)
from kvserver.listeners import listen, peer_dialling_tls
from kvserver.logs import Logger
from kvserver.member.compactor import Compactor, PeriodicCompactor, RevisionCompactor
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.member.proposal import CallbackWaiter
from kvserver.membership.ids import RequestIds
from kvserver.membership.types import Member
from kvserver.metrics.registry import Registry
from kvserver.peers.identity import Identity
from kvserver.peers.joining import join, refuse_if_bootstrapped
from kvserver.peers.network import PeerNetwork
from kvserver.peers.server import RaftHttp, wants_body_stream
from kvserver.peers.snapshot_receiver import SnapshotReceiver
from kvserver.peers.snapshot_sender import SnapshotSender
from kvserver.peers.versions import VersionMonitor
from kvserver.proto import membership_pb2
from kvserver.raft import Config as RaftConfig
from kvserver.raft import ConfState, RawNode, Snapshot
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.applied_state import AppliedState
from kvserver.runtime.background import Background
from kvserver.runtime.duties import Duties
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.hashing import HashWorker
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.services.access import Access
from kvserver.services.auth import AuthService
from kvserver.services.cluster import ClusterService
from kvserver.services.concurrency import Queues
from kvserver.services.election import ElectionService
from kvserver.services.failpoints_http import answer_failpoints
from kvserver.services.gate import Gate, error_status
from kvserver.services.gateway import ClientApp, Door, Gateway
from kvserver.services.grpc_metrics import register_handling_times
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
from kvserver.services.peer_http import PeerHttpApp
from kvserver.services.peer_side import PeerSide
from kvserver.services.reflection import Reflection
from kvserver.services.snapshot import SnapshotService
from kvserver.services.watch import WatchService
from kvserver.snap.snapshotter import snapshot_db_name
from kvserver.transport import Method, TransportLimits
from kvserver.transport import Server as Transport
from kvserver.version import CLUSTER_VERSION, KEYDECK_VERSION, SERVER_VERSION
from kvserver.wal import purge_segments
from kvserver.watch.hub import Hub

FAST_FORWARD_PEERS_MIN = 2
FAST_FORWARD_SECONDS_MAX = 5.0
Done = Callable[[errors.RequestError | None], None]


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
        self._published: asyncio.Future[None] = loop.create_future()
        self._removed: asyncio.Future[None] = loop.create_future()
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

    @property
    def _quota_bytes(self) -> int:
        return self._config.quota_backend_bytes or QUOTA_BYTES_DEFAULT

    def _recover(self) -> Recovered:
        config = self._config
        if self._quota_bytes > QUOTA_BYTES_WARN:
            self._log.warn("quota exceeds the recommended maximum", quota_bytes=self._quota_bytes)
        founding = founding_of(config, peer_dialling_tls(config))
        return recover(
            self._fs,
            self._layout.snap,
            self._layout.wal,
            founding,
            self._quota_bytes,
            self._log,
        )

    def _rebuild(self) -> State:
        config = self._config
        return rebuild(
            self._recovered.backend,
            self._auth_store(),
            ttl_min_seconds=ttl_seconds_min(self._election_ticks, self._heartbeat_seconds),
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

    @property
    def _heartbeat_seconds(self) -> float:
        return self._config.heartbeat_interval / 1000

    @property
    def _election_ticks(self) -> int:
        return self._config.election_timeout // self._config.heartbeat_interval

    def _build(self) -> None:
        config, found, state, loop = self._config, self._recovered, self._state, self._loop
        node = RawNode(
            RaftConfig(
                id=found.member_id,
                random=random.SystemRandom().randint,
                election_ticks=self._election_ticks,
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
        applier = Applier(
            store=state.store,
            lessor=state.lessor,
            alarms=state.alarms,
            membership=state.membership,
            auth=AuthApplier(state.auth, self._checker),
            space=found.backend,
            quota_bytes=self._quota_bytes,
            on_compaction=background.add_compaction,
        )
        hub = Hub(state.store, header, config.max_request_bytes + GRPC_OVERHEAD_BYTES)
        member = self._member = MemberLoop(
            loop=loop,
            clock=self._clock,
            node=node,
            member_id=found.member_id,
            applier=applier,
            conf_changes=ConfChanges(state.membership, self._note_conf_state),
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
            on_leader=self._became_leader,
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
            on_removed=self._note_removed,
            log=self._log,
        )
        member.network = network
        member.install = self._install
        self._versions = VersionMonitor(
            client=network.client,
            member_id=found.member_id,
            members=state.membership.members,
            current=lambda: state.membership.version,
            is_leader=lambda: member.is_leader and not member.is_stopped,
            propose=self._propose_version,
        )
        storage.on_room = member.wake
        if state.interrupted_compaction is not None:
            background.add_compaction(state.interrupted_compaction)
        self._duties = Duties(
            loop=loop,
            clock=self._clock,
            member=member,
            storage=storage,
            compactor=self._compactor(),
            heartbeat_seconds=self._heartbeat_seconds,
        )
        self._build_services()

    def _compactor(self) -> Compactor | None:
        config = self._config
        now = self._clock.monotonic()
        if config.auto_compaction_mode == "revision":
            revisions = config.auto_compaction_revisions
            return RevisionCompactor(revisions, now) if revisions else None
        seconds = config.auto_compaction_seconds
        return PeriodicCompactor(seconds, now) if seconds else None

    def _build_services(self) -> None:
        config, member = self._config, self._member
        self._build_snapshots()
        self._hashing = HashWorker(self._loop)
        access = Access(self._checker, member, config.client_cert_auth, self._log)
        gate = Gate(member, access)
        self._snapshots = SnapshotService(
            self._loop, self._recovered.backend.open_snapshot, self._layout.snap, gate, self._log
        )
        registry, health = Registry(), HealthCounters()
        self._app = HttpApp(member, registry, health)
        limits = TransportLimits(
            concurrent_streams_max=min(config.max_concurrent_streams, 2**31 - 1),
            ping_interval_seconds_min=config.grpc_keepalive_min_time,
            keepalive_seconds=config.grpc_keepalive_interval,
            keepalive_timeout_seconds=config.grpc_keepalive_timeout,
        )
        methods = list(self._methods(gate, access))
        names = {method.path[1:].rpartition("/")[0] for method in methods}
        methods += Reflection(sorted(names)).methods()
        access.require_rules(methods)
        gateway = Gateway(methods, self._transport_log) if config.enable_grpc_gateway else None
        client_app = ClientApp(Door(access, config.cors, config.host_whitelist), gateway, self._app)
        self._clients = Transport(
            methods,
            client_app,
            limits,
            self._transport_log,
            error_status,
            client_app.wants_body_stream,
        )
        raft = RaftHttp(self._network, self._clock)
        raft.receive_snapshot = self._received.receive
        peers = PeerHttpApp(
            member,
            self._recovered.cluster_id,
            self._app,
            raft,
            self._known_members,
            PeerSide(member, self._network.identity, self._changes, self._leases),
        )
        self._peers = Transport(
            (), peers, limits, self._transport_log, wants_body_stream=wants_body_stream
        )
        self._monitoring = Transport((), MonitoringApp(self._app), limits, self._transport_log)
        register_metrics(
            registry,
            member=member,
            storage=self._storage,
            duties=self._duties,
            gate=gate,
            health=health,
            transport=self._clients,
            methods=methods,
        )
        if config.metrics == "extensive":
            register_handling_times(registry, methods)

    def _build_snapshots(self) -> None:
        """Whole databases from and to other members."""
        applied = AppliedState(self._member, self._storage)
        sender = self._sender = SnapshotSender(
            self._loop, self._network, applied, self._layout.snap, self._log
        )
        self._network.send_snapshot = sender.send
        self._received = SnapshotReceiver(
            loop=self._loop,
            network=self._network,
            flusher=self._flush,
            directory=self._layout.snap,
            map_bytes=lambda size: map_bytes(max(size, self._quota_bytes)),
            log=self._log,
        )

    def _install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """The leader's database in the place of ours, and everything rebuilt from it."""
        path = os.path.join(self._layout.snap, snapshot_db_name(snapshot.index))

        def rebuild() -> None:
            state = self._state
            self._background.history_replaced()
            state.lessor.restore(self._recovered.backend.items("lease"))
            interrupted = state.store.restore()
            state.alarms.restore()
            state.membership.restore()
            state.auth.restore()
            if interrupted is not None:
                self._background.add_compaction(interrupted)
            self._note_conf_state(snapshot.conf_state, snapshot.index)
            done()

        self._storage.install(snapshot, path, rebuild)

    def _methods(self, gate: Gate, access: Access) -> Iterator[Method]:
        config, member = self._config, self._member
        size = config.max_request_bytes + GRPC_OVERHEAD_BYTES
        background = self._background
        kv = KVService(member, background, gate, access, config.max_txn_ops)
        yield from kv.methods(size)
        guard = LeaderGuard(member, self._loop, config.election_timeout / 1000)
        interval = config.watch_progress_notify_interval
        yield from WatchService(
            member, gate, guard, random.random, interval, access.permit_watch
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
        yield from self._snapshots.methods(size)
        yield from AuthService(
            member, member.applier.auth, access, gate, self._hashing, self._bcrypt_cost
        ).methods(size)
        yield from Health().methods()

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
        await listen(
            self._peers, self._config.listen_peer_urls, self._config, self._log, is_peer=True
        )
        freeze_garbage()
        self._duties.start()
        self._member.start()
        self._started_at = self._clock.monotonic()
        self._network.on_link = self._link_is_up
        self._network.start()
        self._reconcile()
        if not self._is_alone:
            self._publish_attributes()
        await asyncio.wait(
            (self._published, self._fatal, self._removed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._fatal.done():
            self._fatal.result()
        if self._removed.done():
            return
        config = self._config
        http_apart = config.listen_client_http_urls
        log = self._log
        await listen(
            self._clients, config.listen_client_urls, config, log, serve_http=not http_apart
        )
        await listen(self._clients, http_apart, config, log, serve_grpc=False)
        await listen(self._monitoring, config.listen_metrics_urls, config, log, serve_grpc=False)
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
        await asyncio.wait((self._fatal, self._removed), return_when=asyncio.FIRST_COMPLETED)
        if self._fatal.done():
            self._fatal.result()

    async def stop(self, grace_seconds: float = 1.0) -> None:
        """Take no more, answer what is open, make everything durable, let the disk go."""
        await self._hand_over()
        await self._clients.drain(grace_seconds)
        self._versions.stop()
        self._sender.stop()
        self._received.stop()
        self._network.stop()
        await self._peers.drain(0)
        await self._monitoring.drain(0)
        self._duties.stop()
        self._background.stop()
        self._hashing.stop()
        self._snapshots.stop()
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

    # -- what the member's parts call back

    def _note_conf_state(self, conf_state: ConfState, index: int) -> None:
        self._storage.note_conf_state(conf_state, index)
        self._member.is_learner = self._recovered.member_id in conf_state.learners
        self._reconcile()
        if self._state.membership.is_removed(self._recovered.member_id):
            # Not at once: the leader's own removal has to reach the others first.
            self._loop.call_later(REMOVED_STOP_SECONDS, self._note_removed)

    @property
    def _is_alone(self) -> bool:
        return self._member.node.conf_state.voters == (self._recovered.member_id,)

    def _known_members(self) -> list[Member]:
        """The membership; until the log of a joined cluster has arrived here, what the others
        told."""
        membership, own = self._state.membership, self._recovered.member_id
        members = membership.members()
        if membership.get(own) is not None or membership.is_removed(own):
            return members
        known = {member.id: member for member in self._recovered.known_members}
        known.update((member.id, member) for member in members)
        return [known[number] for number in sorted(known)]

    def _reconcile(self) -> None:
        self._network.reconcile(self._known_members(), self._state.membership.is_removed)

    def _link_is_up(self) -> None:
        """With two peers reached soon after the start, the first election need not wait for a
        whole timeout (spec/peer.md §6)."""
        if self._network.active_count() < FAST_FORWARD_PEERS_MIN:
            return
        self._network.on_link = lambda: None
        is_soon = self._clock.monotonic() - self._started_at < FAST_FORWARD_SECONDS_MAX
        if is_soon and self._config.initial_election_tick_advance:
            self._member.fast_forward(self._election_ticks - 2)

    def _note_removed(self) -> None:
        """Removed members stop, and never come back (spec/cluster.md §3.2)."""
        if not self._removed.done():
            self._log.error("the member has been permanently removed from the cluster")
            self._removed.set_result(None)

    async def _hand_over(self) -> None:
        """A leader that stops leaves another voter in its place (spec/cluster.md §4)."""
        member = self._member
        if not member.is_leader or self._is_alone or self._fatal.done() or self._removed.done():
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
        seconds_max = 2 * self._config.election_timeout / 1000  # raft gives up after half of it
        try:
            async with asyncio.timeout(seconds_max):
                await member.move_leader(target)
        except (errors.RequestError, TimeoutError) as error:
            self._log.warn("leadership transfer failed", error=repr(error))
        else:
            self._log.info("leadership transfer finished", target_member_id=f"{target:x}")

    def _purge(self) -> None:
        """Append thread: segments and snapshots beyond what the flags keep."""
        purge_segments(self._fs, self._layout.wal, self._config.max_wals)
        self._recovered.snapshotter.purge(self._config.max_snapshots)

    def _became_leader(self) -> None:
        if not self._is_alone:
            self._versions.start(self._loop)
            return
        if self._state.membership.version != CLUSTER_VERSION:
            self._propose_version(CLUSTER_VERSION)
        self._publish_attributes()

    def _propose_version(self, version: str) -> None:
        request = membership_pb2.ClusterVersionSetRequest(ver=version)
        self._propose(Kind.CLUSTER_VERSION_SET, request, None)

    def _publish_attributes(self) -> None:
        """Tell the cluster our name and client URLs (spec/cluster.md §2.1)."""
        attributes = membership_pb2.ClusterMemberAttrSetRequest(
            member_ID=self._recovered.member_id,
            member_attributes=membership_pb2.Attributes(
                name=self._config.name, client_urls=self._config.advertise_client_urls
            ),
        )
        self._propose(Kind.CLUSTER_MEMBER_ATTR_SET, attributes, self._published_attributes)

    def _propose(self, kind: Kind, request: Message, done: Done | None) -> None:
        waiter = CallbackWaiter(done) if done else None
        self._member.propose(kind, request, request.SerializeToString(), waiter)

    def _published_attributes(self, error: errors.RequestError | None) -> None:
        if error is None and not self._published.done():
            self._published.set_result(None)
        elif error is not None and not self._member.is_stopped:
            self._publish_attributes()

    def _transport_log(self, level: str, message: str, fields: dict[str, Any]) -> None:
        getattr(self._log, level, self._log.info)(message, **fields)


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


def founding_of(config: Config, tls: ssl.SSLContext | None) -> Founding:
    """How this member's cluster comes to be, where there is none on the disk
    (spec/cluster.md §2)."""
    cluster = {name: tuple(urls) for name, urls in config.initial_cluster.items()}
    urls = founding_urls(config)
    others = [url for name, known in cluster.items() if name != config.name for url in known]
    joins = config.initial_cluster_state == "existing"
    return Founding(
        config.name,
        urls,
        config.initial_cluster_token,
        cluster,
        join=(lambda: join(config.name, cluster, tls)) if joins else None,
        check=(lambda number: refuse_if_bootstrapped(number, others, tls)) if others else None,
    )


def founding_urls(config: Config) -> tuple[str, ...]:
    """This member's peer URLs in the initial cluster (spec/cluster.md §2.1)."""
    if config.name not in config.initial_cluster:
        raise FatalError(
            f"couldn't find local name {config.name!r} in the initial cluster configuration"
        )
    everybodys = [url for urls in config.initial_cluster.values() for url in urls]
    if len(set(everybodys)) != len(everybodys):
        shown = ",".join(f"{n}={u}" for n, urls in config.initial_cluster.items() for u in urls)
        raise FatalError(f"initial cluster {shown} has duplicate url")
    urls = tuple(config.initial_cluster[config.name])
    if sorted(urls) != sorted(config.initial_advertise_peer_urls):
        raise FatalError(
            f"--initial-cluster has {config.name}={','.join(urls)} but missing from "
            f"--initial-advertise-peer-urls={','.join(config.initial_advertise_peer_urls)}"
        )
    return urls


def freeze_garbage() -> None:
    """What start-up built stays: full collections must not walk a million index entries
    (design D10). While it was built nothing was collected, for it is all there to stay."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
