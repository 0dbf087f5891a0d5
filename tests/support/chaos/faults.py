"""What can be broken. Each fault begins, lasts, and ends; `ChaosCluster.mend` undoes the rest.

Whom it strikes is decided when it begins: the leader of that moment, a follower, a minority, all.
"""

from __future__ import annotations

import random
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.cluster import ChaosCluster, ChaosMember
from tests.support.chaos.disks import ballast
from tests.support.chaos.load import Book
from tests.support.chaos.namespaces import Namespaces
from tests.support.peer_proxy import apart, between

LONG_CALL_SECONDS_MAX = 10.0
BALLAST_PIECE = bytes(1024 * 1024)


@dataclass
class Scene:
    """What a fault may touch. Owner: the thread that runs the round."""

    cluster: ChaosCluster
    book: Book
    dice: random.Random
    base_revision: int
    told: list[tuple[float, str]] = field(default_factory=list)
    leader_losses: list[float] = field(default_factory=list)
    """When a leader was taken away, by the book's clock."""
    leader_farewells: list[float] = field(default_factory=list)
    """When a leader was asked to end."""
    _never: threading.Event = field(default_factory=threading.Event)

    def tell(self, text: str) -> None:
        self.told.append((self.book.now(), text))

    def wait(self, seconds: float) -> None:
        self._never.wait(max(seconds, 0))

    def victims(self, who: str) -> list[ChaosMember]:
        members = list(self.cluster.members)
        if who == "all":
            return members
        if who == "minority":
            return self.dice.sample(members, (len(members) - 1) // 2)
        leader = self.cluster.leader()
        if who == "leader" and leader is not None:
            return [leader]
        others = [each for each in members if each is not leader]
        return [self.dice.choice(others if who == "follower" else members)]


class Fault:
    """`who` names the victims: leader, follower, one, minority, all."""

    is_deadly = False
    """Whether a process may end by it."""

    def __init__(self, who: str = "one") -> None:
        self.who = who
        self.victims: list[ChaosMember] = []

    def __str__(self) -> str:
        return f"{self.name()} {self.who}"

    def name(self) -> str:
        return type(self).__name__

    def begin(self, scene: Scene) -> None:
        self.victims = scene.victims(self.who)
        scene.tell(f"{self}: {', '.join(member.label for member in self.victims)}")
        if self.takes_away() and self.who == "leader":
            scene.leader_losses.append(scene.book.now())
        self.strike(scene)

    def takes_away(self) -> bool:
        """Whether who is struck is no longer there for anybody."""
        return False

    def strike(self, scene: Scene) -> None:
        raise NotImplementedError

    def end(self, scene: Scene) -> None:
        """What is broken for as long as it lasts is mended here."""

    def names(self) -> list[str]:
        return [member.name for member in self.victims]

    def others(self, scene: Scene) -> list[str]:
        return [m.name for m in scene.cluster.members if m not in self.victims]


class Kill(Fault):
    """SIGKILL; started again at its end."""

    is_deadly = True

    def takes_away(self) -> bool:
        return True

    def strike(self, scene: Scene) -> None:
        for member in self.victims:
            member.signal(signal.SIGKILL)
        for member in self.victims:
            member.kill()

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            if member in scene.cluster.members:
                member.spawn()


class Terminate(Kill):
    """SIGTERM: leadership is handed over first."""

    def takes_away(self) -> bool:
        return False

    def strike(self, scene: Scene) -> None:
        if self.who == "leader":
            scene.leader_farewells.append(scene.book.now())
        for member in self.victims:
            member.signal(signal.SIGTERM)

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            if member.process.process is not None:
                member.process.wait_exit(5)
        super().end(scene)


class Pause(Fault):
    """SIGSTOP and SIGCONT."""

    def takes_away(self) -> bool:
        return True

    def strike(self, scene: Scene) -> None:
        for member in self.victims:
            member.signal(signal.SIGSTOP)

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            member.signal(signal.SIGCONT)


class Isolate(Fault):
    """Nothing from or to them."""

    def takes_away(self) -> bool:
        return True

    def strike(self, scene: Scene) -> None:
        scene.cluster.network.cut(apart(self.names(), self.others(scene)))

    def end(self, scene: Scene) -> None:
        scene.cluster.network.heal()


class Mute(Isolate):
    """They hear everything, and nobody hears them."""

    def strike(self, scene: Scene) -> None:
        scene.cluster.network.cut(between(self.names(), self.others(scene)))


class Deafen(Isolate):
    """Everybody hears them, and they hear nothing."""

    def takes_away(self) -> bool:
        return False

    def strike(self, scene: Scene) -> None:
        scene.cluster.network.cut(between(self.others(scene), self.names()))


class Bridge(Deafen):
    """Two halves that only reach each other through one member in both."""

    def strike(self, scene: Scene) -> None:
        others = self.others(scene)
        scene.dice.shuffle(others)
        half = len(others) // 2
        scene.cluster.network.cut(apart(others[:half], others[half:]))


class SlowNetwork(Deafen):
    def strike(self, scene: Scene) -> None:
        seconds = scene.dice.choice([0.02, 0.1, 0.4])
        paths = apart(self.names(), self.others(scene))
        scene.cluster.network.slow(paths, seconds)


class Unplug(Isolate):
    """Nothing from or to them, their clients included: there has to be a cable."""

    def strike(self, scene: Scene) -> None:
        network = scene.cluster.network
        assert isinstance(network, Namespaces)
        network.unplug(self.names())


class Resets(Fault):
    """Connections break, again and again."""

    def strike(self, scene: Scene) -> None:
        for _ in range(scene.dice.randint(1, 8)):
            scene.cluster.network.reset(self.names())
            scene.wait(0.1)


class Slowed(Fault):
    """Failpoints that take their time; `places` and how long each."""

    places: tuple[str, ...] = ()
    milliseconds: tuple[int, ...] = ()

    def strike(self, scene: Scene) -> None:
        term = f"sleep({scene.dice.choice(self.milliseconds)})"
        for member in self.victims:
            for place in self.places:
                member.failpoint(place, term)

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            for place in self.places:
                member.failpoint(place, "off")


class SlowDisk(Slowed):
    places = ("raftBeforeSave", "beforeCommit")
    milliseconds = (20, 100, 400)


class SlowApply(Slowed):
    places = ("beforeApplyOneEntryNormal",)
    milliseconds = (2, 10, 30)


DEADLY_PLACES = (
    "raftBeforeSave",
    "raftAfterSave",
    "raftAfterSave",
    "beforeCommit",
    "afterCommit",
    "beforeApplyOneEntryNormal",
    "raftBeforeSaveSnap",
    "raftAfterSaveSnap",
    "raftBeforeApplySnap",
    "compactBeforeCommitBatch",
    "compactBeforeSetFinishedCompact",
    "defragBeforeRename",
)


class PanicAt(Kill):
    """It dies at a named place, when it comes by; and is started again."""

    def takes_away(self) -> bool:
        return False

    def strike(self, scene: Scene) -> None:
        place = scene.dice.choice(DEADLY_PLACES)
        scene.tell(f"  at {place}")
        for member in self.victims:
            member.failpoint(place, "panic")

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            for place in set(DEADLY_PLACES):
                member.failpoint(place, "off")
        super().end(scene)


class FullDisk(Kill):
    """Not a byte is left for a member with a disk of its own; it may well end by that."""

    def takes_away(self) -> bool:
        return False

    def begin(self, scene: Scene) -> None:
        self.victims = [m for m in scene.cluster.members if m.disk is not None][:1]
        scene.tell(f"{self}: {', '.join(member.label for member in self.victims)}")
        self.strike(scene)

    def strike(self, scene: Scene) -> None:
        for member in self.victims:
            assert member.disk is not None
            with suppress(OSError), ballast(member.disk).open("wb", buffering=0) as file:
                while True:
                    file.write(BALLAST_PIECE)

    def end(self, scene: Scene) -> None:
        for member in self.victims:
            assert member.disk is not None
            ballast(member.disk).unlink(missing_ok=True)
        super().end(scene)


class Operate(Fault):
    """Something an operator does, in the middle of it all; refusals do not matter."""

    def strike(self, scene: Scene) -> None:
        for member in self.victims:
            try:
                self.operate(scene, member)
            except grpc.RpcError as error:
                scene.tell(f"  {error.details()}")

    def operate(self, scene: Scene, member: ChaosMember) -> None:
        raise NotImplementedError


class MoveLeader(Operate):
    def operate(self, scene: Scene, member: ChaosMember) -> None:
        status = [each.asked() for each in scene.cluster.members if each is not member]
        targets = [answer.header.member_id for answer in status if answer is not None]
        if targets:
            request = rpc.MoveLeaderRequest(targetID=scene.dice.choice(targets))
            member.maintenance.MoveLeader(request, timeout=LONG_CALL_SECONDS_MAX)


class Defragment(Operate):
    def operate(self, scene: Scene, member: ChaosMember) -> None:
        member.maintenance.Defragment(rpc.DefragmentRequest(), timeout=LONG_CALL_SECONDS_MAX)


class Backup(Operate):
    def operate(self, scene: Scene, member: ChaosMember) -> None:
        request = rpc.SnapshotRequest()
        for _ in member.maintenance.Snapshot(request, timeout=LONG_CALL_SECONDS_MAX):
            pass


class Compact(Operate):
    """No further than where the round began: its own log is wanted at the end."""

    def operate(self, scene: Scene, member: ChaosMember) -> None:
        request = rpc.CompactionRequest(
            revision=scene.base_revision, physical=scene.dice.random() < 0.5
        )
        member.kv.Compact(request, timeout=LONG_CALL_SECONDS_MAX)


Kind = tuple[int, type[Fault], str]

MIXABLE: tuple[Kind, ...] = (
    (3, Kill, "leader"),
    (1, Kill, "follower"),
    (2, Kill, "minority"),
    (1, Kill, "all"),
    (2, Terminate, "leader"),
    (1, Terminate, "follower"),
    (1, Terminate, "all"),
    (3, Pause, "leader"),
    (2, Pause, "minority"),
    (1, Pause, "all"),
    (2, Isolate, "leader"),
    (2, Isolate, "minority"),
    (1, Mute, "leader"),
    (1, Mute, "follower"),
    (1, Deafen, "leader"),
    (1, Deafen, "follower"),
    (2, Bridge, "one"),
    (1, SlowNetwork, "leader"),
    (1, SlowNetwork, "one"),
    (2, Resets, "one"),
    (1, SlowDisk, "leader"),
    (1, SlowDisk, "minority"),
    (1, SlowApply, "one"),
    (2, PanicAt, "leader"),
    (2, PanicAt, "follower"),
    (1, MoveLeader, "leader"),
    (1, Defragment, "one"),
    (1, Backup, "one"),
    (2, Compact, "one"),
)
"""Faults that may come together with others: how often, what, whom."""
WITH_CABLES: tuple[Kind, ...] = (
    (6, Unplug, "leader"),
    (3, Unplug, "minority"),
    (1, Unplug, "all"),
    (6, Isolate, "leader"),
    (4, Isolate, "minority"),
    (4, Mute, "leader"),
    (4, Mute, "follower"),
    (4, Deafen, "leader"),
    (4, Deafen, "follower"),
    (4, Bridge, "one"),
    (3, SlowNetwork, "leader"),
    (3, SlowNetwork, "one"),
)
"""More of what a network does, for members in namespaces."""
