"""A damaged or hostile image is one clear error, never a crash and never a wrong answer
(spec/bbolt.md §6.9)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.interchange import reader
from kvserver.interchange.bbolt import BUCKET, HEADER, LEAF, ImageError
from kvserver.interchange.reader import Pair
from kvserver.interchange.status import image_status
from kvserver.interchange.writer import write_image
from tests.interchange.images import (
    contents,
    header,
    opened,
    put,
    revision,
    store_image,
    with_header,
    with_meta,
)

RECORDS: list[Pair] = [(revision(main), b"z" * 300) for main in range(2, 2002)]
TREE = write_image([(b"key", RECORDS)])
"""Leaves, branch pages 126 and 170, above them 171, root leaf 172 (vector E)."""
LEAF_PAGE, BRANCH_PAGE, TOP_PAGE, ROOT_PAGE = 2, 126, 171, 172
ROOT_ONLY = write_image([(b"b", [(b"k1", b"v1"), (b"k2", b"value2")])])


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as refused, opened(content) as image:
        image.check()
    return str(refused.value)


@pytest.mark.parametrize("page", [0, 1])
def test_one_damaged_meta_is_no_loss(page: int) -> None:
    """F5: also the first one, when the page size has to be found."""
    for page_bytes in (1024, 4096, 65536):
        content = write_image([(b"b", RECORDS[:50])], page_bytes)
        assert contents(put(content, page * page_bytes + 20, b"\xff")) == {b"b": RECORDS[:50]}


def test_the_valid_meta_with_the_higher_txid_counts() -> None:
    """F5, F6: whichever page it stands in."""
    stale = with_meta(with_meta(TREE, 1, txid=9), 0, root=ROOT_PAGE + 1)
    assert contents(stale) == {b"key": RECORDS}


def test_files_that_are_no_image() -> None:
    """bbolt's words, which operators search for (F5)."""
    both = put(put(ROOT_ONLY, 16, b"\0"), 4096 + 16, b"\0")
    assert refusal(both) == "invalid database"
    assert refusal(put(put(ROOT_ONLY, 60, b"\1"), 4096 + 60, b"\1")) == "checksum error"
    assert refusal(put(put(ROOT_ONLY, 20, b"\3"), 4096 + 20, b"\3")) == "version mismatch: 3"
    big_endian = bytes.fromhex("ed0cdaed")
    swapped = put(put(ROOT_ONLY, 16, big_endian), 4096 + 16, big_endian)
    assert "big-endian" in refusal(swapped)
    assert refusal(b"") == refusal(b"short") == "invalid database: too short"
    assert refusal(bytes(100_000)) == "invalid database"


def test_a_truncated_file_is_noticed_before_anything_is_read() -> None:
    """F16: etcd's tools fault there."""
    assert "the file ends after" in refusal(TREE[:-1])
    assert "the file ends after" in refusal(with_meta(TREE, 0, high_water=10**6))


def test_a_longer_file_is_no_error() -> None:
    """F7: a file copied from a data directory grows in steps."""
    assert contents(TREE + bytes(999_936)) == {b"key": RECORDS}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_meta(TREE, 0, root=1), "the root is page 1"),
        (with_meta(TREE, 0, root=LEAF_PAGE), "its root holds something that is no bucket"),
        (with_header(TREE, LEAF_PAGE, id=3), "page 2: it says it is page 3"),
        (with_header(TREE, LEAF_PAGE, flags=0x10), "page 2: flags 0x10"),
        (with_header(TREE, LEAF_PAGE, flags=3), "page 2: flags 0x3"),
        (with_header(TREE, LEAF_PAGE, count=300), "page 2: 300 elements"),
        (with_header(TREE, LEAF_PAGE, overflow=10**6), "page 2: overflow 1000000"),
        (with_header(TREE, LEAF_PAGE, overflow=1), "page 3: used twice"),
        (with_header(TREE, BRANCH_PAGE, count=0), "page 126: 0 elements"),
        (put(TREE, TOP_PAGE * 4096 + 24, struct.pack("<Q", 999)), "page 999: there is no such"),
        (put(TREE, TOP_PAGE * 4096 + 24, struct.pack("<Q", 1)), "page 1: there is no such page"),
        (put(TREE, TOP_PAGE * 4096 + 24, struct.pack("<Q", 170)), "page 170|used twice"),
        (put(TREE, TOP_PAGE * 4096 + 24, struct.pack("<Q", TOP_PAGE)), "page 171: used twice"),
        (put(TREE, LEAF_PAGE * 4096 + 20, b"\xff\xff"), "page 2: an element lies outside"),
        (put(TREE, LEAF_PAGE * 4096 + 20, bytes(4)), "page 2: an element lies outside"),
        (put(TREE, BRANCH_PAGE * 4096 + 16, b"\xff\xff"), "page 126: an element lies outside"),
        (put(TREE, LEAF_PAGE * 4096 + 4096 - 800, b"\xff" * 700), "page 2: .*order|outside"),
    ],
)
def test_each_lie_is_told_with_its_page(content: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words), opened(content) as image:
        image.check()


def test_a_cycle_ends() -> None:
    """Without the map of used pages it is the bound on depth, or the order of the keys."""
    looped = put(TREE, TOP_PAGE * 4096 + 24, struct.pack("<Q", TOP_PAGE))
    with pytest.raises(ImageError, match=r"too deep|out of order"), opened(looped) as image:
        for bucket in image.buckets():
            for _ in bucket.items():
                pass


def test_two_buckets_that_share_a_tree_are_found() -> None:
    """F15: and reading does not become quadratic."""
    content = write_image([(b"a", RECORDS[:40]), (b"b", RECORDS[:40])])
    with opened(content) as image:
        first, second = image.buckets()
        shared = content.replace(BUCKET.pack(second.root_page, 0), BUCKET.pack(first.root_page, 0))
    assert "used twice" in refusal(shared)


def test_inline_buckets_are_not_believed_either() -> None:
    start = ROOT_ONLY.index(HEADER.pack(0, LEAF, 2, 0), 0x2010)
    assert "2" in str(header(ROOT_ONLY, 2))
    for damage in (HEADER.pack(0, 1, 2, 0), HEADER.pack(0, LEAF, 200, 0), HEADER.pack(0, 2, 2, 9)):
        assert "inline bucket b'b'" in refusal(put(ROOT_ONLY, start, damage))
    cut = put(ROOT_ONLY, 0x2010 + 12, struct.pack("<I", 20))  # the value ends inside its page
    assert "cut off" in refusal(cut)


def test_a_bucket_in_a_bucket_is_read() -> None:
    """No etcd makes one, but a reader must not stumble over it."""
    inner = BUCKET.pack(0, 0) + HEADER.pack(0, LEAF, 0, 0)
    content = bytearray(write_image([(b"outer", [(b"in", inner), (b"x", b"y" * 2000)])]))
    content[2 * 4096 + 16] = 1  # the first element of the leaf is a bucket
    assert contents(bytes(content)) == {b"outer": [(b"x", b"y" * 2000)]}
    with opened(bytes(content)) as image:
        (outer,) = image.buckets()
        assert [bucket.name for bucket in outer.buckets()] == [b"in"]


SMALL = store_image({"key": RECORDS[:40], "lease": [(b"l%d" % n, b"") for n in range(9)]})


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    st.integers(0, len(SMALL)),
    st.booleans(),
)
def test_any_damage_is_an_image_error_or_no_damage(
    changes: list[tuple[int, bytes]], length: int, is_cut: bool
) -> None:
    """Fuzzing: nothing but ImageError ever comes out, and what is read stays within the file."""
    content = SMALL
    for offset, data in changes:
        content = put(content, offset, data)[: len(SMALL)]
    if is_cut:
        content = content[:length]
    try:
        with opened(content) as image:
            status = image_status(image)
            image.check()
    except ImageError:
        return
    assert status.total_bytes <= len(content)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_trees(data: st.DataObject) -> None:
    """The same, aimed at the headers and element arrays of a high tree's pages."""
    content = TREE
    for _ in range(data.draw(st.integers(1, 3))):
        page = data.draw(st.sampled_from((0, 1, 2, 3, 125, 126, 127, 170, 171, 172)))
        offset = data.draw(st.integers(0, 95))
        value = data.draw(st.sampled_from((0, 1, 2, 3, 4, 16, 126, 170, 171, 172, 255)))
        content = put(content, page * 4096 + offset, bytes([value]))
    try:
        with opened(content) as image:
            image_status(image)
    except ImageError:
        return


@given(st.binary(max_size=300), st.integers(0, 3))
def test_noise_is_no_image(noise: bytes, pages: int) -> None:
    with pytest.raises(ImageError), opened(noise + bytes(pages * 4096)):
        pass


def test_a_page_that_claims_half_the_machine_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file costs nothing to make; memory is bounded whatever it says."""
    content = write_image([(b"b", [(b"k", bytes(10_000))])])
    assert contents(content) == {b"b": [(b"k", bytes(10_000))]}
    monkeypatch.setattr(reader, "IMAGE_PAGE_RUN_BYTES_MAX", 8192)
    assert refusal(content) == "corrupt image, page 2: overflow 2"
