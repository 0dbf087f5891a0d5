"""URLs by the addresses behind their names, where two spellings may mean the same place.

Looking names up blocks; it is done at the first start only.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

Resolve = Callable[[str], str]
"""The first address of a name; "" if it has none."""


def resolve_host(name: str) -> str:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    return str(found[0][4][0]) if found else ""


def resolved_url(url: str, resolve: Resolve) -> str:
    """The URL with its host's address for its host; as it is where there is nothing to look up.
    `localhost` stays: it is the same place for nobody else."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.startswith("unix") or host in ("", "localhost") or _is_address(host):
        return url
    address = resolve(host)
    if not address:
        return url
    shown = f"[{address}]" if ":" in address else address
    return f"{parts.scheme}://{shown}:{parts.port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def local_host(urls: Iterable[str]) -> str:
    """The first of the URLs' hosts that is an address which others can reach us at, as etcd takes
    it: names are not looked up. "" if there is none."""
    for url in urls:
        host = urlsplit(url).hostname or ""
        if _is_address(host):
            address = ipaddress.ip_address(host)
            if not (address.is_loopback or address.is_unspecified):
                return host
    return ""
