"""The bbolt file format, version 2: everything both directions share (spec/bbolt.md §1).

All integers are little-endian. Page n stands at byte n x page size. A page has a header (id,
flags, count, overflow); with overflow o it covers o + 1 page numbers. Pages 0 and 1 are metas: the
valid one with the higher txid counts. Trees are made of branch pages (first key of the child,
child) and leaf pages (flags, key, value); a value with the bucket flag is a bucket's header,
followed by a small leaf page when the bucket is inline.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from kvserver.errors import KeydeckError

PAGE_BYTES: Final = 4096
"""What we write. Writers on other machines use 16384 or 65536 (F1)."""
PAGE_BYTES_MIN: Final = 1024
PAGE_BYTES_MAX: Final = 16 * 1024 * 1024

BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04

HEADER: Final = Struct("<QHHI")
"""id, flags, count, overflow (F2)."""
BRANCH_ELEMENT: Final = Struct("<IIQ")
"""pos, ksize, child (F8)."""
LEAF_ELEMENT: Final = Struct("<IIII")
"""flags, pos, ksize, vsize; pos counts from the element itself (F9)."""
BUCKET: Final = Struct("<QQ")
"""root, sequence; root 0 = an inline page follows (F10)."""
META_BODY: Final = Struct("<IIIIQQQQQ")
"""magic, version, page size, flags, root, sequence, freelist, high water, txid (F4)."""
CHECKSUM: Final = Struct("<Q")

HEADER_BYTES: Final = HEADER.size
ELEMENT_BYTES: Final = LEAF_ELEMENT.size
assert HEADER_BYTES == 16 and ELEMENT_BYTES == BRANCH_ELEMENT.size == BUCKET.size == 16
META_END: Final = HEADER_BYTES + META_BODY.size + CHECKSUM.size

IS_BUCKET: Final = 0x01
MAGIC: Final = 0xED0CDAED
MAGIC_BIG_ENDIAN: Final = 0xEDDA0CED
VERSION: Final = 2
NO_FREELIST: Final = 0xFFFF_FFFF_FFFF_FFFF
FIRST_TREE_PAGE: Final = 2
ELEMENTS_MAX: Final = 0xFFFE
KEY_BYTES_MAX: Final = 32768
SNAPSHOT_TXIDS: Final = (2, 1)
"""The newest meta of a snapshot stands in page 0, its predecessor in page 1 (F6)."""


class ImageError(KeydeckError):
    """The bytes are no sound image; the message says where."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What one of the two meta pages says."""

    page_bytes: int
    root: int
    high_water: int
    txid: int
    freelist: int = NO_FREELIST


def fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFF_FFFF_FFFF_FFFF
    return value


def encode_meta_page(number: int, meta: Meta) -> bytes:
    """A whole meta page."""
    body = META_BODY.pack(
        MAGIC,
        VERSION,
        meta.page_bytes,
        0,
        meta.root,
        0,
        meta.freelist,
        meta.high_water,
        meta.txid,
    )
    head = HEADER.pack(number, META, 0, 0)
    return (head + body + CHECKSUM.pack(fnv1a(body))).ljust(meta.page_bytes, b"\0")


def decode_meta(page: bytes) -> Meta:
    """The meta in a page's first bytes. ImageError, in bbolt's words, when it is not sound (F5)."""
    if len(page) < META_END:
        raise ImageError("invalid database: too short")
    body = page[HEADER_BYTES : HEADER_BYTES + META_BODY.size]
    magic, version, page_bytes, _, root, _, freelist, high_water, txid = META_BODY.unpack(body)
    if magic == MAGIC_BIG_ENDIAN:
        raise ImageError("invalid database: written by a big-endian machine")
    if magic != MAGIC:
        raise ImageError("invalid database")
    if version != VERSION:
        raise ImageError(f"version mismatch: {version}")
    if CHECKSUM.unpack_from(page, META_END - CHECKSUM.size)[0] != fnv1a(body):
        raise ImageError("checksum error")
    if page_bytes & (page_bytes - 1) or not PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX:
        raise ImageError(f"invalid database: page size {page_bytes}")
    return Meta(page_bytes, root, high_water, txid, freelist)
