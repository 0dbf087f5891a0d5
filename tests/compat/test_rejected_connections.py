"""Connections that are refused: logged in the words of the real etcd (spec/config.md §5 rule 3)."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.certificates import Authority, Identity
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import (
    ServerProcess,
    etcd_server,
    free_port,
    keydeck_server,
    wait_until,
)

pytestmark = pytest.mark.compat

SECONDS_MAX = 60.0
Attempt = Callable[[int], None]


def shaking(
    directory: Path, *, identity: Identity | None = None, **settings: object
) -> Callable[[int], None]:
    """A client that tries a handshake and waits for the other side's opinion of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity is not None:
        cert, key = identity.write(directory, f"{identity.serial:x}")
        context.load_cert_chain(cert, key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for name, value in settings.items():
        if name == "ciphers":
            context.set_ciphers(str(value))
        else:
            setattr(context, name, value)

    def attempt(port: int) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        with plain, suppress(OSError), context.wrap_socket(plain, server_hostname="db") as secured:
            secured.recv(1)

    return attempt


def plain_text(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(OSError):
            plain.recv(1)


def reasons(server: ServerProcess) -> list[tuple[str, str]]:
    """(server-name, error) of every refusal so far, but of who only looked whether the port is
    open: a real etcd tells of that too, and when it comes to it."""
    found = []
    for line in server.log(1_000_000).splitlines():
        with suppress(ValueError):
            fields = json.loads(line)
            if fields["msg"].startswith("rejected connection") and fields["error"] != "EOF":
                found.append((fields["server-name"], fields["error"]))
    return found


@pytest.fixture
def servers(tmp_path: Path, release35: EtcdRelease) -> list[ServerProcess]:
    authority = Authority()
    cert, key = authority.issue("member", "127.0.0.1").write(tmp_path, "member")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    flags = (f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={ca}")
    return [
        etcd_server(release35, tmp_path / "etcd" / "data", flags=flags, client_port=free_port()),
        keydeck_server(tmp_path / "kd" / "data", flags=flags, client_port=free_port()),
    ]


def test_the_same_words(tmp_path: Path, servers: list[ServerProcess]) -> None:
    stranger = Authority("another authority").issue("mallory")
    attempts: dict[str, Attempt] = {
        "no certificate": shaking(tmp_path),
        "another authority": shaking(tmp_path, identity=stranger),
        "no TLS": plain_text,
        "a suite that the server does not have": shaking(
            tmp_path, ciphers="ECDHE-RSA-AES128-GCM-SHA256"
        ),
    }
    told: list[dict[str, tuple[str, str]]] = []
    for server in servers:
        server.authority = b"-"  # its URL is https
        server.spawn()
        try:
            wait_until(lambda of=server: listens(of), SECONDS_MAX, "it listens")
            found: dict[str, tuple[str, str]] = {}
            for name, attempt in attempts.items():
                before = len(reasons(server))
                attempt(server.client_port)
                wait_until(
                    lambda of=server, than=before: len(reasons(of)) > than, SECONDS_MAX, name
                )
                found[name] = reasons(server)[-1]
            told.append(found)
        finally:
            server.terminate()
    assert told[1] == told[0]


def listens(server: ServerProcess) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", server.client_port), timeout=1).close()
        return True
    return False
