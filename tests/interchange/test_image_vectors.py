"""The images of spec/bbolt.md §4, byte for byte."""

from __future__ import annotations

import hashlib

import pytest

from kvserver.interchange.bbolt import fnv1a
from kvserver.interchange.reader import Pair
from kvserver.interchange.status import Status, image_status
from kvserver.interchange.writer import write_image
from tests.interchange.images import contents, opened, revision, store_image

B = [(b"b", [(b"k1", b"v1"), (b"k2", b"value2")])]
VECTORS: dict[str, tuple[list[tuple[bytes, list[Pair]]], str]] = {
    "A": ([], "b4bb60658bef07fdde55e653f8f8c6174ffcffb88fb1d493c06da9933f0876e1"),
    "B": (B, "c97e92bf964c2b7da06e841bd9a5def888ee9e3629219033f859c94cc9e3ea7b"),
    "C": (
        [(b"b", [(b"k1", b"v1"), (b"k2", b"x" * 1500)])],
        "8dbcfb292f46bc1bb39b9f7fad4a52fd7405bcb29aafe45be6f41f56f090fca1",
    ),
    "D": (
        [(b"b", [(b"k1", b"y" * 5000)])],
        "08b21882fba807bbaea68bfd8b77b1920429f061bfe01ba850db204a1d113419",
    ),
    "E": (
        [(b"key", [(revision(2 + i), bytes([0x61 + i]) * 300) for i in range(26)])],
        "6bb188931fed2899c09b911089724b76e2a3087d617412a4f734bd3712819239",
    ),
    "E, longer": (
        [(b"key", [(revision(main), b"z" * 300) for main in range(2, 2002)])],
        "3d2acbba2a934fc533da7b9d8a25692c8e8f2ea6a5cd074268e6640c05f2f6f3",
    ),
}
EMPTY_STORE_SUM = "49df50ae635bbdc25e6ac02ea7bc4a5f3eada0fd43ff90427c591c7b187f24d3"
META_HEAD = "0000 0000 0000 0000 0400 0000 0000 0000 edda0ced 02000000 00100000 00000000"


@pytest.mark.parametrize("name", VECTORS)
def test_the_writer_gives_the_vector_and_the_reader_takes_it_back(name: str) -> None:
    buckets, digest = VECTORS[name]
    image = write_image(buckets)
    assert hashlib.sha256(image).hexdigest() == digest
    assert contents(image) == dict(buckets)


def test_an_empty_store() -> None:
    """F, and what `snapshot status` says of it: 5 records in all buckets, as 3.5 counts (S2)."""
    image = store_image({})
    assert hashlib.sha256(image).hexdigest() == EMPTY_STORE_SUM
    with opened(image) as found:
        assert image_status(found) == Status(3900436431, 0, 5, 12288, "3.6.0")


def test_metas_as_a_hot_copy_has_them() -> None:
    """A and F6: the newest in page 0 whatever the parity; the checksum covers 56 bytes (F4)."""
    image = write_image([])
    assert image[:32] == bytes.fromhex(META_HEAD)
    assert image[0x40:0x50].hex() == "02000000000000004067af04a0b168e3"
    assert image[0x1040:0x1050].hex() == "0100000000000000a3457d25bb065940"
    assert (fnv1a(b"a"), fnv1a(b"foobar")) == (0xAF63DC4C8601EC8C, 0x85944171F73967E8)


def test_an_inline_bucket_is_a_leaf_inside_a_leaf() -> None:
    """B: offsets count from the element itself (F9), the page inside has id 0 (F10)."""
    image = write_image(B)
    assert image[0x2010:0x2020].hex() == "0100000010000000010000004c000000"
    assert image[0x2021:0x2061].hex() == (
        "0000000000000000000000000000000000000000000000000200020000000000"
        "0000000020000000020000000200000000000000140000000200000006000000"
    )


def test_what_real_bbolt_leaves_behind_is_stepped_over() -> None:
    """G: an unreferenced freelist in page 2 and an old root in page 3."""
    meta = bytes.fromhex("edda0ced0200000000100000000000000400000000000000") + bytes(8)
    meta += b"\xff" * 8 + (5).to_bytes(8, "little")
    pages = [
        bytes(8) + bytes.fromhex("0400000000000000") + meta + (2).to_bytes(8, "little")
        + (0x297699D171B17580).to_bytes(8, "little"),
        bytes.fromhex("01000000000000000400000000000000") + meta + (1).to_bytes(8, "little")
        + (0x8666EEEC927F53E3).to_bytes(8, "little"),
        bytes.fromhex("02000000000000001000000000000000"),
        bytes.fromhex("03000000000000000200000000000000"),
        b"\x04" + write_image(B)[0x2001:0x3000],
    ]  # fmt: skip
    image = b"".join(page.ljust(4096, b"\0") for page in pages)
    assert contents(image) == dict(B)
