"""A TLS client and a `ServerTls` that shake hands in memory: no sockets, no loop."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from kvserver.tls import ServerTls, TlsSettings
from tests.support.certificates import Authority, Identity


@dataclass
class Files:
    """An authority, a server's certificate, and where all of it lies."""

    directory: Path
    authority: Authority
    cert: Path
    key: Path
    ca: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Files:
        authority = Authority()
        cert, key = authority.issue("server", "127.0.0.1").write(directory, "server")
        ca = directory / "ca.crt"
        ca.write_bytes(authority.certificate)
        return cls(directory, authority, cert, key, ca)

    def settings(self, **more: object) -> TlsSettings:
        return TlsSettings(cert_file=str(self.cert), key_file=str(self.key), **more)  # type: ignore[arg-type]

    def client(
        self, identity: Identity | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    ) -> ssl.SSLContext:
        """TLS 1.2 unless told otherwise: there a refusal reaches the client in the handshake."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        if identity is not None:
            cert, key = identity.write(self.directory, f"client-{identity.serial:x}")
            context.load_cert_chain(cert, key)
        return context


@dataclass
class Warnings:
    """Stands in for `Logger.warn`."""

    lines: list[str]

    def __call__(self, message: str, **fields: object) -> None:
        self.lines.append(f"{message}: {fields.get('error')}")


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """(server's side, client's side) after a handshake; raises what either side raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    waiting = [theirs, ours]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    return ours, theirs


async def admitted(
    tls: ServerTls, client: ssl.SSLContext, remote: str = "127.0.0.1"
) -> ssl.SSLObject:
    """The client's side of a connection that `tls` has let in; raises what refused it."""
    ours, theirs = shake(tls.context(), client)
    await tls.check(ours, remote)
    return theirs
