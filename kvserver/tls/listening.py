"""TLS of one kind of listener. Owner: the loop."""

from __future__ import annotations

import ssl

from kvserver.tls.certificates import (
    name_is_allowed,
    presented_serials,
    revoked_serials,
    serial_text,
)
from kvserver.tls.origin import Resolver, SystemResolver, check_origin
from kvserver.tls.reloading import Reloading
from kvserver.tls.settings import TlsSettings, Warn
from kvserver.tls.words import explain
from kvserver.transport import TlsRefused

NOT_ALLOWED = "client certificate authentication failed"


class ServerTls:
    """What the transport asks for at every connection (`transport.TlsSource`)."""

    def __init__(
        self,
        settings: TlsSettings,
        warn: Warn,
        *,
        checks_origin: bool = False,
        resolver: Resolver | None = None,
    ) -> None:
        """Raises `TlsError` if the files cannot be used. `checks_origin`: a member has to come
        from where its certificate says that it lives."""
        settings.require_pair()
        files = (
            settings.cert_file,
            settings.key_file,
            settings.trusted_ca_file,
            settings.client_cert_file,
            settings.client_key_file,
        )
        self._settings = settings
        self._context = Reloading(files, settings.server_context, warn)
        crl = settings.crl_file
        self._revoked = Reloading((crl,), lambda: revoked_serials(crl), warn) if crl else None
        self._resolver = resolver or SystemResolver()
        self._checks_origin = checks_origin and settings.demands_certificates

    def context(self) -> ssl.SSLContext:
        """Of the next handshake."""
        return self._context.value()

    async def check(self, tls: ssl.SSLObject, remote: str) -> None:
        """Raises `TlsRefused` for whom the handshake let in and the flags do not."""
        leaf = tls.getpeercert()
        if not leaf:
            return
        settings = self._settings
        if not name_is_allowed(leaf, settings.allowed_cns, settings.allowed_hostnames):
            raise TlsRefused(NOT_ALLOWED)
        if self._revoked is not None:
            revoked = self._revoked.value()
            for serial in presented_serials(tls):
                if serial in revoked:
                    text = serial_text(serial)
                    raise TlsRefused(f"transport: certificate serial {text} revoked")
        if self._checks_origin:
            await check_origin(leaf, remote, self._resolver)

    def explain(self, error: BaseException) -> str:
        return explain(error)
