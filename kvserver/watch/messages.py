"""`WatchResponse` as bytes (spec/wire-api.md §2.5).

A response is a header shared by everybody, the watcher's own few bytes, and event entries shared by
all watchers of the same interest; so responses are joined here instead of being built as messages.
`header` is always the encoded field 1 with its tag and length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

CREATED = b"\x18\x01"
CANCELED = b"\x20\x01"
FRAGMENT = b"\x38\x01"
BROADCAST_ID = -1
"""The id of a refused create and of an answer to a progress request."""

_COMPACT_REVISION_TAG = b"\x28"
_REASON_TAG = b"\x32"
_DELETE_TYPE = b"\x08\x01"


class Event(Protocol):
    """One change, as the store hands it over.

    `kv` is the encoded `KeyValue` as it goes on the wire; a tombstone's holds key and mod_revision
    only (spec/watch.md V2). `is_create`: a put that began a generation.
    """

    @property
    def key(self) -> bytes: ...
    @property
    def kv(self) -> bytes: ...
    @property
    def is_delete(self) -> bool: ...
    @property
    def is_create(self) -> bool: ...
    @property
    def main(self) -> int: ...


def varint(number: int) -> bytes:
    """A protobuf varint; negative numbers take ten bytes."""
    if 0 <= number < 0x80:
        return _ONE_BYTE[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_ONE_BYTE = [bytes((number,)) for number in range(0x80)]
_LENGTHS = [varint(number) for number in range(0x4000)]


def watch_id_field(watch_id: int) -> bytes:
    """Id 0 is proto3's default and so takes no bytes."""
    return b"\x10" + varint(watch_id) if watch_id else b""


def event_entry(event: Event, prev_kv: bytes | None) -> bytes:
    """One entry of the repeated field `events`. Hot: lengths come from a table."""
    kv = event.kv
    size = len(kv)
    body = b"%b\x12%b%b" % (
        _DELETE_TYPE if event.is_delete else b"",
        _LENGTHS[size] if size < 0x4000 else varint(size),
        kv,
    )
    if prev_kv is not None:
        body = b"%b\x1a%b%b" % (body, varint(len(prev_kv)), prev_kv)
    size = len(body)
    return b"\x5a%b%b" % (_LENGTHS[size] if size < 0x4000 else varint(size), body)


def created(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id) + CREATED


def refused(header: bytes, reason: str) -> bytes:
    """A create that failed (W2): created and canceled at once, under no id of the stream."""
    text = reason.encode()
    return b"".join(
        (
            header,
            watch_id_field(BROADCAST_ID),
            CREATED,
            CANCELED,
            _REASON_TAG,
            varint(len(text)),
            text,
        )
    )


def canceled(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id) + CANCELED


def compacted(header: bytes, watch_id: int, compact_revision: int) -> bytes:
    """The end of a watcher whose next revision is gone (D3); the header's revision is 0."""
    revision = _COMPACT_REVISION_TAG + varint(compact_revision)
    return header + watch_id_field(watch_id) + CANCELED + revision


def progress(header: bytes, watch_id: int) -> bytes:
    return header + watch_id_field(watch_id)


def fragments(prefix: bytes, entries: Sequence[bytes], limit_bytes: int) -> list[bytes]:
    """Pieces of one response, each below `limit_bytes` or of a single event (D6)."""
    pieces: list[list[bytes]] = []
    room = limit_bytes - len(prefix) - len(FRAGMENT)
    size = room
    for entry in entries:
        if size + len(entry) >= room:
            pieces.append([])
            size = 0
        pieces[-1].append(entry)
        size += len(entry)
    bodies = [b"".join((prefix, FRAGMENT, *piece)) for piece in pieces[:-1]]
    return [*bodies, b"".join((prefix, *pieces[-1]))]
