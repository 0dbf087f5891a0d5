"""One machine of the cluster, and the process of a member that runs on it from time to time.

The process is the real one from `kvserver.core` inwards: raft, its log on the simulated files, the
member loop, storage duties, apply, store, watches, leases, membership, and the services in front
of them. Only what it stands on is simulated.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvserver.bootstrap import Founding, recover
from kvserver.config import Config, complete
from kvserver.core import Core, RaftLimits, Surroundings
from kvserver.datadir import DataDir, prepare
from kvserver.errors import FatalError
from kvserver.limits import GRPC_OVERHEAD_BYTES
from kvserver.peers.identity import Identity
from kvserver.peers.joining import Joined
from kvserver.peers.transfer import TransferLimits
from kvserver.raft import Message, Ready, plan
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.access import Access
from kvserver.services.auth import AuthService
from kvserver.services.cluster import ClusterService
from kvserver.services.corruption import CorruptionChecks
from kvserver.services.gate import Gate
from kvserver.services.kv import KVService
from kvserver.services.leader_guard import LeaderGuard
from kvserver.services.leader_leases import ForwardedLeases
from kvserver.services.lease import LeaseService
from kvserver.services.member_changes import MemberChanges
from kvserver.services.peer_hashes import PeerHashes
from kvserver.services.peer_http import PeerHttpApp
from kvserver.services.peer_side import PeerSide
from kvserver.services.watch import WatchService
from kvserver.transport import HttpRequest, HttpResponse, Method
from kvserver.version import SERVER_VERSION
from tests.support.sim.disk import Disk, SimAppendThread, SimFlushThread
from tests.support.sim.hashing import SimHashWorker
from tests.support.sim.loop import SimClock, SimLoop
from tests.support.sim.network import Fabric, SimNetwork
from tests.support.sim.streams import dial
from tests.support.sim.transfer import LIMITS, Transfers
from tests.support.sim.world import Death, Violation, World

if TYPE_CHECKING:
    from tests.support.sim.witness import Witness

TOKEN = "sim"


@dataclass(frozen=True)
class Settings:
    """What a run fixes for all its members."""

    snapshot_entries: int = 10_000
    catch_up_entries: int = 5000
    segment_bytes: int = 1 << 16
    raft_limits: RaftLimits = field(default_factory=RaftLimits)
    compaction_batch: int = 1000
    fsync_seconds: float = 0.0005
    """About; slow disks take longer for a while."""
    auto_compaction_revisions: int = 0
    max_wals: int = 5
    is_strict: bool = True
    corruption_check_seconds: float = 0.0
    stutter_seconds: float = 0.0
    quota_bytes: int = 0
    """0: etcd's default, which is never reached."""
    transfer_limits: TransferLimits = LIMITS
    quick_disk_chance: float = 0.0
    """That a member may write short appends on its loop, where they take no time."""


class Log:
    """The member's log lines go into the trace."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def info(self, msg: str, **fields: Any) -> None:
        if self._world.lines is not None:
            shown = " ".join(f"{key}={value}" for key, value in fields.items())
            self._world.trace(self._name, f"log: {msg} {shown}")

    debug = warn = error = fatal = info


class Machine:
    """A disk, clocks and a place in the network; at most one process."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        witness: Witness,
        settings: Settings,
        name: str,
        founders: Sequence[str],
    ) -> None:
        self.world = world
        self.fabric = fabric
        self.witness = witness
        self.settings = settings
        self.name = name
        self.url = peer_url(name)
        self.founders = founders
        self.clock = SimClock(world)
        self.clock.stutter = settings.stutter_seconds
        self.disk = Disk(f"/{name}")
        self.rng = world.chance(name)
        self._latencies = world.chance(f"{name}/disk")
        self.process: Process | None = None
        self.lives = 0
        self.is_removed = False
        """The member that lived here was removed from the cluster for good."""
        self.fsync_seconds = settings.fsync_seconds
        self.disk_fault_due = False
        """Whether an error of the disk is expected to end the process."""
        self.has_rotten = False
        """Whether bits of its log or snapshots have changed by themselves."""
        self.is_lost = False
        """The start refused what is on the disk, for good."""
        fabric.urls[self.url] = name

    @property
    def is_up(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        """Start a process from what the disk holds; it may fail to (a joiner that finds nobody)."""
        assert self.process is None
        self.lives += 1
        self.world.trace(self.name, f"start (life {self.lives})")
        process = Process(self)
        try:
            process.run()
        except Death as death:
            process.on_death(str(death))
        except FatalError as error:
            self.is_lost = self.is_removed = self.has_rotten
            is_expected = self.has_rotten or isinstance(error, NobodyToJoin)
            process.exit(f"cannot start: {error}", is_expected=is_expected)

    def crash(self, reason: str = "crash") -> None:
        if self.process is not None:
            self.process.on_death(reason)

    def latency(self) -> float:
        """Seconds that one job of the disk takes."""
        return self._latencies.uniform(0.5, 1.5) * self.fsync_seconds


class NobodyToJoin(FatalError):
    """A joiner reaches no member of its cluster."""


def peer_url(name: str) -> str:
    return f"http://{name}:2380"


def name_of(peer_urls: Sequence[str]) -> str:
    return peer_urls[0].removeprefix("http://").removesuffix(":2380")


class Process:
    """One life of a member."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = machine.name
        self.life = f"{machine.name}#{machine.lives}"
        self.world = machine.world
        self.fabric = machine.fabric
        self.witness = machine.witness
        self.clock = machine.clock
        self.rng = random.Random(machine.rng.getrandbits(64))
        self.loop = SimLoop(self.world, machine.clock, self.on_death, self.on_failure)
        self.log = Log(self.world, machine.name)
        self.steps_left: int | None = None
        """Steps of plans until this process dies; None: it lives on."""
        self.spools = 0
        """Databases that it has made files of."""
        self.on_end: list[Callable[[], None]] = []
        """Connections that break when the process ends."""
        self.open_calls: dict[Any, Callable[[], None]] = {}
        """Calls of clients, and what breaks them."""
        self.member_id = 0
        self._is_over = False

    # -- building

    def run(self) -> None:
        before, self.world.running = self.world.running, self.loop
        asyncio._set_running_loop(self.loop)
        try:
            self._build()
            self.fabric.processes[self.name] = self
            self.fabric.note_start(self.name)
            self.machine.process = self
            self.core.start()
            self.transfers.listen(self._peer_app)
            checks = self.machine.settings.corruption_check_seconds
            self.corruption.start(checks, checks)
        finally:
            self.world.running = before
            asyncio._set_running_loop(before if isinstance(before, SimLoop) else None)

    def _build(self) -> None:
        machine, settings, loop = self.machine, self.machine.settings, self.loop
        disk, config = machine.disk, self._config()
        layout = DataDir.at(f"{disk.root}/data")
        prepare(disk.fs, layout, self.log)  # type: ignore[arg-type]
        found = recover(
            disk.fs,
            layout.snap,
            layout.wal,
            self._founding(config),
            config.quota_bytes,
            self.log,  # type: ignore[arg-type]
            disk.open_backend,
            settings.segment_bytes,
        )
        self.member_id = found.member_id
        self.fabric.names[found.member_id] = self.name
        found.wal = self.witness.watch_log(self, found)
        chance = loop.world.chance(f"quick disk of {self.name}").random()
        is_quick = chance < settings.quick_disk_chance
        self.append = SimAppendThread(loop, self.fatal, machine.latency, is_quick)
        self.flush = SimFlushThread(loop, self.fatal, machine.latency)
        around = Surroundings(
            loop=loop,
            clock=machine.clock,
            fs=disk.fs,
            layout=layout,
            append=self.append,  # type: ignore[arg-type]
            flush=self.flush,  # type: ignore[arg-type]
            make_network=self._make_network,  # type: ignore[arg-type]
            random=self.rng.randint,
            hash_password=lambda password, cost: password.encode(),
            log=self.log,  # type: ignore[arg-type]
            raft_limits=settings.raft_limits,
            lag_probe_seconds=3600.0,
            plan=self._plan,
        )
        self.core = Core(config, found, around)
        self.core.cluster.removed.add_done_callback(self._removed)
        loop.dial = functools.partial(dial, self)
        self.transfers = Transfers(self, layout.snap)
        self._build_services(config)
        self.witness.watch_core(self)

    def _config(self) -> Config:
        machine, settings = self.machine, self.machine.settings
        names = [*machine.founders, *([] if machine.name in machine.founders else [machine.name])]
        return complete(
            {
                "name": machine.name,
                "data-dir": "/data",
                "initial-advertise-peer-urls": (machine.url,),
                "listen-peer-urls": ("http://0.0.0.0:2380",),
                "listen-client-urls": ("http://0.0.0.0:2379",),
                "advertise-client-urls": (f"http://{machine.name}:2379",),
                "initial-cluster": ",".join(f"{name}={peer_url(name)}" for name in names),
                "initial-cluster-token": TOKEN,
                "snapshot-count": settings.snapshot_entries,
                "snapshot-catchup-entries": settings.catch_up_entries,
                "compaction-batch-limit": settings.compaction_batch,
                "max-wals": settings.max_wals,
                "quota-backend-bytes": settings.quota_bytes,
                "strict-reconfig-check": settings.is_strict,
            }
        )

    def _founding(self, config: Config) -> Founding:
        machine = self.machine
        cluster = {name: (peer_url(name),) for name in machine.founders}
        joins = machine.name not in machine.founders
        urls = (machine.url,)
        return Founding(machine.name, urls, TOKEN, cluster, join=self._join if joins else None)

    def _join(self) -> Joined:
        """What a joiner is told by whoever answers first (spec/cluster.md §2.2)."""
        for name in sorted(self.fabric.processes):
            other = self.fabric.processes[name]
            if (name, self.name) in self.fabric.cut:
                continue
            members = other.core.cluster.known_members()
            for member in members:
                if self.machine.url in member.peer_urls:
                    return Joined(member.id, other.core.found.cluster_id, tuple(members))
        raise NobodyToJoin("nobody knows this member")

    def _make_network(
        self, identity: Identity, member: MemberLoop, on_removed: Callable[[], None]
    ) -> SimNetwork:
        self.network = SimNetwork(self, identity)
        return self.network

    def _build_services(self, config: Config) -> None:
        core, loop = self.core, self.loop
        member = core.member
        access = Access(core.checker, member, True, self.log)  # type: ignore[arg-type]
        gate = Gate(member, access)
        guard = LeaderGuard(member, loop, config.election_timeout / 1000)
        changes = MemberChanges(member, self.network, self.clock, config.strict_reconfig_check)  # type: ignore[arg-type]
        leases = LeaseService(
            member,
            gate,
            guard,
            ForwardedLeases(member, self.network),
            access.permit_lease_keys,  # type: ignore[arg-type]
        )
        interval = 1.0
        services = (
            KVService(member, core.background, gate, access, config.max_txn_ops),
            WatchService(member, gate, guard, self.rng.random, interval, access.permit_watch),
            leases,
            ClusterService(member, gate, changes),
            AuthService(
                member,
                member.applier.auth,
                access,
                gate,
                SimHashWorker(loop),  # type: ignore[arg-type]
                core.bcrypt_cost,
                self.rng.choice,
            ),
        )
        size = config.max_request_bytes + GRPC_OVERHEAD_BYTES
        self.methods: dict[str, Method] = {
            method.path: method for service in services for method in service.methods(size)
        }
        hashes = PeerHashes(self.network, self.log)  # type: ignore[arg-type]
        self.corruption = CorruptionChecks(member, core.background, hashes, self.log)  # type: ignore[arg-type]
        side = PeerSide(member, core.background, self.network.identity, changes, leases)
        self._peer_app = PeerHttpApp(
            member,
            core.found.cluster_id,
            _version,  # type: ignore[arg-type]
            self.transfers.http,
            core.cluster.known_members,
            side,
        )

    # -- what others want

    @property
    def is_serving(self) -> bool:
        """Whether the client port is open: the cluster knows us (spec/cluster.md §2.1)."""
        return bool(self.core.cluster.published.done())

    def receive(self, sender: int, messages: Iterable[Message]) -> None:
        self.network.note_remote(sender)
        self.core.member.mailbox.receive(list(messages))

    def serve_http(self, request: HttpRequest, reply: Callable[[HttpResponse], None]) -> None:
        async def work() -> None:
            reply(await self._peer_app(request))

        self.loop.create_task(work())

    # -- plans, step by step

    def _plan(self, ready: Ready) -> Iterator[plan.Step]:
        self.witness.ready(self, ready)
        for step in plan.plan_ready(ready):
            if self.steps_left is not None:
                self._count_down(type(step).__name__)
            self.witness.step(self, step)
            yield step

    def _count_down(self, before: str) -> None:
        assert self.steps_left is not None
        self.steps_left -= 1
        if self.steps_left <= 0:
            raise Death(f"crash before {before}")

    # -- the end

    def fatal(self, error: BaseException) -> None:
        self.exit(f"fatal: {error}", is_expected=self.machine.disk_fault_due)

    def on_failure(self, error: BaseException) -> None:
        """An exception that nobody handled ends a server."""
        if self.machine.disk_fault_due and isinstance(error, FatalError | OSError):
            self.fatal(error)
            return
        raise Violation(f"{self.name}: {type(error).__name__}: {error}") from error

    def exit(self, reason: str, *, is_expected: bool) -> None:
        if not is_expected:
            raise Violation(f"{self.name}: {reason}")
        self.on_death(reason)

    def _removed(self, future: asyncio.Future[None]) -> None:
        self.machine.is_removed = True
        self.exit("removed from the cluster", is_expected=True)

    def on_death(self, reason: str) -> None:
        """The process ends here; what was not synced is at risk."""
        if self._is_over:
            return
        self._is_over = True
        machine = self.machine
        self.world.trace(self.name, f"dies: {reason}")
        self.loop.is_dead = True
        if self.fabric.processes.get(self.name) is self:
            del self.fabric.processes[self.name]
        machine.process = None
        if hasattr(self, "append"):
            self.append.crash(machine.disk.fs, machine.rng)
            self.flush.crash(machine.rng)
        if hasattr(self, "transfers"):
            self.transfers.crash(machine.rng)
        machine.disk.crash(machine.rng)
        self.loop.kill()  # what its coroutines do on their way out happens to files of the past
        machine.disk_fault_due = False
        self.witness.died(self)
        callbacks = [*self.on_end, *self.open_calls.values()]
        self.on_end, self.open_calls = [], {}
        for callback in callbacks:
            callback()

    def trace_sent(self, to: int, messages: Sequence[Message]) -> None:
        if self.world.lines is not None:
            shown = " ".join(map(brief, messages))
            self.world.trace(self.name, f"-> {self.fabric.names.get(to, to)}: {shown}")


async def _version(request: HttpRequest) -> HttpResponse:
    body = json.dumps({"etcdserver": SERVER_VERSION, "etcdcluster": "3.0.0"}).encode()
    return HttpResponse(200, {"Content-Type": "application/json"}, body)


def brief(message: Message) -> str:
    """A message in a few characters."""
    words = [message.type.name, f"t{message.term}"]
    if message.index:
        words.append(f"i{message.index}:{message.log_term}")
    if message.entries:
        words.append(f"+{len(message.entries)}")
    if message.commit:
        words.append(f"c{message.commit}")
    if message.reject:
        words.append("reject")
    return "/".join(words)
