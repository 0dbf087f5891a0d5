"""Whatever goes into an image comes back, and etcd may go on changing it (spec/bbolt.md F14, §6.2).

The second half cannot be seen by any tool: etcd checks nothing and dies at some later deletion. So
the rules themselves are tested on every page.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.interchange.bbolt import BRANCH, KEY_BYTES_MAX
from kvserver.interchange.reader import Image, Pair, branch_elements, leaf_elements
from kvserver.interchange.writer import ImageWriter, write_image
from tests.interchange.images import contents, opened, revision

Buckets = dict[bytes, list[Pair]]
PAGE_SIZES = (1024, 4096, 16384)


@st.composite
def buckets(draw: st.DrawFn) -> Buckets:
    """Runs of alike records, so that trees get high without megabytes of test data."""
    found: Buckets = {}
    for name in draw(st.sets(st.binary(min_size=1, max_size=6), max_size=4)):
        pairs: dict[bytes, bytes] = {}
        for part in range(draw(st.integers(0, 3))):
            key_bytes = draw(st.sampled_from((4, 17, 90, 700, 5000)))
            value_bytes = draw(st.sampled_from((0, 1, 30, 350, 2000, 9000)))
            count = draw(st.integers(0, 1200 if key_bytes + value_bytes < 500 else 25))
            for number in range(count):
                key = b"%c%03d" % (97 + part, number)
                pairs[key.ljust(key_bytes, b"-")] = bytes(value_bytes)
        found[name] = sorted(pairs.items())
    return found


@settings(max_examples=60, deadline=None)
@given(buckets(), st.sampled_from(PAGE_SIZES))
def test_what_goes_in_comes_back_and_etcd_may_change_it(tables: Buckets, page_bytes: int) -> None:
    image = write_image(sorted(tables.items()), page_bytes)
    assert len(image) % page_bytes == 0
    assert contents(image) == tables
    with opened(image) as found:
        assert found.size_bytes == len(image)
        used = walk(found, found.meta.root)
        for bucket in found.buckets():
            if bucket.inline is None:
                used += walk(found, bucket.root_page)
    assert sorted(used) == list(range(2, len(image) // page_bytes))  # every page exactly once


def walk(image: Image, root: int) -> list[int]:
    """All pages of a tree, each seen to keep what later changes rely on."""
    page, flags, count, span = image.page(root)
    used = list(range(root, root + span))
    if flags == BRANCH:
        children = branch_elements(page, count, "", b"", None)
        assert len(children) >= 2, "a branch with a single child"
        for key, child in children:
            assert key == first_key(image, child), "a branch key that is not the first below"
            used += walk(image, child)
    return used


def first_key(image: Image, number: int) -> bytes:
    page, flags, count, _ = image.page(number)
    if flags == BRANCH:
        return branch_elements(page, count, "", b"", None)[0][0]
    return leaf_elements(page, count, "", b"", None)[0][1]


@pytest.mark.parametrize("children", range(1, 12))
def test_no_branch_is_ever_left_with_one_child(children: int) -> None:
    """B5 with a key so long that a branch page holds two."""
    pairs = [(b"%02d" % n + bytes(1500), bytes(3000)) for n in range(children)]
    image = write_image([(b"b", pairs)])
    with opened(image) as found:
        walk(found, found.buckets()[0].root_page)
    assert contents(image) == {b"b": pairs}


def test_values_of_two_kilobytes_share_pages() -> None:
    """B4: one of them to a page would take twice the room."""
    pairs = [(revision(main), bytes(2048)) for main in range(1, 301)]
    image = write_image([(b"key", pairs)])
    assert len(image) < 1.15 * sum(len(key) + len(value) for key, value in pairs)


def test_slices_do_not_show() -> None:
    """The same image whether it is fed at once or bit by bit, and pages come out as they fill."""
    pairs = [(revision(main), bytes(main % 700)) for main in range(1, 3000)]
    writer = ImageWriter()
    writer.begin(b"key")
    taken = []
    for first in range(0, len(pairs), 7):
        writer.add(pairs[first : first + 7])
        assert writer.waiting_bytes <= 64 * 1024  # memory does not follow the database
        taken.append(writer.take())
    writer.end()
    metas = writer.finish()
    taken.append(writer.take())
    assert metas + b"".join(taken)[len(metas) :] == write_image([(b"key", pairs)])


def test_four_levels_in_little_memory(tmp_path: Path) -> None:
    """Case 11, with pages of a kilobyte in the place of a million records."""
    path = tmp_path / "image"
    writer = ImageWriter(1024)
    writer.begin(b"key")
    tracemalloc.start()
    with path.open("wb") as file:
        for first in range(1, 25_001, 100):
            writer.add([(revision(main), bytes(350)) for main in range(first, first + 100)])
            file.write(writer.take())
        writer.end()
        metas = writer.finish()
        file.write(writer.take())
        file.seek(0)
        file.write(metas)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 1_000_000 < path.stat().st_size / 9
    with opened(path.read_bytes()) as found:
        found.check()
        (bucket,) = found.buckets()
        assert height(found, bucket.root_page) == 4
        assert sum(len(pairs) for pairs in bucket.items()) == 25_000


def height(image: Image, number: int) -> int:
    page, flags, count, _ = image.page(number)
    if flags != BRANCH:
        return 1
    return 1 + height(image, branch_elements(page, count, "", b"", None)[0][1])


@pytest.mark.parametrize("keys", [(b"b", b"a"), (b"a", b"a"), (b"",), (bytes(KEY_BYTES_MAX + 1),)])
def test_what_no_image_can_hold_is_refused(keys: tuple[bytes, ...]) -> None:
    """F12: strictly ascending, not empty, not too long."""
    with pytest.raises(ValueError, match="out of order or too long"):
        write_image([(b"b", [(key, b"") for key in keys])])
