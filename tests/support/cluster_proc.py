"""Clusters of real processes on loopback: Keydeck, etcd, or both together.

Members are `ServerProcess`es with fixed ports, so that any of them can be killed and started
again. Waiting is asking the members, never a fixed pause.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.servers_proc import ServerProcess, free_port, wait_until

KEYDECK = (sys.executable, "-m", "kvserver")
SECONDS_MAX = 30.0


@dataclass
class ClusterMember:
    """One member and a client of it alone."""

    process: ServerProcess
    channel: grpc.Channel | None = field(default=None, repr=False)

    def stubs(self) -> grpc.Channel:
        if self.channel is None:
            self.channel = grpc.insecure_channel(
                self.process.endpoint,
                options=[
                    ("grpc.initial_reconnect_backoff_ms", 50),
                    ("grpc.min_reconnect_backoff_ms", 50),
                    ("grpc.max_reconnect_backoff_ms", 200),
                ],
            )
        return self.channel

    @property
    def kv(self) -> services.KVStub:
        return services.KVStub(self.stubs())

    @property
    def cluster(self) -> services.ClusterStub:
        return services.ClusterStub(self.stubs())

    @property
    def maintenance(self) -> services.MaintenanceStub:
        return services.MaintenanceStub(self.stubs())

    @property
    def lease(self) -> services.LeaseStub:
        return services.LeaseStub(self.stubs())

    @property
    def peer_url(self) -> str:
        return self.process.peer_url

    def put(self, key: bytes, value: bytes, timeout: float = 10) -> int:
        request = rpc.PutRequest(key=key, value=value)
        answer = self.kv.Put(request, timeout=timeout, wait_for_ready=True)
        return int(answer.header.revision)

    def get(self, key: bytes, *, serializable: bool = False, timeout: float = 10) -> bytes | None:
        request = rpc.RangeRequest(key=key, serializable=serializable)
        found = self.kv.Range(request, timeout=timeout, wait_for_ready=True).kvs
        return bytes(found[0].value) if found else None

    def status(self) -> rpc.StatusResponse:
        return self.maintenance.Status(rpc.StatusRequest(), timeout=10, wait_for_ready=True)

    def hash_kv(self, revision: int = 0) -> tuple[int, int]:
        answer = self.maintenance.HashKV(rpc.HashKVRequest(revision=revision), timeout=10)
        return int(answer.hash), int(answer.header.revision)

    def members(self) -> list[rpc.Member]:
        request = rpc.MemberListRequest(linearizable=True)
        return list(self.cluster.MemberList(request, timeout=10).members)

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None


class Cluster:
    """Some members that were founded together, and those that joined them."""

    def __init__(self, members: list[ClusterMember], directory: Path) -> None:
        self.members = members
        self.directory = directory

    def __getitem__(self, index: int) -> ClusterMember:
        return self.members[index]

    def running(self) -> list[ClusterMember]:
        return [member for member in self.members if member.process.running()]

    def start(self) -> None:
        for member in self.members:
            member.process.spawn()
        for member in self.members:
            member.process.wait_ready(SECONDS_MAX)

    def leader(self, among: Sequence[ClusterMember] = ()) -> ClusterMember:
        """Waits until all of `among` know the same leader, and that is one of them."""
        found: list[ClusterMember] = []

        def agreed() -> bool:
            found.clear()
            try:
                answers = [(m, m.status()) for m in among or self.running()]
            except grpc.RpcError:
                return False
            leaders = {answer.leader for _, answer in answers}
            found.extend(m for m, answer in answers if {answer.header.member_id} == leaders)
            return len(found) == 1

        wait_until(agreed, SECONDS_MAX, "a leader that everybody knows")
        return found[0]

    def followers(self) -> list[ClusterMember]:
        leader = self.leader()
        return [member for member in self.running() if member is not leader]

    def wait_equal(self, revision: int) -> set[int]:
        """The hashes of all running members, once all of them have `revision`."""

        def caught_up() -> bool:
            try:
                return all(m.status().header.revision >= revision for m in self.running())
            except grpc.RpcError:
                return False

        wait_until(caught_up, SECONDS_MAX, "every member has the revision")
        return {member.hash_kv(revision)[0] for member in self.running()}

    def joiner(
        self, name: str, command: Sequence[str] = KEYDECK, flags: Sequence[str] = ()
    ) -> ClusterMember:
        """A member that is to join; its peer URL is fixed, it is not started."""
        process = ServerProcess(
            command, self.directory / name / "data", name, flags, client_port=free_port(),
            peer_port=free_port(),
        )  # fmt: skip
        known = [f"{m.process.name}={m.process.peer_url}" for m in self.members]
        process.initial_cluster = ",".join([*known, f"{name}={process.peer_url}"])
        process.flags = ("--initial-cluster-state=existing", *flags)
        member = ClusterMember(process)
        self.members.append(member)
        return member


@contextlib.contextmanager
def cluster_of(
    directory: Path,
    *commands: Sequence[str],
    flags: Sequence[str] = (),
    starts: bool = True,
    scheme: str = "http",
) -> Iterator[Cluster]:
    """A cluster with one member per command; all of them are ended with the `with`."""
    members = [
        ClusterMember(
            ServerProcess(
                command, directory / f"m{i}" / "data", f"m{i}", flags, client_port=free_port(),
                peer_port=free_port(), peer_scheme=scheme,
            )
        )
        for i, command in enumerate(commands)
    ]  # fmt: skip
    initial = ",".join(f"{m.process.name}={m.process.peer_url}" for m in members)
    for member in members:
        member.process.initial_cluster = initial
    cluster = Cluster(members, directory)
    try:
        if starts:
            cluster.start()
        yield cluster
    finally:
        for member in cluster.members:
            member.close()
            if member.process.running():
                member.process.kill()
