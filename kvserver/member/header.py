"""Encoded response headers: field 1 of every reply, ready to stand before its body.

The ids never change and the term seldom does, so a header costs one varint (spec/kv.md H1).
"""

from __future__ import annotations

from kvserver.apply.command import varint

_LOW = [bytes((i & 0x7F | 0x80, i >> 7)) for i in range(0x4000)]
_ONE = [bytes((i,)) for i in range(0x80)]


class HeaderBytes:
    """Encodes `header { cluster_id member_id revision raft_term }` with its tag and length."""

    __slots__ = ("_encoded", "_head", "_revision", "_tail", "_term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._head = b"\x08" + varint(cluster_id) + b"\x10" + varint(member_id)
        self._term = 0
        self._tail = b""
        self._revision = -1
        self._encoded = b""
        """Of the last revision asked for: reads come by the thousand between two writes."""

    def set_term(self, term: int) -> None:
        if term != self._term:
            self._term = term
            self._revision = -1
            self._tail = b"\x20" + varint(term)

    def __call__(self, revision: int) -> bytes:
        if revision == self._revision:
            return self._encoded
        if revision <= 0:
            number = b"" if revision == 0 else b"\x18" + varint(revision)
        elif revision < 0x80:
            number = b"\x18" + _ONE[revision]
        elif revision < 0x4000:
            number = b"\x18" + _LOW[revision]
        else:
            number = b"\x18" + varint(revision)
        body = b"%b%b%b" % (self._head, number, self._tail)
        self._revision = revision
        self._encoded = encoded = b"\x0a%c%b" % (len(body), body)
        return encoded
