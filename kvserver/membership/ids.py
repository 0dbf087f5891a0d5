"""Member and cluster ids (spec/cluster.md §1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def member_id(peer_urls: Sequence[str], token: str, added_at_seconds: int | None = None) -> int:
    """The id of a member founded with `peer_urls`; members added at run time pass the time."""
    text = "".join(sorted(peer_urls)) + token
    if added_at_seconds is not None:
        text += str(added_at_seconds)
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster founded by these members."""
    text = b"".join(i.to_bytes(8, "big") for i in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(text).digest()[:8], "big")


def format_id(number: int) -> str:
    """Ids are shown as lower-case hex without padding."""
    return f"{number:x}"


class RequestIds:
    """Unique ids for requests, read contexts and leases (spec/raft-wire.md §3).

    The low 16 bits of the member's id, 40 bits of start time in milliseconds, 8 bits of counter
    that carry into the time. Owner: the loop.
    """

    __slots__ = ("_next", "_prefix")

    def __init__(self, member: int, started_at_milliseconds: int) -> None:
        self._prefix = (member & 0xFFFF) << 48
        self._next = ((started_at_milliseconds & 0xFF_FFFF_FFFF) << 8) & 0xFFFF_FFFF_FFFF

    def next(self) -> int:
        self._next = (self._next + 1) & 0xFFFF_FFFF_FFFF
        return self._prefix | self._next

    def next_lease_id(self) -> int:
        """A positive, non-zero lease id (spec/lease.md G2)."""
        return (self.next() & 0x7FFF_FFFF_FFFF_FFFF) or 1
