"""TLS: who the server is, who the client is, and a name that is not the host's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.errors import Code
from kvserver.proto import rpc_pb2
from tests.support.certificates import Authority, Identity
from tests.support.servers import Server, kinds, running

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Guarded:
    server: Server
    authority: Authority
    client: Identity

    def connect(self, **changes: object) -> Client:
        config: dict[str, object] = {
            "tls_ca": self.authority.certificate,
            "tls_certificate": self.client.certificate,
            "tls_key": self.client.key,
            "tls_server_name": "db.internal",
        }
        return Client(ClientConfig((self.server.endpoint,), **(config | changes)))


@pytest.fixture(scope="module", params=kinds())
def guarded(request, tmp_path_factory) -> Iterator[Guarded]:
    directory: Path = tmp_path_factory.mktemp("tls")
    authority = Authority()
    client = authority.issue("ada")
    certificate, key = authority.issue("member", "db.internal").write(directory, "member")
    (directory / "ca.crt").write_bytes(authority.certificate)
    tls = {
        "tls_ca": authority.certificate,
        "tls_certificate": client.certificate,
        "tls_key": client.key,
        "tls_server_name": "db.internal",
    }
    flags = [
        f"--cert-file={certificate}",
        f"--key-file={key}",
        f"--trusted-ca-file={directory / 'ca.crt'}",
        "--client-cert-auth=true",
    ]
    with running(request.param, directory, flags=flags, tls=tls) as [server]:
        yield Guarded(server, authority, client)


def ask(client: Client, seconds: float = 3.0) -> int:
    try:
        request = rpc_pb2.RangeRequest(key=b"k")
        return client.read(lambda s: s.kv.Range, request, seconds).header.revision
    finally:
        client.close()


def test_with_the_right_certificates(guarded: Guarded) -> None:
    assert ask(guarded.connect(), 60.0) >= 1


@pytest.mark.parametrize(
    "changes",
    [
        {"tls_server_name": None},
        {"tls_ca": Authority().certificate},
        {"tls_certificate": None, "tls_key": None},
    ],
    ids=["another name", "another authority", "no client certificate"],
)
def test_with_a_wrong_one_there_is_no_connection(guarded: Guarded, changes) -> None:
    with pytest.raises(CallFailed) as caught:
        ask(guarded.connect(**changes))
    assert caught.value.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}
