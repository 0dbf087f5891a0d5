"""Who we are in the headers between members, and the checks of whoever calls (spec/peer.md §2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kvserver.membership.ids import format_id
from kvserver.version import SERVER_VERSION

CLUSTER_VERSION_MIN = "3.0.0"
"""The oldest member we could work with; the same in every release."""
NO_VERSION = "2.0.0"
"""What a missing version header counts as."""
_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")


class RefusedPeer(Exception):
    """The caller is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def minor_version(text: str) -> tuple[int, int] | None:
    """(major, minor) of a semantic version, or None if it is none."""
    match = _SEMVER.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def own_minor() -> tuple[int, int]:
    found = minor_version(SERVER_VERSION)
    assert found is not None
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """This member, as others are told."""

    member_id: int
    cluster_id: int
    peer_urls: tuple[str, ...] = ()

    def request_headers(self, to: int | None = None) -> dict[str, str]:
        """For streams (with `to`) and for POSTs."""
        headers = {
            "X-Server-From": format_id(self.member_id),
            "X-Server-Version": SERVER_VERSION,
            "X-Min-Cluster-Version": CLUSTER_VERSION_MIN,
            "X-Etcd-Cluster-ID": format_id(self.cluster_id),
            "X-PeerURLs": ",".join(self.peer_urls),
        }
        if to is not None:
            headers["X-Raft-To"] = format_id(to)
        return headers

    def response_headers(self) -> dict[str, str]:
        """Obligatory on streams: without the version etcd's dialler never connects."""
        return {
            "X-Etcd-Cluster-ID": format_id(self.cluster_id),
            "X-Server-Version": SERVER_VERSION,
        }

    def check(self, headers: Mapping[str, str]) -> None:
        """Rows 2 and 3 of the table of checks. Raises `RefusedPeer`."""
        theirs = minor_version(headers.get("x-server-version", NO_VERSION))
        their_min = minor_version(headers.get("x-min-cluster-version", NO_VERSION))
        if theirs is None or their_min is None:
            raise RefusedPeer(412, "incompatible version")
        if theirs < (3, 0) or their_min > own_minor():
            raise RefusedPeer(412, "incompatible version")
        self.check_cluster(headers)

    def check_cluster(self, headers: Mapping[str, str]) -> None:
        if headers.get("x-etcd-cluster-id") != format_id(self.cluster_id):
            raise RefusedPeer(412, "cluster ID mismatch")
