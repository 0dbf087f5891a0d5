"""Whether a member comes from where its certificate says that it lives (spec/config.md §5 rule 5).

Address names must hold the remote address, or a DNS name must resolve to it; a wildcard is held
against the names that the remote address resolves back to. A certificate without names passes.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Protocol

from kvserver.tls.certificates import Leaf, addresses, dns_names, is_for, parse_address
from kvserver.transport import TlsRefused


class Resolver(Protocol):
    async def addresses_of(self, name: str) -> list[str]: ...

    async def names_of(self, address: str) -> list[str]: ...


class SystemResolver:
    """The machine's own, outside the loop's thread; what it cannot find is an empty list."""

    async def addresses_of(self, name: str) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            return []
        return [str(row[4][0]) for row in found]

    async def names_of(self, address: str) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            name, more, _ = await loop.run_in_executor(None, socket.gethostbyaddr, address)
        except OSError:
            return []
        return [name, *more]


async def check_origin(leaf: Leaf, remote: str, resolver: Resolver) -> None:
    """Raises `TlsRefused`. `remote` is an IP address; "" is a Unix socket, which has none."""
    names, listed = dns_names(leaf), addresses(leaf)
    if not remote or (not names and not listed):
        return
    if listed and is_for(leaf, remote):
        return
    if not names:
        raise TlsRefused(f"x509: certificate is valid for {', '.join(listed)}, not {remote}")
    if not await _resolves_to(remote, names, resolver):
        shown = " ".join(json.dumps(name) for name in names)
        raise TlsRefused(f"tls: {json.dumps(remote)} does not match any of DNSNames [{shown}]")


async def _resolves_to(remote: str, names: list[str], resolver: Resolver) -> bool:
    wanted = parse_address(remote)
    for name in names:
        if not name.startswith("*."):
            found = await resolver.addresses_of(name)
            if wanted in map(parse_address, found):
                return True
    wildcards = [name for name in names if name.startswith("*.")]
    if not wildcards:
        return False
    leaf = {"subjectAltName": [("DNS", name) for name in wildcards]}
    return any(is_for(leaf, name) for name in await resolver.names_of(remote))
