"""Real servers for tests: an etcd from PATH, or Keydeck itself, alone or three in a cluster.

Every server listens on free ports of 127.0.0.1, keeps its data in a directory of the test run
and is ended by its own process handle.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kvserver.client import Client, ClientConfig, Endpoint
from kvserver.proto import rpc_pb2
from tests.support.etcd_binaries import find_etcd35
from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS_MAX = 90.0
CONNECT_SECONDS_MAX = 5.0
POLL_SECONDS = 0.01

ETCD = "etcd"
ETCD35 = "etcd-3.5"
KEYDECK = "keydeck"


def kinds() -> list[str]:
    """What the console's tests run against: a real etcd and Keydeck, or what
    KEYDECK_TEST_SERVERS names."""
    named = os.environ.get("KEYDECK_TEST_SERVERS", "")
    return named.split(",") if named else [ETCD, KEYDECK]


def cluster_kinds() -> list[str]:
    """What can stand in a cluster of several members."""
    return kinds()


def with_etcd35() -> list[str]:
    """The same and, where it is at hand, etcd 3.5: for what changed between the two."""
    named = kinds()
    return [*named, ETCD35] if ETCD in named and find_etcd35() else named


def newest_kinds() -> list[str]:
    """Keydeck and the newest etcd at hand, for what takes its time and is the same in both."""
    every = with_etcd35()
    return [kind for kind in every if kind != ETCD] if ETCD35 in every else every


def program(kind: str) -> list[str]:
    if kind == KEYDECK:
        return [sys.executable, "-m", "kvserver"]
    if kind == ETCD35:
        release = find_etcd35()
        assert release, "etcd 3.5 is not at hand"
        return [str(release.etcd)]
    found = shutil.which("etcd")
    assert found, "these tests need a real etcd: no program named etcd is on PATH"
    return [found]


@dataclass(slots=True)
class Server:
    """One running member."""

    name: str
    client_url: str
    peer_url: str
    directory: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    tls: Mapping[str, bytes] = field(default_factory=dict)
    """For https: what `ClientConfig` takes to reach it."""
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.directory / f"{self.name}.log"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.parse(self.client_url)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT
            )

    def stop(self) -> None:
        """SIGTERM, wait; SIGKILL for one that does not listen."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def client(self) -> Client:
        return Client(ClientConfig((self.endpoint,), **self.tls))

    def wait_until_ready(self) -> None:
        """Until it answers a linearizable read, so that there is a leader too."""
        deadline = time.monotonic() + START_SECONDS_MAX
        self._wait_until_it_listens(deadline)
        client = self.client()
        read = client.stubs(self.endpoint).kv.Range
        try:
            while True:
                try:
                    read(rpc_pb2.RangeRequest(key=b"?"), timeout=5.0, wait_for_ready=True)
                    return
                except grpc.RpcError as error:
                    self._assert_alive()
                    assert time.monotonic() < deadline, f"{self.name} is not ready: {error}"
        finally:
            client.close()

    def _wait_until_it_listens(self, deadline: float) -> None:
        """A gRPC channel that met nobody lets more time pass before it dials again than members
        take to start."""
        pause = threading.Event()
        address = (self.endpoint.host, self.endpoint.port)
        while True:
            try:
                socket.create_connection(address, CONNECT_SECONDS_MAX).close()
                return
            except OSError:
                self._assert_alive()
                assert time.monotonic() < deadline, f"{self.name} does not listen"
            pause.wait(POLL_SECONDS)

    def _assert_alive(self) -> None:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"{self.name} ended with {code}:\n{self.log.read_text()[-2000:]}"


def start_cluster(
    kind: str,
    directory: Path,
    size: int = 1,
    flags: Sequence[str] = (),
    tls: Mapping[str, bytes] | None = None,
) -> list[Server]:
    """Start `size` members and return when every one of them answers."""
    scheme = "https" if tls else "http"
    directory.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * size)
    names = [f"m{number}" for number in range(size)]
    urls = [
        (f"{scheme}://127.0.0.1:{ports[2 * i]}", f"http://127.0.0.1:{ports[2 * i + 1]}")
        for i in range(size)
    ]
    initial = ",".join(f"{name}={peer}" for name, (_, peer) in zip(names, urls, strict=True))
    servers = [
        Server(name, client, peer, directory, command(kind, name, directory, client, peer, initial))
        for name, (client, peer) in zip(names, urls, strict=True)
    ]
    for server in servers:
        server.command += flags
        server.tls = tls or {}
        server.start()
    try:
        for server in servers:
            server.wait_until_ready()
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers


@contextmanager
def running(
    kind: str,
    directory: Path,
    size: int = 1,
    flags: Sequence[str] = (),
    tls: Mapping[str, bytes] | None = None,
) -> Iterator[list[Server]]:
    """A cluster for the length of a `with`, ended however that ends."""
    servers = start_cluster(kind, directory, size, flags, tls)
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def command(
    kind: str, name: str, directory: Path, client: str, peer: str, initial: str
) -> list[str]:
    return [
        *program(kind),
        f"--name={name}",
        f"--data-dir={directory / name}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={initial}",
    ]
