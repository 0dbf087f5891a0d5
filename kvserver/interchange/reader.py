"""An image, read page by page and believed in nothing (spec/bbolt.md §2.1).

A snapshot may come from anybody, so every number is checked before it is used, and every complaint
is one `ImageError` that names the page. Pages are read with `pread`: a file that somebody cuts off
meanwhile is an error here, where a mapping would end the process.

What is held in memory: one page of each level of one tree, and one byte per page when asked to
prove that no page is used twice. The freelist is not looked at (spec/bbolt.md §1.3).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter

from kvserver.interchange.bbolt import (
    BRANCH,
    BUCKET,
    ELEMENT_BYTES,
    FIRST_TREE_PAGE,
    HEADER,
    HEADER_BYTES,
    IS_BUCKET,
    LEAF,
    META_END,
    PAGE_BYTES_MAX,
    PAGE_BYTES_MIN,
    ImageError,
    Meta,
    decode_meta,
)
from kvserver.limits import IMAGE_PAGE_RUN_BYTES_MAX

Pair = tuple[bytes, bytes]
Element = tuple[int, bytes, bytes]
"""flags, key, value."""
DEPTH_MAX = 32
"""Levels of a tree, and of buckets in buckets: a billion records have four."""


class PageMap:
    """Which pages a pass over an image has used; each may be used once (F15)."""

    def __init__(self, high_water: int) -> None:
        self._used = bytearray(high_water)

    def mark(self, number: int, span: int) -> None:
        if self._used.find(1, number, number + span) >= 0:
            raise ImageError(f"corrupt image, page {number}: used twice")
        self._used[number : number + span] = b"\1" * span


class Image:
    """An open image. The descriptor stays the caller's."""

    def __init__(
        self,
        descriptor: int,
        size_bytes: int,
        pread: Callable[[int, int, int], bytes] = os.pread,
    ) -> None:
        """`size_bytes` is what belongs to the image: the digest behind it does not. `pread` is the
        descriptor's filesystem's, where that is not the system's."""
        self._descriptor = descriptor
        self._pread = pread
        self.meta = self._newest_meta(size_bytes)
        self.page_bytes = self.meta.page_bytes
        self.size_bytes = self.meta.high_water * self.page_bytes
        if self.size_bytes > size_bytes:
            raise ImageError(
                f"corrupt image: it has {self.size_bytes} bytes by its own account, "
                f"but the file ends after {size_bytes}"
            )
        if not FIRST_TREE_PAGE <= self.meta.root < self.meta.high_water:
            raise ImageError(f"corrupt image: the root is page {self.meta.root}")
        self.root = Bucket(self, b"", self.meta.root, None)

    # -- metas (F5)

    def _newest_meta(self, size_bytes: int) -> Meta:
        """The valid meta with the higher txid; one damaged meta is no error."""
        metas: list[Meta] = []
        complaint: ImageError | None = None
        try:
            metas.append(decode_meta(self._read(0, min(META_END, size_bytes))))
        except ImageError as error:
            complaint = error
        sizes = [metas[0].page_bytes] if metas else _page_sizes()
        for page_bytes in sizes:
            if page_bytes + META_END > size_bytes:
                break
            try:
                meta = decode_meta(self._read(page_bytes, META_END))
            except ImageError:
                continue
            if meta.page_bytes == page_bytes:
                metas.append(meta)
                break
        if not metas:
            raise complaint or ImageError("invalid database")
        return max(metas, key=lambda meta: meta.txid)

    # -- pages

    def _read(self, offset: int, size: int) -> bytes:
        data = self._pread(self._descriptor, size, offset)
        while len(data) < size:  # the kernel gives at most 2 GiB at a time
            more = self._pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise ImageError(f"corrupt image: the file ends at byte {offset + len(data)}")
            data += more
        return data

    def page(self, number: int) -> tuple[bytes, int, int, int]:
        """(page with its overflow, flags, count, span), the header checked."""
        high_water = self.meta.high_water
        if not FIRST_TREE_PAGE <= number < high_water:
            raise ImageError(f"corrupt image, page {number}: there is no such page")
        page = self._read(number * self.page_bytes, self.page_bytes)
        own, flags, count, overflow = HEADER.unpack_from(page)
        if own != number:
            raise ImageError(f"corrupt image, page {number}: it says it is page {own}")
        if flags not in (BRANCH, LEAF):
            raise ImageError(f"corrupt image, page {number}: flags {flags:#x}")
        run_bytes = (overflow + 1) * self.page_bytes
        if number + overflow >= high_water or run_bytes > IMAGE_PAGE_RUN_BYTES_MAX:
            raise ImageError(f"corrupt image, page {number}: overflow {overflow}")
        if overflow:
            page += self._read((number + 1) * self.page_bytes, overflow * self.page_bytes)
        return page, flags, count, overflow + 1

    def check(self) -> None:
        """Read everything; ImageError unless every page is sound and used once (F15)."""
        used = PageMap(self.meta.high_water)
        for bucket in self.buckets(used):
            bucket.check(used)

    def buckets(self, used: PageMap | None = None) -> list[Bucket]:
        """The image's buckets, in the order of their names."""
        if any(self.root.items()):
            raise ImageError("corrupt image: its root holds something that is no bucket")
        return self.root.buckets(used)


def _page_sizes() -> Iterator[int]:
    size = PAGE_BYTES_MIN
    while size <= PAGE_BYTES_MAX:
        yield size
        size *= 2


class Bucket:
    """A bucket: pairs, and buckets below it (etcd has those in the root only)."""

    def __init__(
        self, image: Image, name: bytes, root: int, inline: bytes | None, depth: int = 0
    ) -> None:
        self.name = name
        self._image = image
        self.root_page = root
        self.inline = inline
        """The leaf page inside the bucket's own value, when there is one (F10)."""
        self._depth = depth

    def items(self, used: PageMap | None = None) -> Iterator[list[Pair]]:
        """The pairs, ascending, leaf by leaf."""
        for elements in self.elements(used):
            yield [(key, value) for flags, key, value in elements if not flags & IS_BUCKET]

    def buckets(self, used: PageMap | None = None) -> list[Bucket]:
        """The buckets below, in the order of their names."""
        return [
            self._below(key, value)
            for elements in self.elements(used)
            for flags, key, value in elements
            if flags & IS_BUCKET
        ]

    def _below(self, name: bytes, value: bytes) -> Bucket:
        if len(value) < BUCKET.size or self._depth == DEPTH_MAX:
            raise ImageError(f"corrupt image: bucket {name[:64]!r} is cut off or nested too deep")
        root, _ = BUCKET.unpack_from(value)
        inline = None if root else value[BUCKET.size :]
        return Bucket(self._image, name, root, inline, self._depth + 1)

    def check(self, used: PageMap) -> None:
        for bucket in self.buckets(used):
            bucket.check(used)

    def get(self, key: bytes) -> bytes | None:
        """The value of one key: one page of each level is read."""
        for flags, found, value in self._leaf_of(key):
            if found == key and not flags & IS_BUCKET:
                return value
        return None

    def _leaf_of(self, key: bytes) -> list[Element]:
        if self.inline is not None:
            return _inline_elements(self.name, self.inline)
        number, low, high = self.root_page, b"", None
        for _ in range(DEPTH_MAX + 1):
            page, flags, count, _span = self._image.page(number)
            where = f"page {number}"
            if flags == LEAF:
                return leaf_elements(page, count, where, low, high)
            children = branch_elements(page, count, where, low, high)
            place = bisect_right(children, key, key=itemgetter(0)) - 1
            if place < 0:
                return []
            if place + 1 < len(children):
                high = children[place + 1][0]
            low, number = children[place]
        raise ImageError(f"corrupt image, page {number}: the tree is too deep")

    # -- the tree

    def elements(self, used: PageMap | None = None) -> Iterator[list[Element]]:
        """What the leaves hold, leaf by leaf; keys ascend over all of them."""
        if self.inline is not None:
            yield _inline_elements(self.name, self.inline)
            return
        image = self._image
        # (page, least key, first key beyond or None, depth)
        waiting: list[tuple[int, bytes, bytes | None, int]] = [(self.root_page, b"", None, 0)]
        while waiting:
            number, low, high, depth = waiting.pop()
            page, flags, count, span = image.page(number)
            if used is not None:
                used.mark(number, span)
            where = f"page {number}"
            if flags == LEAF:
                yield leaf_elements(page, count, where, low, high)
                continue
            if depth == DEPTH_MAX:
                raise ImageError(f"corrupt image, {where}: the tree is too deep")
            children = branch_elements(page, count, where, low, high)
            bounds = [key for key, _ in children[1:]] + [high]
            waiting += [
                (child, key, bound, depth + 1)
                for (key, child), bound in zip(reversed(children), reversed(bounds), strict=True)
            ]


def _inline_elements(name: bytes, page: bytes) -> list[Element]:
    where = f"inline bucket {name[:64]!r}"
    if len(page) < HEADER_BYTES:
        raise ImageError(f"corrupt image, {where}: cut off")
    _, flags, count, overflow = HEADER.unpack_from(page)
    if flags != LEAF or overflow:
        raise ImageError(f"corrupt image, {where}: it is no leaf")
    return leaf_elements(page, count, where, b"", None)


def leaf_elements(
    page: bytes, count: int, where: str, low: bytes, high: bytes | None
) -> list[Element]:
    """A leaf's elements, each inside the page and in its place in the order."""
    data_at = HEADER_BYTES + count * ELEMENT_BYTES
    if data_at > len(page):
        raise ImageError(f"corrupt image, {where}: {count} elements")
    # Hot: once per record; one unpack for the whole array.
    numbers = struct.unpack_from(f"<{4 * count}I", page, HEADER_BYTES)
    elements: list[Element] = []
    at = HEADER_BYTES
    end_of_page = len(page)
    for flags, position, key_bytes, value_bytes in zip(*[iter(numbers)] * 4, strict=True):
        start = at + position
        middle = start + key_bytes
        end = middle + value_bytes
        if start < data_at or end > end_of_page:
            raise ImageError(f"corrupt image, {where}: an element lies outside")
        elements.append((flags, page[start:middle], page[middle:end]))
        at += ELEMENT_BYTES
    _check_order([key for _, key, _ in elements], where, low, high)
    return elements


def branch_elements(
    page: bytes, count: int, where: str, low: bytes, high: bytes | None
) -> list[tuple[bytes, int]]:
    """A branch's (key, child) pairs."""
    data_at = HEADER_BYTES + count * ELEMENT_BYTES
    if not count or data_at > len(page):
        raise ImageError(f"corrupt image, {where}: {count} elements")
    numbers = struct.unpack_from("<" + "IIQ" * count, page, HEADER_BYTES)
    children: list[tuple[bytes, int]] = []
    at = HEADER_BYTES
    for position, key_bytes, child in zip(*[iter(numbers)] * 3, strict=True):
        start = at + position
        if start < data_at or start + key_bytes > len(page):
            raise ImageError(f"corrupt image, {where}: an element lies outside")
        children.append((page[start : start + key_bytes], child))
        at += ELEMENT_BYTES
    _check_order([key for key, _ in children], where, low, high)
    return children


def _check_order(keys: list[bytes], where: str, low: bytes, high: bytes | None) -> None:
    """Strictly ascending, not empty, and within what the page above promised (F12, F13)."""
    if not keys:
        return
    last = keys[0]
    is_sound = bool(last) and last >= low
    for key in keys[1:]:
        is_sound = is_sound and key > last
        last = key
    if not is_sound or (high is not None and last >= high):
        raise ImageError(f"corrupt image, {where}: its keys are out of order")
