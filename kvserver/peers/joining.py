"""What a member asks of others before it has an event loop to serve: who is in the cluster
(spec/cluster.md §2). Blocks; used once, at the first start on an empty data directory."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kvserver.errors import FatalError
from kvserver.limits import JOIN_SECONDS_MAX, PRESENCE_SECONDS_MAX
from kvserver.membership import Member
from kvserver.membership.ids import format_id
from kvserver.peers.tls import DialTls

NOT_FETCHED = (
    "cannot fetch cluster info from peer urls: "
    "could not retrieve cluster information from the given URLs"
)


@dataclass(frozen=True, slots=True)
class Joined:
    """The cluster that this member becomes part of."""

    member_id: int
    cluster_id: int
    members: tuple[Member, ...]


def fetch_members(
    url: str, timeout_seconds: float, tls: DialTls | None
) -> tuple[int, tuple[Member, ...]] | None:
    """The cluster id and the members as the member at `url` sees them; None if it does not say."""
    connection = _Connection(url, timeout_seconds, tls)
    try:
        connection.request("GET", "/members")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return None
        cluster = int(answer.headers.get("X-Etcd-Cluster-ID", ""), 16)
        return cluster, tuple(map(_member, json.loads(body)))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """To a peer URL of any scheme."""

    def __init__(self, url: str, timeout_seconds: float, tls: DialTls | None) -> None:
        parts = urlsplit(url)
        super().__init__(parts.netloc or "localhost", timeout=timeout_seconds)
        self._parts = parts
        self._tls = tls

    def connect(self) -> None:
        parts, tls = self._parts, self._tls
        if parts.scheme.startswith("unix"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(parts.netloc + parts.path)
        else:
            super().connect()
        if parts.scheme not in ("https", "unixs"):
            return
        context = tls.context() if tls is not None else ssl.create_default_context()
        name = (tls.server_name if tls is not None else "") or parts.hostname or "localhost"
        secured = context.wrap_socket(self.sock, server_hostname=name)
        self.sock = secured
        if tls is not None and not tls.is_allowed(secured):
            raise ssl.SSLError("its certificate is not one of those allowed")


def _member(fields: Mapping[str, Any]) -> Member:
    return Member(
        int(fields["id"]),
        tuple(fields.get("peerURLs") or ()),
        str(fields.get("name") or ""),
        tuple(fields.get("clientURLs") or ()),
        bool(fields.get("isLearner")),
    )


def refuse_if_bootstrapped(member_id: int, others: Iterable[str], tls: DialTls | None) -> None:
    """A lost member must not come back empty: its votes and its log are gone (§2.1)."""
    for url in others:
        found = fetch_members(url, PRESENCE_SECONDS_MAX, tls)
        if found is None:
            continue
        for member in found[1]:
            if member.id == member_id and member.client_urls:
                raise FatalError(f"member {format_id(member_id)} has already been bootstrapped")
        return


def join(name: str, cluster: Mapping[str, Sequence[str]], tls: DialTls | None) -> Joined:
    """Find our place in an existing cluster (§2.2)."""
    for url in (url for other, urls in cluster.items() if other != name for url in urls):
        found = fetch_members(url, JOIN_SECONDS_MAX, tls)
        if found is not None:
            return find_place(name, cluster, *found)
    raise FatalError(NOT_FETCHED)


def find_place(
    name: str, cluster: Mapping[str, Sequence[str]], cluster_id: int, members: tuple[Member, ...]
) -> Joined:
    """Which member of the existing cluster `name` is: every one must be in our list."""
    shown = ",".join(f"{format_id(m.id)}={'+'.join(m.peer_urls)}" for m in members)
    complaint = f"error validating peerURLs {{{shown}}}"
    if len(cluster) != len(members):
        raise FatalError(f"{complaint}: member count is unequal")
    by_urls = {tuple(sorted(urls)): known for known, urls in cluster.items()}
    own = 0
    for member in members:
        known = by_urls.get(tuple(sorted(member.peer_urls)))
        if known is None:
            urls = " ".join(member.peer_urls)
            raise FatalError(
                f"{complaint}: PeerURLs: no match found for existing member "
                f"({format_id(member.id)}, [{urls}])"
            )
        if known == name:
            own = member.id
    assert own, "as many names as members, and every member has one"
    return Joined(own, cluster_id, members)
