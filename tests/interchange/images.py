"""Images for tests: writing them, opening them from memory, and bending them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from kvserver.interchange.bbolt import HEADER, Meta, decode_meta, encode_meta_page
from kvserver.interchange.reader import Image, Pair
from kvserver.interchange.tables import BUCKETS
from kvserver.interchange.writer import write_image

EMPTY_STORE: dict[str, list[Pair]] = {
    "auth": [(b"authRevision", (1).to_bytes(8))],
    "cluster": [(b"clusterVersion", b"3.6.0")],
    "meta": [
        (b"consistent_index", (4).to_bytes(8)),
        (b"storageVersion", b"3.6.0"),
        (b"term", (2).to_bytes(8)),
    ],
}


def revision(main: int, sub: int = 0) -> bytes:
    return main.to_bytes(8) + b"_" + sub.to_bytes(8)


def store_image(tables: Mapping[str, Iterable[Pair]]) -> bytes:
    """An image with etcd's ten buckets; those not named are those of an empty store."""
    every = {**{table: [] for table in BUCKETS}, **EMPTY_STORE, **tables}
    return write_image([(table.encode(), sorted(every[table])) for table in sorted(every)])


@contextmanager
def opened(content: bytes) -> Iterator[Image]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Image(file.fileno(), os.fstat(file.fileno()).st_size)


def contents(content: bytes) -> dict[bytes, list[Pair]]:
    """Everything in an image, which is checked on the way."""
    with opened(content) as image:
        image.check()
        return {
            bucket.name: [pair for pairs in bucket.items() for pair in pairs]
            for bucket in image.buckets()
        }


def with_meta(content: bytes, page: int, **changes: int) -> bytes:
    """The image with one of its metas changed and summed up anew."""
    old = decode_meta(content[page * 4096 :])
    fields = {name: getattr(old, name) for name in Meta.__dataclass_fields__}
    body = encode_meta_page(page, Meta(**{**fields, **changes}))
    return content[: page * 4096] + body[:4096] + content[(page + 1) * 4096 :]


def with_header(content: bytes, page: int, **changes: int) -> bytes:
    """The image with the header of one page changed."""
    fields = dict(zip(("id", "flags", "count", "overflow"), header(content, page), strict=True))
    packed = HEADER.pack(*{**fields, **changes}.values())
    return put(content, page * 4096, packed)


def header(content: bytes, page: int) -> tuple[int, ...]:
    return HEADER.unpack_from(content, page * 4096)


def put(content: bytes, offset: int, data: bytes) -> bytes:
    return content[:offset] + data + content[offset + len(data) :]
