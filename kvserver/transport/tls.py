"""What the transport asks about TLS, of whoever knows certificates; and the one thing that it has
to read itself, because a failed handshake does not tell it: the name in a ClientHello.
"""

from __future__ import annotations

import ssl
from typing import Protocol

_CLIENT_HELLO = 1
_SERVER_NAME = 0
_RECORD_AND_MESSAGE_BYTES = 5 + 4
_VERSION_AND_RANDOM_BYTES = 2 + 32


class TlsRefused(Exception):
    """A finished handshake whose certificate is not let in; the text says why."""


class TlsSource(Protocol):
    """TLS of a listener."""

    def context(self) -> ssl.SSLContext:
        """Of the next handshake, with ALPN_PROTOCOLS set."""

    async def check(self, tls: ssl.SSLObject, remote: str) -> None:
        """Raises `TlsRefused`. `remote` is the address without its port, "" if it has none."""

    def explain(self, error: BaseException) -> str:
        """Why a handshake failed, for the log."""


def server_name_of(hello: bytes) -> str:
    """The name that a client asks for in the first bytes of a connection (RFC 6066 §3); "" if
    there is none, or none that is whole."""
    try:
        return _server_name(memoryview(hello))
    except IndexError:
        return ""


def _server_name(hello: memoryview) -> str:
    if hello[5] != _CLIENT_HELLO:
        return ""
    at = _RECORD_AND_MESSAGE_BYTES + _VERSION_AND_RANDOM_BYTES
    at += 1 + hello[at]  # session id
    at += 2 + _number(hello, at)  # cipher suites
    at += 1 + hello[at]  # compression methods
    end = at + 2 + _number(hello, at)
    at += 2
    while at < end:
        kind, size = _number(hello, at), _number(hello, at + 2)
        at += 4
        if kind == _SERVER_NAME:
            # list size (2), kind of name (1), size of name (2), name
            length = _number(hello, at + 3)
            if at + 5 + length > len(hello):
                return ""
            return bytes(hello[at + 5 : at + 5 + length]).decode("ascii", "replace")
        at += size
    return ""


def _number(data: memoryview, at: int) -> int:
    return data[at] << 8 | data[at + 1]
