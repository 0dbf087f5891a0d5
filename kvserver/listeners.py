"""Where a member listens and how it dials: URLs and TLS flags become sockets and contexts.

Every listener and every outgoing connection to a member gets its TLS from here, so that no flag
can hold for one of them and not for another.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from kvserver.clock import Clock
from kvserver.config import Config
from kvserver.errors import FatalError
from kvserver.logs import Logger
from kvserver.tls import DialTls, ServerTls, TlsSettings
from kvserver.tls.self_signed import self_signed_pair
from kvserver.transport import Server as Transport
from kvserver.transport import TlsSource

SECURE_SCHEMES = ("https", "unixs")


class Listeners:
    """What a configuration says about listening and dialling. Owner: the loop."""

    def __init__(self, config: Config, clock: Clock, log: Logger) -> None:
        """Makes the certificates of auto-TLS, and reads all others once: `FatalError` for files
        that cannot be used."""
        self._config = config
        self._clock = clock
        self._log = log
        self._clients = self._server_tls(self._client_settings(), is_peer=False)
        peers = self._peer_settings()
        self._peers = self._server_tls(peers, is_peer=True)
        # Whoever answers DNS queries can name a host of its own: with certificates that anybody
        # may get, members have to show one for the domain (spec/cluster.md §8.1). A private
        # authority signs for members only, and then the host's name is enough, as with etcd.
        name = "" if config.peer_trusted_ca_file else config.discovery_srv
        self.dialling = DialTls(peers, log.warn, name)
        """How this member dials others."""

    # -- listening

    async def listen_to_peers(self, transport: Transport) -> None:
        await self._listen(transport, self._config.listen_peer_urls, self._peers, "peer")

    async def listen_to_clients(self, transport: Transport, monitoring: Transport) -> None:
        """gRPC and HTTP at the client URLs, unless HTTP has URLs of its own; `monitoring` at the
        metrics URLs, with the same TLS."""
        config, tls = self._config, self._clients
        apart = config.listen_client_http_urls
        await self._listen(
            transport, config.listen_client_urls, tls, "client", serve_http=not apart
        )
        await self._listen(transport, apart, tls, "client", serve_grpc=False)
        await self._listen(monitoring, config.listen_metrics_urls, tls, "metrics", serve_grpc=False)

    async def _listen(
        self,
        transport: Transport,
        urls: tuple[str, ...],
        tls: TlsSource | None,
        kind: str,
        *,
        serve_grpc: bool = True,
        serve_http: bool = True,
    ) -> None:
        for url in urls:
            parts = urlsplit(url)
            secure = tls if parts.scheme in SECURE_SCHEMES else None
            try:
                if parts.scheme.startswith("unix"):
                    address = await transport.listen_unix(
                        parts.netloc + parts.path, secure, serve_grpc, serve_http
                    )
                else:
                    host, port = await transport.listen_tcp(
                        parts.hostname or "",
                        parts.port or 0,
                        secure,
                        serve_grpc,
                        serve_http,
                        reuse_port=self._config.socket_reuse_port,
                    )
                    address = f"{host}:{port}"
            except OSError as error:
                raise FatalError(f"listen {url}: {error.strerror or error}") from None
            self._tell(kind, url, address, is_secure=secure is not None)

    def _tell(self, kind: str, url: str, address: str, *, is_secure: bool) -> None:
        log = self._log
        if kind != "client":
            log.info(f"serving {kind} traffic", address=address, url=url)
        elif is_secure:
            log.info("serving client traffic securely", address=address, url=url)
        else:
            log.info(
                "serving client traffic insecurely; this is strongly discouraged!",
                address=address,
                url=url,
            )

    # -- TLS

    def _server_tls(self, settings: TlsSettings, *, is_peer: bool) -> ServerTls | None:
        """None without a certificate: no URL is https then (config/validate.py)."""
        if settings.is_empty:
            return None
        self._log.info(
            f"starting with {'peer' if is_peer else 'client'} TLS",
            tls_info=settings.describe(),
            cipher_suites=list(settings.cipher_suites),
        )
        return ServerTls(
            settings,
            self._log.warn,
            checks_origin=is_peer and not self._config.peer_skip_client_san_verification,
        )

    def _client_settings(self) -> TlsSettings:
        config = self._config
        urls = (*config.listen_client_urls, *config.listen_client_http_urls)
        cert, key, is_made = self._pair(
            "client", config.cert_file, config.key_file, urls, wanted=config.auto_tls
        )
        return TlsSettings(
            cert_file=cert,
            key_file=key,
            client_cert_file=config.client_cert_file,
            client_key_file=config.client_key_file,
            trusted_ca_file=config.trusted_ca_file,
            client_cert_auth=config.client_cert_auth,
            crl_file=config.client_crl_file,
            allowed_cns=config.client_cert_allowed_cn,
            allowed_hostnames=config.client_cert_allowed_hostname,
            cipher_suites=config.cipher_suites,
            version_min=config.tls_min_version,
            version_max=config.tls_max_version,
            is_self_signed=is_made,
        )

    def _peer_settings(self) -> TlsSettings:
        config = self._config
        cert, key, is_made = self._pair(
            "peer",
            config.peer_cert_file,
            config.peer_key_file,
            config.listen_peer_urls,
            wanted=config.peer_auto_tls,
        )
        return TlsSettings(
            cert_file=cert,
            key_file=key,
            client_cert_file=config.peer_client_cert_file,
            client_key_file=config.peer_client_key_file,
            trusted_ca_file=config.peer_trusted_ca_file,
            client_cert_auth=config.peer_client_cert_auth,
            crl_file=config.peer_crl_file,
            allowed_cns=config.peer_cert_allowed_cn,
            allowed_hostnames=config.peer_cert_allowed_hostname,
            cipher_suites=config.cipher_suites,
            version_min=config.tls_min_version,
            version_max=config.tls_max_version,
            is_self_signed=is_made,
        )

    def _pair(
        self, kind: str, cert: str, key: str, urls: tuple[str, ...], *, wanted: bool
    ) -> tuple[str, str, bool]:
        """Certificate, key, and whether this member has made them (auto-TLS)."""
        if not wanted:
            return cert, key, False
        if cert or key:
            self._log.warn(f"ignoring {kind} auto TLS since certs given")
            return cert, key, False
        secure = [urlsplit(url) for url in urls if urlsplit(url).scheme in SECURE_SCHEMES]
        if not secure:
            return cert, key, False
        made = self_signed_pair(
            os.path.join(self._config.data_dir, "fixtures", kind),
            [parts.hostname or "localhost" for parts in secure],
            self._config.self_signed_cert_validity,
            self._clock.wall(),
            is_for_clients_too=kind == "peer",
        )
        return *made, True
