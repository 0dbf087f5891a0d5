"""What goes wrong in a run, chosen by its seed: three kinds of faults or more at once."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kvserver import failpoints
from kvserver.core import RaftLimits
from tests.support.sim.machine import Machine, Settings
from tests.support.sim.network import Weather, split
from tests.support.sim.transfer import LIMITS
from tests.support.sim.transfer_faults import SHARE, TransferFaults
from tests.support.sim.world import Death

if TYPE_CHECKING:
    from tests.support.sim.cluster import Cluster

STEADY = ("drop", "duplicate", "reorder", "delay")
SUDDEN = (
    "partition",
    "slow link",
    "crash",
    "crash in a plan",
    "crash at a failpoint",
    "crash all",
    "restart storm",
    "pause",
    "clock drift",
    "clock jump",
    "slow disk",
    "disk error",
    "bit rot",
    "transfer",
    "membership",
    "defragment",
)


DATABASE = "broken database"
"""Beside those, where there are snapshots to send."""


PLACES = failpoints.NAMES
"""Where a process may be made to die: a simulated member comes by all of them."""


AUTH_SHARE = 0.25
"""Of the seeds have auth enabled."""


@dataclass(frozen=True)
class Profile:
    """What one seed means."""

    size: int
    faults: tuple[str, ...]
    settings: Settings
    clients: int
    keys: int
    pause_seconds: float
    encodes: bool
    has_auth: bool = False
    """Whether auth is enabled early, and users log in while their rights change (users.py)."""


def focused(seed: int, *faults: str, **changes: Any) -> Profile:
    """A seed's profile with these faults and no others, often enough to matter."""
    return replace(profile_of(seed), faults=faults, **changes)


def profile_of(seed: int) -> Profile:
    rng = random.Random(f"{seed}/profile")
    steady = [fault for fault in STEADY if rng.random() < 0.4]
    sudden = rng.sample(SUDDEN, rng.randint(3, 6))
    if "bit rot" in sudden and "membership" in sudden:
        sudden.remove("membership")  # or the rotten might come to be a majority
    tiny = rng.random() < 0.25
    limits = RaftLimits(1, 1, 1) if tiny else RaftLimits()
    extra = random.Random(f"{seed}/checks")
    snapshots = rng.choice((10, 10, 50, 10_000))
    if snapshots < 10_000 and random.Random(f"{seed}/transfers").random() < SHARE:
        sudden += [DATABASE, DATABASE]
    settings = Settings(
        snapshot_entries=snapshots,
        catch_up_entries=rng.choice((1, 5, 20)) if snapshots < 10_000 else 5000,
        segment_bytes=rng.choice((1 << 13, 1 << 15, 1 << 17)),
        raft_limits=limits,
        compaction_batch=rng.choice((1, 5, 1000)),
        fsync_seconds=rng.choice((0.0002, 0.001, 0.005)),
        max_wals=rng.choice((1, 2, 5)),
        is_strict=rng.random() < 0.7,
        corruption_check_seconds=extra.choice((0.0, 0.0, 1.0, 4.0)),
        stutter_seconds=extra.choice((0.0, 0.0, 0.0, 0.002)),
        quota_bytes=extra.choice((0,) * 7 + (30_000,)),
        quick_disk_chance=extra.choice((0.0, 0.5, 1.0)),
        transfer_limits=replace(LIMITS, transfers_max=1) if tiny else LIMITS,
    )
    return Profile(
        size=rng.choice((3, 3, 5)),
        faults=tuple(steady + sudden),
        settings=settings,
        clients=rng.randint(3, 5),
        keys=rng.choice((3, 6, 12)),
        pause_seconds=rng.choice((0.1, 0.2, 0.4)),
        encodes=rng.random() < 0.2,
        has_auth=random.Random(f"{seed}/auth").random() < AUTH_SHARE,
    )


class Nemesis:
    """Makes things go wrong until it is told to stop, and then makes all well again."""

    def __init__(self, cluster: Cluster, profile: Profile) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._faults = profile.faults
        self._rng = cluster.world.chance("nemesis")
        self._is_over = False
        self._acts: dict[str, Callable[[], None]] = {
            "partition": self._partition,
            "slow link": self._slow_link,
            "crash": self._crash,
            "crash in a plan": self._crash_in_a_plan,
            "crash at a failpoint": self._crash_at_a_failpoint,
            "crash all": self._crash_all,
            "restart storm": self._storm,
            "pause": self._pause,
            "clock drift": self._drift,
            "clock jump": self._jump,
            "slow disk": self._slow_disk,
            "disk error": self._disk_error,
            "bit rot": self._bit_rot,
            "transfer": self._transfer,
            "membership": self._membership,
            "defragment": self._defragment,
            DATABASE: self._strike_at_databases,
        }
        self._sudden = [fault for fault in profile.faults if fault in self._acts]

    def start(self) -> None:
        self._change_weather()
        self._next()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._world.call_later(seconds, self._cluster.fabric, act)

    def _next(self) -> None:
        if self._is_over:
            return
        self._later(self._rng.expovariate(1 / 2.0), self._strike)

    def _strike(self) -> None:
        if self._is_over:
            return
        if self._sudden:
            fault = self._rng.choice(self._sudden)
            self._world.trace("*", f"fault: {fault}")
            self._acts[fault]()
        self._next()

    def _some(self) -> Machine | None:
        up = [machine for machine in self._cluster.machines.values() if machine.is_up]
        return self._rng.choice(up) if up else None

    def _leader_or_some(self) -> Machine | None:
        leader = self._cluster.leader()
        return leader.machine if leader is not None and self._rng.random() < 0.5 else self._some()

    # -- the network

    def _change_weather(self) -> None:
        if self._is_over:
            return
        rng, on = self._rng, set(self._faults)
        weather = Weather()
        if "drop" in on and rng.random() < 0.6:
            weather.drop = rng.choice((0.01, 0.05, 0.2))
        if "duplicate" in on and rng.random() < 0.6:
            weather.duplicate = rng.choice((0.02, 0.2))
        if "reorder" in on and rng.random() < 0.6:
            weather.reorder = rng.choice((0.05, 0.3))
        if "delay" in on and rng.random() < 0.6:
            weather.delay_max = rng.choice((0.02, 0.1, 0.3))
        self._cluster.fabric.weather = weather
        self._world.trace("*", f"weather: {weather}")
        self._later(rng.uniform(3, 12), self._change_weather)

    def _partition(self) -> None:
        fabric, rng = self._cluster.fabric, self._rng
        names = sorted(self._cluster.machines)
        cut = split(rng, names)
        if rng.random() < 0.3:  # clients are on some side, too
            for client in self._cluster.client_names:
                for name in rng.sample(names, len(names) // 2):
                    cut |= {(client, name), (name, client)}
        self._world.trace("*", f"cut: {' '.join(f'{a}>{b}' for a, b in sorted(cut))}")
        fabric.set_cut(cut)
        self._later(rng.choice((0.2, 1.0, 2.5, 5.0, 10.0)), self._mend)

    def _mend(self) -> None:
        if self._cluster.fabric.cut:
            self._world.trace("*", "links are mended")
            self._cluster.fabric.set_cut(())

    def _slow_link(self) -> None:
        names = sorted(self._cluster.machines)
        link = self._rng.choice(names), self._rng.choice(names)
        self._cluster.fabric.slow[link] = self._rng.choice((0.05, 0.2, 1.0))
        self._later(self._rng.uniform(1, 8), lambda: self._fast_link(link))

    def _fast_link(self, link: tuple[str, str]) -> None:
        self._cluster.fabric.slow.pop(link, None)

    # -- processes

    def _restart_later(self, machine: Machine, seconds: float) -> None:
        self._later(seconds, lambda: self._cluster.restart(machine))

    def _crash(self) -> None:
        machine = self._leader_or_some()
        if machine is not None:
            machine.crash()
            self._restart_later(machine, self._rng.choice((0.01, 0.5, 2.0, 8.0)))

    def _crash_in_a_plan(self) -> None:
        machine = self._leader_or_some()
        if machine is not None and machine.process is not None:
            machine.process.steps_left = self._rng.randint(1, 30)
            self._restart_later(machine, self._rng.uniform(1.0, 6.0))

    def _crash_at_a_failpoint(self) -> None:
        """The next time that the process comes by."""
        machine = self._leader_or_some()
        process = machine.process if machine is not None else None
        if machine is None or process is None:
            return
        place = self._rng.choice(PLACES)

        def die() -> None:
            if self._world.running is process.loop:
                failpoints.disarm(place)
                process.on_death(f"crash at {place}")
                raise Death(place)  # nothing more of what runs

        failpoints.arm_call(place, die)
        self._restart_later(machine, self._rng.uniform(1.0, 6.0))

    def _crash_all(self) -> None:
        for machine in list(self._cluster.machines.values()):
            machine.crash("crash of all")
            self._restart_later(machine, self._rng.uniform(0.01, 3.0))

    def _storm(self) -> None:
        """Everybody restarts, some again and again."""
        for machine in list(self._cluster.machines.values()):
            at = self._rng.uniform(0, 1)
            for _ in range(self._rng.randint(1, 3)):
                self._later(at, machine.crash)
                at += self._rng.uniform(0.001, 1.0)
                self._restart_later(machine, at)
                at += self._rng.uniform(0.01, 1.5)

    def _pause(self) -> None:
        machine = self._leader_or_some()
        process = machine.process if machine is not None else None
        if process is None:
            return
        seconds = self._rng.choice((0.01, 0.3, 1.5, 4.0, 10.0, 30.0))
        self._world.trace(process.name, f"stands still for {seconds} s")
        process.loop.pause()
        self._later(seconds, process.loop.resume)

    # -- clocks

    def _drift(self) -> None:
        machine = self._some()
        if machine is not None:
            machine.clock.set_rate(self._rng.uniform(0.9, 1.1))

    def _jump(self) -> None:
        machine = self._leader_or_some()
        if machine is not None:
            jump = self._rng.choice((-3600, -10, -1, 1, 10, 3600))
            self._world.trace(machine.name, f"wall clock jumps by {jump} s")
            machine.clock.wall_offset += jump

    # -- disks

    def _slow_disk(self) -> None:
        machine = self._leader_or_some()
        if machine is not None:
            machine.fsync_seconds = self._rng.choice((0.02, 0.1, 0.5, 2.0))
            self._later(self._rng.uniform(1, 6), lambda: self._fast_disk(machine))

    def _fast_disk(self, machine: Machine) -> None:
        machine.fsync_seconds = machine.settings.fsync_seconds

    def _disk_error(self) -> None:
        """The k-th change from now on fails: fatal at once. The disk is well after a restart."""
        machine = self._leader_or_some()
        if machine is not None:
            fs = machine.disk.fs
            fs.fail_at = fs.calls + self._rng.randint(1, 20)
            fs.fail_errno = self._rng.choice((errno.EIO, errno.ENOSPC))
            machine.disk_fault_due = True
            self._restart_later(machine, self._rng.uniform(2.0, 6.0))

    def _bit_rot(self) -> None:
        """On a minority: who finds that its log is not what it wrote refuses to start, and is
        replaced by a new member."""
        machines = self._cluster.machines.values()
        rotten = [machine for machine in machines if machine.has_rotten]
        machine = self._some()
        if machine is None or len(rotten) >= (len(self._cluster.founders) - 1) // 2:
            return
        machine.crash()
        machine.has_rotten = True
        self._world.trace(machine.name, f"a bit turns over in {machine.disk.rot(self._rng)}")
        self._restart_later(machine, self._rng.uniform(0.1, 1.0))
        self._later(self._rng.uniform(2.0, 4.0), self._cluster.admins[0].change_something)

    # -- the cluster

    def _transfer(self) -> None:
        leader = self._cluster.leader()
        if leader is not None:
            voters = leader.core.member.node.conf_state.voters
            target = self._rng.choice(voters)
            leader.core.member.node.transfer_leader(target)
            leader.core.member.wake()

    def _membership(self) -> None:
        """By one of two who know nothing of each other, or by both at once."""
        first, second = self._rng.sample(self._cluster.admins, 2)
        first.change_something()
        if self._rng.random() < 0.3:
            second.change_something()

    def _defragment(self) -> None:
        machine = self._some()
        if machine is not None and machine.process is not None:
            storage = machine.process.core.storage
            if not storage.is_defragmenting:
                storage.defragment(lambda failure: None)

    def _strike_at_databases(self) -> None:
        TransferFaults(self._cluster, self._rng, self._later, self._restart_later).strike()

    # -- the end

    def stop(self) -> None:
        """All is well from now on."""
        self._is_over = True
        self._world.trace("*", "all is well again")
        cluster = self._cluster
        failpoints.disarm_all()
        cluster.fabric.weather = Weather()
        cluster.fabric.set_cut(())
        cluster.fabric.slow.clear()
        cluster.fabric.on_database = None
        for machine in cluster.machines.values():
            machine.fsync_seconds = machine.settings.fsync_seconds
            machine.disk.fs.fail_at = None
            if machine.process is not None:
                machine.process.steps_left = None
                machine.process.loop.resume()
            cluster.restart(machine)
