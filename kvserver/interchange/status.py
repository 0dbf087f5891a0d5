"""What `snapshot status` tells about an image (spec/bbolt.md §3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from crc32c import crc32c

from kvserver.interchange.bbolt import ImageError
from kvserver.interchange.reader import Image, PageMap
from kvserver.mvcc.backend.tables import KEY, META, STORAGE_VERSION
from kvserver.mvcc.revision import PUT_LENGTH, TOMBSTONE_LENGTH, main_of


@dataclass(frozen=True, slots=True)
class Status:
    """One image in five figures."""

    hash: int
    """CRC-32C over bucket names, keys and values: of this member's file, not of the data alone
    (compare those by HashKV)."""
    revision: int
    """Of the last record; 0 when there is none."""
    total_keys: int
    """Records of all buckets, as 3.4 and 3.5 count them."""
    total_bytes: int
    """The image without its digest."""
    version: str
    """The storage version; "" from before 3.6."""


def image_status(image: Image) -> Status:
    """One pass over everything, which also proves that the image is sound (S3)."""
    used = PageMap(image.meta.high_water)
    checksum = total = revision = 0
    version = b""
    for bucket in image.buckets(used):
        checksum = crc32c(bucket.name, checksum)
        for pairs in bucket.items(used):
            total += len(pairs)
            checksum = crc32c(b"".join([part for pair in pairs for part in pair]), checksum)
            if bucket.name == KEY.encode() and pairs:
                revision = _revision(pairs[-1][0])
            if bucket.name == META.encode():
                version = dict(pairs).get(STORAGE_VERSION, version)
    return Status(checksum, revision, total, image.size_bytes, version.decode(errors="replace"))


def _revision(key: bytes) -> int:
    if len(key) not in (PUT_LENGTH, TOMBSTONE_LENGTH):
        raise ImageError(f"the key bucket holds {key[:32].hex()}, which is no revision")
    return main_of(key)
