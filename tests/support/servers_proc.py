"""Members as real processes: etcd or Keydeck on free ports, started, watched and ended by pid.

A `ServerProcess` owns one data directory and one pair of ports for its whole life, so that it can
be killed and started again on the same state. Readiness is asked of the member itself (it answers
a linearizable read), never waited for by a fixed pause.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import selectors
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.etcd_binaries import REPOSITORY, EtcdRelease, release_at
from tests.support.ports import free_port

READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
ASK_SECONDS_MAX = 30.0
"""Of a question to a member that is there: all of these only end a test that hangs."""
POLL_SECONDS = 0.01
START_ATTEMPTS_MAX = 3


class ServerFailed(AssertionError):
    """The process ended, or never became ready; the message carries the end of its log."""


def wait_until(condition: object, seconds_max: float, what: str) -> None:
    """Poll a callable until it is true; AssertionError naming `what` when it never is."""
    deadline = time.monotonic() + seconds_max
    pause = threading.Event()
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max} s: {what}")
        pause.wait(POLL_SECONDS)


@dataclass
class ServerProcess:
    """One member. `command` is what is started; etcd's flags follow it."""

    command: Sequence[str]
    data_dir: Path
    name: str = "default"
    flags: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    client_port: int = 0
    peer_port: int = 0
    host: str = "127.0.0.1"
    initial_cluster: str = ""
    peer_scheme: str = "http"
    authority: bytes | None = None
    """Of its certificate, PEM, where clients have to use TLS; its flags name the files."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"{self.peer_scheme}://{self.host}:{self.peer_port}"

    @property
    def log_path(self) -> Path:
        return self.data_dir.with_name(self.data_dir.name + ".log")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def arguments(self) -> list[str]:
        client = f"{'https' if self.authority else 'http'}://{self.endpoint}"
        peer = self.peer_url
        return [
            *self.command,
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.initial_cluster or f'{self.name}={peer}'}",
            *self.flags,
        ]

    def spawn(self) -> None:
        """Start the process without waiting for it to be ready."""
        assert self.process is None or self.process.poll() is not None, "already running"
        self.client_port = self.client_port or free_port()
        self.peer_port = self.peer_port or free_port()
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self.environment}
        environment["PYTHONPATH"] = str(REPOSITORY)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.data_dir.parent,
            )

    def start(self) -> None:
        """Start and wait until a linearizable read is answered."""
        fresh_ports = not self.client_port
        for attempt in range(START_ATTEMPTS_MAX):
            self.spawn()
            try:
                self.wait_ready()
                return
            except ServerFailed:
                taken = "address already in use" in self.log().lower()
                if not (fresh_ports and taken) or attempt == START_ATTEMPTS_MAX - 1:
                    raise
                self.client_port = self.peer_port = 0

    def wait_ready(self, seconds_max: float = READY_SECONDS_MAX) -> None:
        def ready() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise ServerFailed(self._complaint("ended before it was ready"))
            return self.answers()

        try:
            wait_until(ready, seconds_max, "the member answers")
        except ServerFailed:
            raise
        except AssertionError:
            self.kill()
            raise ServerFailed(self._complaint("was not ready in time")) from None

    def answers(self) -> bool:
        """A linearizable read succeeds. Not `/health`: that is false under an alarm."""
        try:
            socket.create_connection((self.host, self.client_port), timeout=5).close()
        except OSError:
            return False
        with self.channel() as channel:
            try:
                services.KVStub(channel).Range(rpc.RangeRequest(key=b"health"), timeout=5)
            except grpc.RpcError:
                return False
        return True

    def http_get(self, path: str) -> str:
        return self.http_answer(path)[1]

    def http_answer(self, path: str) -> tuple[int, str]:
        """Status and body."""
        connection = self._http_connection()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def channel(self, options: Sequence[tuple[str, object]] = ()) -> grpc.Channel:
        if self.authority is None:
            return grpc.insecure_channel(self.endpoint, options=options)
        credentials = grpc.ssl_channel_credentials(self.authority)
        return grpc.secure_channel(self.endpoint, credentials, options=options)

    def _http_connection(self) -> http.client.HTTPConnection:
        if self.authority is None:
            return http.client.HTTPConnection(self.host, self.client_port, timeout=ASK_SECONDS_MAX)
        context = ssl.create_default_context(cadata=self.authority.decode())
        return http.client.HTTPSConnection(
            self.host, self.client_port, timeout=ASK_SECONDS_MAX, context=context
        )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def terminate(self, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """SIGTERM and wait; returns the exit status, -9 when it had to be killed."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds_max)

    def wait_exit(self, seconds_max: float) -> int:
        assert self.process is not None
        try:
            return self.process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a power cut would; nothing is flushed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(STOP_SECONDS_MAX)

    def log(self, bytes_max: int = 6000) -> str:
        try:
            data = self.log_path.read_bytes()
        except FileNotFoundError:
            return ""
        return data[-bytes_max:].decode(errors="replace")

    def memory_bytes(self) -> dict[str, int]:
        """VmRSS, RssAnon and RssFile of the process, in bytes."""
        found: dict[str, int] = {}
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in {"VmRSS", "RssAnon", "RssFile"}:
                found[name] = int(rest.split()[0]) * 1024
        return found

    def _complaint(self, what: str) -> str:
        return f"{self.command[0]} {what}\n--- end of {self.log_path.name} ---\n{self.log()}"


def etcd_server(release: EtcdRelease, data_dir: Path, **options: object) -> ServerProcess:
    """A real etcd, its log kept to what matters."""
    extra = tuple(options.pop("flags", ()))  # type: ignore[arg-type]
    flags = ("--logger=zap", "--log-level=warn", "--log-outputs=stderr", *extra)
    return ServerProcess([str(release.etcd)], data_dir, flags=flags, **options)  # type: ignore[arg-type]


def keydeck_command() -> list[str]:
    """`KEYDECK_COMMAND` puts another in its place, such as a profiler around it."""
    own = os.environ.get("KEYDECK_COMMAND")
    return shlex.split(own) if own else [sys.executable, "-m", "kvserver"]


def keydeck_server(data_dir: Path, **options: object) -> ServerProcess:
    extra = tuple(options.pop("flags", ()))  # type: ignore[arg-type]
    return ServerProcess(keydeck_command(), data_dir, flags=extra, **options)  # type: ignore[arg-type]


def make_subject(data_dir: Path, **options: object) -> ServerProcess:
    """Keydeck, or the etcd that `KEYDECK_COMPAT_SUBJECT` names while a harness is tried."""
    path = os.environ.get("KEYDECK_COMPAT_SUBJECT")
    if not path:
        return keydeck_server(data_dir, **options)
    stand_in = release_at(Path(path))
    assert stand_in is not None, f"{path} is not an etcd"
    return etcd_server(stand_in, data_dir, **options)


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """The member for the length of a block; ended by its own pid whatever happens."""
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.terminate()


def wait_for_output(process: subprocess.Popen[bytes], wanted: bytes, seconds_max: float) -> bytes:
    """Read a child's stdout until `wanted` has appeared; what was read so far is returned."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    seen = b""
    deadline = time.monotonic() + seconds_max
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while wanted not in seen:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{wanted!r} did not appear in {seen!r}")
            if not selector.select(left):
                continue
            chunk = process.stdout.read()
            if chunk == b"":
                raise AssertionError(f"ended without {wanted!r}: {seen!r}")
            seen += chunk or b""
    return seen
