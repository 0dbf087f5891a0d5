"""The founding members from DNS SRV records (spec/cluster.md §8.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import dns.exception
import dns.resolver

from kvserver.errors import FatalError
from kvserver.resolving import Resolve

SERVICES = (("https", "etcd-server-ssl"), ("http", "etcd-server"))
LOOKUP_SECONDS_MAX = 30.0


class SrvLookup(Protocol):
    def __call__(self, name: str) -> list[tuple[str, int]]:
        """(target without its dot, port) of every record, the most wanted first. Raises
        `LookupError` where there are none."""


class SystemDns:
    """The name servers of this machine."""

    def __init__(self, resolver: dns.resolver.Resolver | None = None) -> None:
        self._resolver = resolver

    def __call__(self, name: str) -> list[tuple[str, int]]:
        try:
            resolver = self._resolver or dns.resolver.Resolver()
            answer = resolver.resolve(name, "SRV", lifetime=LOOKUP_SECONDS_MAX)
        except dns.exception.DNSException as error:
            raise LookupError(f"lookup {name}: {error}") from None
        records: list[Any] = sorted(answer, key=lambda record: (record.priority, -record.weight))
        return [(record.target.to_text(omit_final_dot=True), record.port) for record in records]


def cluster_from_srv(
    own_name: str,
    domain: str,
    suffix: str,
    advertised: Iterable[str],
    lookup: SrvLookup,
    resolve: Resolve,
    warn: Callable[..., None],
) -> Mapping[str, tuple[str, ...]]:
    """Members by name: `own_name` for the record that leads to one of our `advertised` URLs,
    numbers for the others. Raises `FatalError` when no service is found at all."""
    own = {_place(url, resolve): url for url in advertised}
    found: dict[str, list[str]] = {}
    failures: list[str] = []
    others = 0
    for scheme, service in SERVICES:
        label = f"{service}-{suffix}" if suffix else service
        try:
            records = lookup(f"_{label}._tcp.{domain}")
        except LookupError as failure:
            failures.append(str(failure.args[0]))
            continue
        for target, port in records:
            url = f"{scheme}://{target}:{port}"
            place = _place(url, resolve)
            if not place:
                warn("failed to resolve a target of an SRV record", target=target, service=label)
                continue
            if place not in own:
                name, others = str(others), others + 1
            elif urlsplit(own[place]).scheme != scheme:
                raise FatalError(
                    f"bootstrap at {url} from DNS for {label} has scheme mismatch with expected "
                    f"peer {own[place]}"
                )
            else:
                name = own_name
            found.setdefault(name, []).append(url)
    if not found:
        raise FatalError(f"error querying DNS SRV records: {'; '.join(failures) or 'no records'}")
    return {name: tuple(sorted(urls)) for name, urls in found.items()}


def _place(url: str, resolve: Resolve) -> str:
    """address:port, "" for a name that leads nowhere."""
    parts = urlsplit(url)
    address = resolve(parts.hostname or "")
    return f"{address}:{parts.port}" if address else ""
