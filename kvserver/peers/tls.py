"""What dialling members asks about TLS; who knows certificates answers (`kvserver.tls`)."""

from __future__ import annotations

import ssl
from typing import Protocol


class DialTls(Protocol):
    @property
    def server_name(self) -> str:
        """Whom the other side's certificate has to be for; "" is the host that is dialled."""

    def context(self) -> ssl.SSLContext:
        """Of the next dial."""

    def is_allowed(self, tls: ssl.SSLObject | ssl.SSLSocket) -> bool:
        """Whether the certificate that the other side has shown is one of those to talk to."""
