"""How this member dials others."""

from __future__ import annotations

import ssl

from kvserver.tls.certificates import name_is_allowed
from kvserver.tls.reloading import Reloading
from kvserver.tls.settings import TlsSettings, Warn


class DialTls:
    """The context of the next dial, and what is checked once it is made. Owner: the loop."""

    def __init__(self, settings: TlsSettings, warn: Warn, server_name: str = "") -> None:
        """`server_name`, where given, is what the other side's certificate has to be for, in the
        place of the URL's host (spec/cluster.md §8.1). Raises `TlsError`."""
        self.server_name = server_name
        self._settings = settings
        files = (*settings.dialling_pair, settings.trusted_ca_file)
        self._context = Reloading(files, settings.client_context, warn)

    def context(self) -> ssl.SSLContext:
        return self._context.value()

    def is_allowed(self, tls: ssl.SSLObject | ssl.SSLSocket) -> bool:
        """The allow-lists hold in both directions, as with etcd."""
        settings = self._settings
        names, hosts = settings.allowed_cns, settings.allowed_hostnames
        if not names and not hosts:
            return True
        return name_is_allowed(tls.getpeercert() or {}, names, hosts)
