"""The command envelope: what a normal log entry carries (spec/raft-wire.md §3).

A proposal keeps the client's own bytes: the request is spliced into an `InternalRaftRequest`
without being encoded again, and the member that proposed it applies the request it has already
parsed. Entries of others, and our own after a restart, are parsed from their bytes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from google.protobuf.message import DecodeError

from kvserver.auth.identity import NOBODY, Identity
from kvserver.errors import FatalError
from kvserver.proto import internal_pb2, legacy_pb2


class Kind(IntEnum):
    """Operations of the log, by their field number in `InternalRaftRequest`."""

    LEGACY = 2
    RANGE = 3
    PUT = 4
    DELETE_RANGE = 5
    TXN = 6
    COMPACTION = 7
    LEASE_GRANT = 8
    LEASE_REVOKE = 9
    ALARM = 10
    LEASE_CHECKPOINT = 11
    AUTH_ENABLE = 1000
    AUTH_DISABLE = 1011
    AUTHENTICATE = 1012
    AUTH_STATUS = 1013
    AUTH_USER_ADD = 1100
    AUTH_USER_DELETE = 1101
    AUTH_USER_GET = 1102
    AUTH_USER_CHANGE_PASSWORD = 1103
    AUTH_USER_GRANT_ROLE = 1104
    AUTH_USER_REVOKE_ROLE = 1105
    AUTH_USER_LIST = 1106
    AUTH_ROLE_LIST = 1107
    AUTH_ROLE_ADD = 1200
    AUTH_ROLE_DELETE = 1201
    AUTH_ROLE_GET = 1202
    AUTH_ROLE_GRANT_PERMISSION = 1203
    AUTH_ROLE_REVOKE_PERMISSION = 1204
    CLUSTER_VERSION_SET = 1300
    CLUSTER_MEMBER_ATTR_SET = 1301
    DOWNGRADE_INFO_SET = 1302
    DOWNGRADE_VERSION_TEST = 9900


HEADER_FIELD = 100
IDENTITIES_CACHED_MAX = 1000


def varint(number: int) -> bytes:
    """A protobuf varint; negative numbers take ten bytes."""
    if number < 0:
        number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_TAGS = {kind: varint(kind << 3 | 2) for kind in Kind}
_HEADER_TAG = varint(HEADER_FIELD << 3 | 2)
_SHORT = [varint(length) for length in range(0x4000)]
"""Varints of common lengths: a table look-up instead of a loop on the put path."""


class HeaderEncoder:
    """Encodes request headers; the upper 50 bits of an id change only every 16 384 requests."""

    __slots__ = ("_high", "_identities", "_tail", "_two")

    def __init__(self) -> None:
        self._high = -1
        self._tail = b""
        self._identities: dict[Identity, bytes] = {}
        self._two = [bytes((i & 0x7F | 0x80, i >> 7 | 0x80)) for i in range(0x4000)]

    def encode(self, request_id: int) -> bytes:
        """`header {ID: request_id}` with its tag. Ids are at least 2**14 (they carry the time)."""
        high = request_id >> 14
        if high != self._high:
            self._high = high
            self._tail = varint(high)
        body = self._two[request_id & 0x3FFF] + self._tail
        return b"%b%c\x08%b" % (_HEADER_TAG, len(body) + 1, body)

    def encode_with(self, request_id: int, identity: Identity) -> bytes:
        """The same with `username` and `auth_revision`: who proposes it (spec/auth.md §2)."""
        if not identity.username:
            return self.encode(request_id)
        who = self._identities.get(identity)
        if who is None:
            name = identity.username.encode("utf-8", "replace")
            who = b"\x12" + varint(len(name)) + name + b"\x18" + varint(identity.revision)
            if len(self._identities) >= IDENTITIES_CACHED_MAX:
                self._identities.clear()
            self._identities[identity] = who
        high = request_id >> 14
        if high != self._high:
            self._high = high
            self._tail = varint(high)
        body = b"\x08%b%b%b" % (self._two[request_id & 0x3FFF], self._tail, who)
        size = len(body)
        length = _SHORT[size] if size < 0x4000 else varint(size)
        return b"%b%b%b" % (_HEADER_TAG, length, body)


def encode_command(kind: Kind, body: bytes, header: bytes) -> bytes:
    """One operation and its header, in field order."""
    size = len(body)
    length = _SHORT[size] if size < 0x4000 else varint(size)
    if kind < HEADER_FIELD:
        return b"%b%b%b%b" % (_TAGS[kind], length, body, header)
    return b"%b%b%b%b" % (header, _TAGS[kind], length, body)


def decode_command(data: bytes, index: int) -> tuple[Kind, Any, int, Identity]:
    """The operation, its request, the proposer's request id, and in whose name it was proposed.

    Legacy requests (releases up to 3.5) fail to parse as an `InternalRaftRequest`, because their
    second field is text (spec/raft-wire.md W7). An operation we do not know is fatal: skipping it
    would let this member's state differ from the others' (W2).
    """
    try:
        envelope = internal_pb2.InternalRaftRequest.FromString(data)
    except DecodeError:
        return Kind.LEGACY, _decode_legacy(data, index), 0, NOBODY
    if envelope.HasField("v2"):
        return Kind.LEGACY, envelope.v2, envelope.ID or envelope.header.ID, NOBODY
    header = envelope.header
    request_id = envelope.ID or header.ID
    identity = Identity(header.username, header.auth_revision) if header.username else NOBODY
    for field, value in envelope.ListFields():
        if field.name in ("ID", "header"):
            continue
        try:
            return Kind(field.number), value, request_id, identity
        except ValueError:
            raise FatalError(
                f"log entry {index} holds operation {field.number} ({field.name}), which this "
                "release cannot apply; start a release that knows it"
            ) from None
    raise FatalError(
        f"log entry {index} holds no operation known to this release; start a release that knows it"
    )


def _decode_legacy(data: bytes, index: int) -> legacy_pb2.Request:
    try:
        return legacy_pb2.Request.FromString(data)
    except DecodeError:
        raise FatalError(
            f"log entry {index} is neither a command nor a legacy request; the log is damaged: "
            "restore this member from its peers or a snapshot"
        ) from None
