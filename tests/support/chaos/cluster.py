"""The members of a chaos run. Each is reached by the others through the proxy only."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.support.cluster_proc import ClusterMember
from tests.support.peer_proxy import PeerProxy
from tests.support.servers_proc import ServerProcess, keydeck_command

HEARTBEAT_MS = 50
ELECTION_MS = 500
FLAGS = (
    f"--heartbeat-interval={HEARTBEAT_MS}",
    f"--election-timeout={ELECTION_MS}",
    "--snapshot-count=400",
)
KEYDECK_FLAGS = ("--snapshot-catchup-entries=100",)
ETCD35_FLAGS = ("--logger=zap", "--log-outputs=stderr", "--log-level=warn")
ASK_SECONDS_MAX = 1.0
READ_SECONDS_MAX = 5.0
START_SECONDS_MAX = 120.0
DISK_BYTES = 320 * 1024 * 1024
"""Of a member whose disk is to fill up: two log segments, the database and room for a while."""


class Ports:
    """Ports below the range from which the kernel takes those of outgoing connections: a member
    that is down for a while finds its own again."""

    def __init__(self, first: int = 0, last: int = 0) -> None:
        begin = first or random.SystemRandom().randrange(20_000, 29_000)
        self._left = iter(range(begin, (last or begin + 2000) + 1))

    def take(self) -> int:
        for port in self._left:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            return port
        raise AssertionError("no ports left")


@dataclass(eq=False)
class ChaosMember(ClusterMember):
    """A member with more than one life; each is told apart in the history."""

    own_peer_port: int = 0
    failpoint_port: int = 0
    lives: int = 0
    is_etcd: bool = False
    disk: Path | None = None
    """Its own small file system, when there is one."""
    _log_read: int = 0

    __eq__ = object.__eq__  # one process is no other, whatever their fields say
    __hash__ = object.__hash__

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def label(self) -> str:
        return f"{self.name}#{self.lives}"

    def spawn(self) -> None:
        if not self.process.running():
            self.lives += 1
            self.process.spawn()

    def kill(self) -> None:
        if self.process.running():
            self.process.kill()

    def signal(self, number: int) -> None:
        if self.process.running():
            os.kill(self.process.pid, number)

    def failpoint(self, name: str, term: str) -> bool:
        """Arm, or with `off` disarm; whether the member took it."""
        if self.is_etcd or not self.process.running():
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.failpoint_port, timeout=5)
        try:
            connection.request("PUT", f"/{name}", term)
            return connection.getresponse().status == 204
        except OSError:
            return False
        finally:
            connection.close()

    def new_log_lines(self) -> list[str]:
        """What it has logged since this was asked last."""
        if not self.process.log_path.exists():
            return []
        with self.process.log_path.open("rb") as file:
            file.seek(self._log_read)
            data = file.read()
        self._log_read += len(data)
        return data.decode(errors="replace").splitlines()

    def asked(self) -> rpc.StatusResponse | None:
        """Its status, or None when it does not answer soon."""
        if not self.process.running():
            return None
        try:
            return self.maintenance.Status(rpc.StatusRequest(), timeout=ASK_SECONDS_MAX)
        except grpc.RpcError:
            return None

    def serves(self) -> bool:
        """A linearizable read is answered."""
        if not self.process.running():
            return False
        try:
            self.kv.Range(rpc.RangeRequest(key=b"health"), timeout=READ_SECONDS_MAX)
        except grpc.RpcError:
            return False
        return True


class ChaosCluster:
    """Owner: the thread that runs the rounds; `members` is replaced as a whole, never changed."""

    def __init__(
        self,
        directory: Path,
        size: int,
        ports: Ports,
        etcd: Sequence[str] = (),
        small_disks: int = 0,
        keydeck: Sequence[str] = (),
        flags: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self._flags = flags
        self._keydeck = keydeck or keydeck_command()
        self.members: list[ChaosMember] = []
        self._ports = ports
        self._made = 0
        self.proxy = PeerProxy(self._pids)
        for number in range(size):
            command = etcd if etcd and number == 0 else ()
            self._make(command, has_small_disk=number >= size - small_disks)
        initial = ",".join(f"{m.name}={m.peer_url}" for m in self.members)
        for member in self.members:
            member.process.initial_cluster = initial

    def _pids(self) -> dict[str, int]:
        return {m.name: m.process.pid for m in self.members if m.process.process is not None}

    def _make(self, etcd: Sequence[str], *, has_small_disk: bool = False) -> ChaosMember:
        name = f"m{self._made}"
        self._made += 1
        own, failpoints = self._ports.take(), self._ports.take()
        flags = (*FLAGS, f"--listen-peer-urls=http://127.0.0.1:{own}")
        process = ServerProcess(
            etcd or self._keydeck,
            self.directory / name / "data",
            name,
            (*flags, *(ETCD35_FLAGS if etcd else KEYDECK_FLAGS), *self._flags),
            {"GOFAIL_HTTP": f"127.0.0.1:{failpoints}"},
            client_port=self._ports.take(),
            peer_port=self._ports.take(),
        )
        member = ChaosMember(process, None, own, failpoints, is_etcd=bool(etcd))
        if has_small_disk:
            member.disk = small_disk(process.data_dir)
        self.members = [*self.members, member]
        self.proxy.open(name, process.peer_port, own)
        return member

    def start(self) -> None:
        for member in self.members:
            member.spawn()
        for member in self.members:
            member.process.wait_ready(START_SECONDS_MAX)

    def newcomer(self) -> ChaosMember:
        """A member that is to join: known here, not started, and not yet to the cluster."""
        member = self._make(())
        known = ",".join(f"{m.name}={m.peer_url}" for m in self.members)
        member.process.initial_cluster = known
        member.process.flags = ("--initial-cluster-state=existing", *member.process.flags)
        return member

    def drop(self, member: ChaosMember) -> None:
        """A member that was removed: its process is ended and nobody asks it any more."""
        self.members = [each for each in self.members if each is not member]
        self.proxy.forget(member.name)
        member.kill()
        member.close()
        if member.disk is not None:
            _unmount(member.disk)

    def leader(self) -> ChaosMember | None:
        """Whoever claims to lead in the highest term, as far as anybody answers."""
        answers = [(m, answer) for m in self.members if (answer := m.asked()) is not None]
        claims = [
            (answer.raftTerm, m)
            for m, answer in answers
            if answer.leader and answer.leader == answer.header.member_id
        ]
        return max(claims, key=lambda claim: claim[0])[1] if claims else None

    def mend(self) -> None:
        """No fault is left: the network heals, nobody is stopped, all have been started."""
        self.proxy.heal()
        for member in self.members:
            member.signal(signal.SIGCONT)
            if member.disk is not None:
                ballast(member.disk).unlink(missing_ok=True)
            member.spawn()

    def close(self) -> None:
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.kill()
            member.close()
        self.proxy.close()
        for member in self.members:
            if member.disk is not None:
                _unmount(member.disk)


def may_mount() -> bool:
    """Whether small file systems can be had here: root in a namespace that lets it mount."""
    with tempfile.TemporaryDirectory() as directory:
        if not _mount(Path(directory), 1024 * 1024):
            return False
        _unmount(Path(directory))
    return True


def small_disk(directory: Path) -> Path | None:
    directory.mkdir(parents=True, mode=0o700)
    return directory if _mount(directory, DISK_BYTES) else None


def _mount(directory: Path, size_bytes: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", directory]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _unmount(directory: Path) -> None:
    # Lazily: whatever still holds a file there lets go of it in its own time.
    subprocess.run(["umount", "-l", directory], capture_output=True, check=False)


def ballast(disk: Path) -> Path:
    return disk / "ballast"


@contextlib.contextmanager
def chaos_cluster(
    directory: Path,
    size: int = 3,
    *,
    ports: Ports | None = None,
    etcd: Sequence[str] = (),
    small_disks: int = 0,
    keydeck: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Iterator[ChaosCluster]:
    """A running cluster; every process of it is ended with the `with`.

    `etcd`: the command of a real one, for the first member. `keydeck`: of all others. `flags`: of
    every member, over those of `FLAGS`.
    """
    cluster = ChaosCluster(directory, size, ports or Ports(), etcd, small_disks, keydeck, flags)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
