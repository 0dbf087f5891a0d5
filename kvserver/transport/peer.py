"""Who is at the other end of a connection."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """`common_name` is that of a client certificate this connection's own handshake verified."""

    address: str
    is_tls: bool = False
    common_name: str | None = None
    certificate: Any = None
    """The verified certificate as `SSLSocket.getpeercert` gives it, or None."""


def address_of(transport: asyncio.BaseTransport) -> str:
    """host:port, as etcd writes it; empty for a Unix socket."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
        return f"{host}:{name[1]}"
    return str(name or "")


def host_of(transport: asyncio.BaseTransport) -> str:
    """The address without its port; empty for a Unix socket."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and len(name) >= 2 else ""


def _common_name(certificate: Any) -> str | None:
    for relative_name in (certificate or {}).get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                return str(value)
    return None


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    address = address_of(transport)
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return Peer(address)
    certificate = tls.getpeercert() or None
    return Peer(address, True, _common_name(certificate), certificate)
