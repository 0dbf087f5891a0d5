"""A member with TLS on every listener, met by real clients (spec/config.md §5)."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import ItemsView, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from kvserver.tls.certificates import serial_text
from tests.support.certificates import Authority, Identity
from tests.support.etcd_binaries import find_etcd34, find_etcd35
from tests.support.servers import KEYDECK, Server, command, free_ports, running
from tests.support.servers_proc import wait_until

pytestmark = pytest.mark.e2e

SECONDS_MAX = 60.0
"""Only an upper bound for a test that hangs."""
READ = rpc.RangeRequest(key=b"k")


@dataclass
class Guarded:
    """A member that demands certificates on every listener, and what reaches it."""

    server: Server
    directory: Path
    authority: Authority
    ports: dict[str, int]
    alice: Identity
    carol: Identity

    @property
    def cert(self) -> Path:
        return self.directory / "member.crt"

    @property
    def crl(self) -> Path:
        return self.directory / "crl.der"

    def context(self, identity: Identity | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if identity is not None:
            cert, key = identity.write(self.directory, f"client-{identity.serial:x}")
            context.load_cert_chain(cert, key)
        return context

    def status(self, listener: str, identity: Identity | None) -> int:
        """Of `GET /health` at one of the listeners; 0 where the connection is refused."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.ports[listener], timeout=SECONDS_MAX, context=self.context(identity)
        )
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def channel(self, identity: Identity) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.authority.certificate, identity.key, identity.certificate
        )
        return grpc.secure_channel(
            f"127.0.0.1:{self.ports['client']}",
            credentials,
            [("grpc.use_local_subchannel_pool", 1)],
        )

    def rejected(self) -> list[dict[str, Any]]:
        written = self.server.log.read_bytes()
        whole = written[: written.rfind(b"\n") + 1].splitlines()  # one may be on its way
        lines = [json.loads(line) for line in whole if line]
        return [line for line in lines if line["msg"].startswith("rejected connection on ")]

    def wait_for_refusal(self, kind: str, error: str, **more: object) -> dict[str, Any]:
        """The line of the log, which may be written after the client has seen the end."""
        wanted = {"msg": f"rejected connection on {kind} endpoint", "error": error, **more}
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [line for line in self.rejected() if wanted.items() <= comparable(line)]
            return bool(found)

        wait_until(there, SECONDS_MAX, f"{wanted}")
        return found[0]


def comparable(line: dict[str, Any]) -> ItemsView[str, Any]:
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in line.items()}
    return fields.items()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = Path(tmp_path_factory.mktemp("tls"))
    authority = Authority()
    cert, key = authority.issue("member", "127.0.0.1").write(directory, "member")
    ca, crl = directory / "ca.crt", directory / "crl.der"
    ca.write_bytes(authority.certificate)
    crl.write_bytes(authority.revoke().public_bytes(Encoding.DER))
    http_port, metrics_port, peer_port = free_ports(3)
    alice = authority.issue("alice", "clients.example.com")
    flags = [
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={ca}",
        "--client-cert-auth",
        f"--client-crl-file={crl}",
        "--client-cert-allowed-hostname=clients.example.com",
        f"--listen-client-http-urls=https://127.0.0.1:{http_port}",
        f"--listen-metrics-urls=https://127.0.0.1:{metrics_port}",
        f"--peer-cert-file={cert}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={ca}",
        f"--peer-crl-file={crl}",
        "--peer-skip-client-san-verification",
        f"--listen-peer-urls=https://127.0.0.1:{peer_port}",
        f"--initial-advertise-peer-urls=https://127.0.0.1:{peer_port}",
        f"--initial-cluster=m0=https://127.0.0.1:{peer_port}",
        "--log-level=debug",
    ]
    tls = {
        "tls_ca": authority.certificate,
        "tls_certificate": alice.certificate,
        "tls_key": alice.key,
    }
    with running(KEYDECK, directory, flags=flags, tls=tls) as [server]:
        ports = {
            "client": server.endpoint.port,
            "http": http_port,
            "metrics": metrics_port,
            "peer": peer_port,
        }
        carol = authority.issue("carol", "clients.example.com")
        yield Guarded(server, directory, authority, ports, alice, carol)


def test_every_listener_demands_a_certificate(guarded: Guarded) -> None:
    """spec/config.md case 17."""
    for listener in ("http", "metrics"):
        assert guarded.status(listener, None) == 0
        assert guarded.status(listener, guarded.alice) == 200
    assert guarded.status("peer", None) == 0
    assert guarded.status("peer", guarded.alice) in (200, 404)
    with guarded.channel(guarded.alice) as channel:
        services.KVStub(channel).Put(rpc.PutRequest(key=b"k", value=b"v"), timeout=SECONDS_MAX)


def test_only_clients_of_an_allowed_name(guarded: Guarded) -> None:
    stranger = guarded.authority.issue("alice", "elsewhere.example.com")
    assert guarded.status("http", stranger) == 0
    refused_name = {"dns-names": ("elsewhere.example.com",)}
    guarded.wait_for_refusal("client", "client certificate authentication failed", **refused_name)
    with guarded.channel(stranger) as channel, pytest.raises(grpc.RpcError) as refused:
        services.KVStub(channel).Range(READ, timeout=2)
    assert refused.value.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def test_refusals_are_logged_as_etcd_logs_them(guarded: Guarded) -> None:
    """spec/config.md §5 rule 3: the words that operators' rules look for."""
    wait_for = guarded.wait_for_refusal
    assert guarded.status("peer", None) == 0
    wait_for("peer", "tls: client didn't provide a certificate")
    with socket.create_connection(("127.0.0.1", guarded.ports["client"])) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert plain.recv(1) == b""
    line = wait_for("client", "tls: first record does not look like a TLS handshake")
    assert line["level"] == "warn"
    assert line["remote-addr"].startswith("127.0.0.1:")
    socket.create_connection(("127.0.0.1", guarded.ports["client"])).close()
    assert wait_for("client", "EOF")["level"] == "debug"
    context = guarded.context(None)
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", guarded.ports["client"])) as plain,
        pytest.raises(OSError),
    ):
        context.wrap_socket(plain, server_hostname="db.internal")
    name = {"server-name": "db.internal"}
    wait_for("client", "tls: client didn't provide a certificate", **name)


def test_a_revoked_certificate_is_refused_everywhere_and_others_go_on(guarded: Guarded) -> None:
    """spec/config.md case 22; verification.md: CRL enforced on one listener only."""
    listeners = ("client", "http", "metrics", "peer")
    with guarded.channel(guarded.alice) as channel:
        kv = services.KVStub(channel)
        kv.Range(READ, timeout=SECONDS_MAX)
        for listener in listeners[1:]:
            assert guarded.status(listener, guarded.carol)
        guarded.crl.write_bytes(guarded.authority.revoke(guarded.carol).public_bytes(Encoding.PEM))
        for listener in listeners:
            assert guarded.status(listener, guarded.carol) == 0
        with guarded.channel(guarded.carol) as revoked, pytest.raises(grpc.RpcError):
            services.KVStub(revoked).Range(READ, timeout=2)
        kv.Range(READ, timeout=SECONDS_MAX)
    assert guarded.status("http", guarded.alice) == 200
    text = f"transport: certificate serial {serial_text(guarded.carol.serial)} revoked"
    for kind in ("client", "peer"):
        guarded.wait_for_refusal(kind, text)


def test_a_renewed_certificate_is_shown_without_a_restart(guarded: Guarded) -> None:
    """spec/config.md case 21: connections go on, the next one sees the new certificate."""

    def shown() -> int:
        address = ("127.0.0.1", guarded.ports["http"])
        with (
            socket.create_connection(address) as plain,
            guarded.context(guarded.alice).wrap_socket(
                plain, server_hostname="127.0.0.1"
            ) as secured,
        ):
            der = secured.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number

    with guarded.channel(guarded.alice) as channel:
        kv = services.KVStub(channel)
        kv.Range(READ, timeout=SECONDS_MAX)
        before = shown()
        renewed = guarded.authority.issue("member", "127.0.0.1")
        renewed.write(guarded.directory, "member")
        assert shown() == renewed.serial != before
        kv.Range(READ, timeout=SECONDS_MAX)


def test_etcds_own_client(guarded: Guarded) -> None:
    """Mutual TLS from the command line: writing, reading, and asking the member itself."""
    cert, key = guarded.alice.write(guarded.directory, "alice")
    url, ca = guarded.server.client_url, guarded.directory / "ca.crt"
    reach = ("--endpoints", url, "--cacert", str(ca))
    own = (*reach, "--cert", str(cert), "--key", str(key))
    assert etcdctl(guarded.server, *own, "put", "fromctl", "v") == "OK\n"
    assert etcdctl(guarded.server, *own, "get", "fromctl") == "fromctl\nv\n"
    assert "m0, " in etcdctl(guarded.server, *own, "member", "list")
    assert url in etcdctl(guarded.server, *own, "endpoint", "status")
    with pytest.raises(AssertionError, match=r"context deadline exceeded|Unavailable"):
        etcdctl(guarded.server, *reach, "get", "fromctl", seconds=2)


# -- other ways to be reached


def etcdctl(server: Server, *arguments: str, seconds: int = 30) -> str:
    """A command is given longer than by itself: of a machine that is busy with something else."""
    release = find_etcd35() or find_etcd34()
    if release is None:
        pytest.skip("needs etcdctl")
    done = subprocess.run(
        [release.etcdctl, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        env={
            **os.environ,
            "ETCDCTL_API": "3",
            "ETCDCTL_COMMAND_TIMEOUT": f"{seconds}s",
            "ETCDCTL_DIAL_TIMEOUT": f"{seconds}s",
        },
        cwd=server.directory,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READY = "ready to serve client requests"


@contextmanager
def member(directory: Path, client_url: str, peer_url: str, *flags: str) -> Iterator[Server]:
    """A member that nobody can ask whether it is ready before its files are there."""
    made = command(KEYDECK, "m0", directory, client_url, peer_url, f"m0={peer_url}")
    server = Server("m0", client_url, peer_url, directory, [*made, *flags])
    try:
        server.start()
        wait_ready(server)
        yield server
    finally:
        server.stop()


def wait_ready(server: Server, starts: int = 1) -> None:
    wait_until(
        lambda: server.log.exists() and server.log.read_text().count(READY) == starts,
        SECONDS_MAX,
        READY,
    )


def test_auto_tls(tmp_path: Path) -> None:
    """spec/config.md case 18: certificates are made once, and are what clients are shown."""
    fixtures = tmp_path / "m0" / "fixtures"
    client, peer = (f"https://127.0.0.1:{port}" for port in free_ports(2))
    flags = ("--auto-tls", "--peer-auto-tls", "--self-signed-cert-validity=3")
    with member(tmp_path, client, peer, *flags) as server:
        reach = ("--endpoints", client, "--cacert", str(fixtures / "client" / "cert.pem"))
        assert etcdctl(server, *reach, "put", "a", "b") == "OK\n"
        made = {path: path.read_bytes() for path in fixtures.rglob("*.pem")}
        assert {str(path.relative_to(fixtures)) for path in made} == {
            f"{kind}/{name}.pem" for kind in ("client", "peer") for name in ("cert", "key")
        }
        shown = ssl.get_server_certificate(("127.0.0.1", server.endpoint.port))
        certificate = x509.load_pem_x509_certificate(shown.encode())
        assert made[fixtures / "client" / "cert.pem"] == shown.encode()
        lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert lifetime.days == 3 * 365
        credentials = grpc.ssl_channel_credentials(shown.encode())
        with grpc.secure_channel(server.endpoint.target, credentials) as channel:
            services.KVStub(channel).Put(rpc.PutRequest(key=b"a", value=b"b"), timeout=SECONDS_MAX)
        server.stop()
        server.start()
        wait_ready(server, starts=2)
        assert etcdctl(server, *reach, "get", "a") == "a\nb\n"
        assert {path: path.read_bytes() for path in fixtures.rglob("*.pem")} == made


def test_unix_sockets_plain_and_secured(tmp_path: Path) -> None:
    """spec/config.md §5 rule 11, case 16: served through the file, which goes at the end."""
    authority = Authority()
    cert, key = authority.issue("member", "localhost").write(tmp_path, "member")
    plain, secured = tmp_path / "plain.sock", tmp_path / "secured.sock"
    with socket.socket(socket.AF_UNIX) as left:  # by a member that was killed
        left.bind(str(plain))
    peer = f"unix://{tmp_path / 'peer.sock'}"
    flags = (f"--cert-file={cert}", f"--key-file={key}")
    with member(tmp_path, f"unix://{plain},unixs://{secured}", peer, *flags):
        with grpc.insecure_channel(f"unix:{plain}") as channel:
            put = rpc.PutRequest(key=b"k", value=b"v")
            services.KVStub(channel).Put(put, timeout=SECONDS_MAX)
        credentials = grpc.ssl_channel_credentials(authority.certificate)
        options = [("grpc.ssl_target_name_override", "localhost")]
        with grpc.secure_channel(f"unix:{secured}", credentials, options) as channel:
            found = services.KVStub(channel).Range(READ, timeout=SECONDS_MAX)
            assert found.kvs[0].value == b"v"
    assert not list(tmp_path.glob("*.sock"))
