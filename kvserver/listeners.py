"""Where a member listens and how it dials: URLs and TLS flags become sockets and contexts.

Every listener and every outgoing connection to a member gets its TLS from here, so that no flag
can hold for one of them and not for another.
"""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from kvserver.config import Config
from kvserver.errors import FatalError
from kvserver.logs import Logger
from kvserver.peers.tls import dialling_context
from kvserver.tls import server_context
from kvserver.transport import Server as Transport


async def listen(
    transport: Transport,
    urls: tuple[str, ...],
    config: Config,
    log: Logger,
    *,
    serve_grpc: bool = True,
    serve_http: bool = True,
    is_peer: bool = False,
) -> None:
    """Serve at every one of `urls`. `FatalError` if one of them cannot be bound."""
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme.startswith("unix"):
            path = parts.netloc + parts.path
            await transport.listen_unix(path, serve_grpc, serve_http)
            continue
        context = listening_tls(config, is_peer=is_peer) if parts.scheme == "https" else None
        try:
            host, port = await transport.listen_tcp(
                parts.hostname or "", parts.port or 0, context, serve_grpc, serve_http
            )
        except OSError as error:
            raise FatalError(f"listen {url}: {error.strerror or error}") from None
        kind = "peer" if is_peer else "client"
        log.info(f"serving {kind} traffic", address=f"{host}:{port}", url=url)


def listening_tls(config: Config, *, is_peer: bool) -> ssl.SSLContext:
    if is_peer:
        return server_context(
            config.peer_cert_file,
            config.peer_key_file,
            trusted_ca_file=config.peer_trusted_ca_file,
            client_cert_auth=config.peer_client_cert_auth,
            version_min=config.tls_min_version,
            version_max=config.tls_max_version,
        )
    return server_context(
        config.cert_file,
        config.key_file,
        trusted_ca_file=config.trusted_ca_file,
        client_cert_auth=config.client_cert_auth,
        version_min=config.tls_min_version,
        version_max=config.tls_max_version,
    )


def peer_dialling_tls(config: Config) -> ssl.SSLContext | None:
    """How this member dials others; None without any peer TLS of its own."""
    cert = config.peer_client_cert_file or config.peer_cert_file
    key = config.peer_client_key_file or config.peer_key_file
    if not cert and not config.peer_trusted_ca_file:
        return None
    return dialling_context(cert, key, config.peer_trusted_ca_file)
