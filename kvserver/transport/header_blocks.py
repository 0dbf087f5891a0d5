"""Response header blocks, built without any encoder state.

Only static-table references and literals without indexing are used (RFC 7541 §6.2.2), so a block
is a constant that may be sent on any connection at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

_STATUS_INDEXES = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
_STATUS_NAME_INDEX = 8

TABLE_SIZE_ZERO = b"\x20"
"""Dynamic table size update to 0: what a peer must see first once it has lowered its maximum."""

# Everything printable but "%"; `quote` leaves letters, digits and "_.-~" alone by itself.
_MESSAGE_SAFE = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"


def integer(value: int, prefix_bits: int, first: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def status_field(status: int) -> bytes:
    index = _STATUS_INDEXES.get(status)
    if index is not None:
        return bytes((0x80 | index,))
    text = b"%d" % status
    return integer(_STATUS_NAME_INDEX, 4, 0) + integer(len(text), 7, 0) + text


def field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + integer(len(name), 7, 0) + name + integer(len(value), 7, 0) + value


def block(status: int, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return status_field(status) + b"".join(field(name, value) for name, value in fields)


def percent_encoded(message: str) -> bytes:
    """grpc-message: UTF-8, with everything outside printable ASCII and `%` escaped."""
    return quote(message, safe=_MESSAGE_SAFE, errors="replace").encode("ascii")


GRPC_RESPONSE = block(200, [(b"content-type", b"application/grpc")])
GRPC_OK_TRAILERS = field(b"grpc-status", b"0")


@lru_cache(maxsize=256)
def grpc_trailers(code: int, message: str) -> bytes:
    status = field(b"grpc-status", b"%d" % code)
    return status + (field(b"grpc-message", percent_encoded(message)) if message else b"")


def grpc_trailers_only(
    code: int, message: str, status: int = 200, extra: Iterable[tuple[bytes, bytes]] = ()
) -> bytes:
    head = block(status, [(b"content-type", b"application/grpc"), *extra])
    return head + grpc_trailers(code, message)
