"""The members of a chaos run. Each is reached by the others through a network that breaks: the
proxy, or namespaces with cables between them."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.disks import ballast, small_disk, unmount
from tests.support.chaos.namespaces import Namespaces
from tests.support.cluster_proc import ClusterMember
from tests.support.peer_proxy import PeerProxy
from tests.support.ports import free_port, is_free
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


class Ports:
    """Those of a range that is given, or of the one that all tests share."""

    def __init__(self, first: int = 0, last: int = 0) -> None:
        self._left = iter(range(first, last + 1)) if first else None

    def take(self) -> int:
        if self._left is None:
            return free_port()
        for port in self._left:
            if is_free(port):
                return port
        raise AssertionError("no ports left")


@dataclass(eq=False)
class ChaosMember(ClusterMember):
    """A member with more than one life; each is told apart in the history."""

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
        connection = http.client.HTTPConnection(self.process.host, self.failpoint_port, timeout=30)
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
        in_namespaces: bool = False,
    ) -> None:
        self.directory = directory
        self._flags = flags
        self._keydeck = keydeck or keydeck_command()
        self.members: list[ChaosMember] = []
        self._ports = ports
        self._made = 0
        self.network = Namespaces() if in_namespaces else PeerProxy(self._pids)
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
        failpoints = self._ports.take()
        process = ServerProcess(
            etcd or self._keydeck,
            self.directory / name / "data",
            name,
            (*FLAGS, *(ETCD35_FLAGS if etcd else KEYDECK_FLAGS), *self._flags),
            client_port=self._ports.take(),
            peer_port=self._ports.take(),
        )
        self._connect(process)
        process.environment = {"GOFAIL_HTTP": f"{process.host}:{failpoints}"}
        member = ChaosMember(process, None, failpoints, is_etcd=bool(etcd))
        if has_small_disk:
            member.disk = small_disk(process.data_dir)
        self.members = [*self.members, member]
        return member

    def _connect(self, process: ServerProcess) -> None:
        """Where the others find it, and how it finds them."""
        if isinstance(self.network, Namespaces):
            process.host, prefix = self.network.add(process.name)
            process.command = (*prefix, *process.command)
        else:
            own = self._ports.take()
            process.flags = (f"--listen-peer-urls=http://127.0.0.1:{own}", *process.flags)
            self.network.open(process.name, process.peer_port, own)

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
        self.network.forget(member.name)
        member.kill()
        member.close()
        if member.disk is not None:
            unmount(member.disk)

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
        self.network.heal()
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
        self.network.close()
        for member in self.members:
            if member.disk is not None:
                unmount(member.disk)


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
    in_namespaces: bool = False,
) -> Iterator[ChaosCluster]:
    """A running cluster; every process of it is ended with the `with`.

    `etcd`: the command of a real one, for the first member. `keydeck`: of all others. `flags`: of
    every member, over those of `FLAGS`. `in_namespaces`: a real network between them, for who is
    in namespaces himself (`namespaces.enter`).
    """
    cluster = ChaosCluster(
        directory, size, ports or Ports(), etcd, small_disks, keydeck, flags, in_namespaces
    )
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
