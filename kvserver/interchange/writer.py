"""An image from ascending pairs, in one pass (spec/bbolt.md §2.2).

Fed slice by slice: `begin` a bucket, `add` pairs, `end` it; after the last one `finish`. Finished
pages come out of `take` in file order; the two metas, which stand first, are known last. What is
held: one leaf, and per level of a tree the entries of one branch page.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from struct import pack

from kvserver.interchange.bbolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    ELEMENT_BYTES,
    ELEMENTS_MAX,
    FIRST_TREE_PAGE,
    HEADER,
    HEADER_BYTES,
    IS_BUCKET,
    KEY_BYTES_MAX,
    LEAF,
    PAGE_BYTES,
    SNAPSHOT_TXIDS,
    Meta,
    encode_meta_page,
)

Pair = tuple[bytes, bytes]
Child = tuple[bytes, int]
"""The first key of a page and the page's number."""

LEAF_PAGES_MAX = 8
"""A leaf may grow to so many pages while its last one would stay rather empty: two-kilobyte values
take half the room (B4)."""
WASTE_PARTS = 8
"""How empty is rather empty: more than this part of a page."""
WRITTEN_PAGE_BYTES_MAX = 65536
assert LEAF_PAGES_MAX * WRITTEN_PAGE_BYTES_MAX // (ELEMENT_BYTES + 1) <= ELEMENTS_MAX
CHILDREN_MIN = 3
"""A branch page is written with this many entries or more, less the last one, which begins the
next page: so none is ever left with a single child (B5, F14)."""


class Pages:
    """Numbers the pages and holds what is finished until it is taken."""

    def __init__(self, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.next = FIRST_TREE_PAGE
        self.waiting_bytes = 0
        self._waiting: list[bytes] = []

    def write(self, flags: int, count: int, body: list[bytes]) -> int:
        """Append a page; returns its number."""
        used = HEADER_BYTES + sum(map(len, body))
        span = -(-used // self.page_bytes)
        number = self.next
        self.next += span
        padding = bytes(span * self.page_bytes - used)
        self._waiting += (HEADER.pack(number, flags, count, span - 1), *body, padding)
        self.waiting_bytes += span * self.page_bytes
        return number

    def write_empty(self, count: int) -> None:
        """Room for the metas."""
        self._waiting.append(bytes(count * self.page_bytes))
        self.waiting_bytes += count * self.page_bytes

    def take(self) -> bytes:
        """Everything finished and not taken yet."""
        waiting, self._waiting = self._waiting, []
        self.waiting_bytes = 0
        return b"".join(waiting)


class BranchLevel:
    """One level above the leaves, or above another level."""

    def __init__(self, pages: Pages) -> None:
        self.has_written = False
        self.pending: list[Child] = []
        self._pages = pages
        self._bytes = HEADER_BYTES

    def add(self, child: Child) -> Child | None:
        """Take a child; the page that had to be written for it, if any."""
        need = ELEMENT_BYTES + len(child[0])
        written = None
        if self._bytes + need > self._pages.page_bytes and len(self.pending) >= CHILDREN_MIN:
            last = self.pending.pop()
            written = self.write()
            self.pending = [last]
            self._bytes = HEADER_BYTES + ELEMENT_BYTES + len(last[0])
        self.pending.append(child)
        self._bytes += need
        return written

    def write(self) -> Child:
        """The pending children as one page."""
        self.has_written = True
        count = len(self.pending)
        head = []
        position = ELEMENT_BYTES * count
        for key, number in self.pending:
            head.append(BRANCH_ELEMENT.pack(position, len(key), number))
            position += len(key) - ELEMENT_BYTES
        number = self._pages.write(BRANCH, count, [*head, *(key for key, _ in self.pending)])
        return self.pending[0][0], number


class TreeWriter:
    """The tree of one bucket."""

    def __init__(self, pages: Pages, element_flags: int = 0) -> None:
        self._pages = pages
        self._flags = element_flags
        self._levels: list[BranchLevel] = []
        self._leaf: list[Pair] = []
        self._leaf_bytes = HEADER_BYTES
        self._room_bytes = pages.page_bytes
        self._last_key = b""

    def add(self, pairs: Iterable[Pair]) -> None:
        # Hot: once per record of the database, a microsecond each. Locals save a quarter.
        used, room, last = self._leaf_bytes, self._room_bytes, self._last_key
        for pair in pairs:
            key, value = pair
            if key <= last or len(key) > KEY_BYTES_MAX:
                # etcd never checks the order again, it just fails to find what is there (F12).
                raise ValueError(f"key {key[:32].hex()} is out of order or too long for an image")
            last = key
            used += ELEMENT_BYTES + len(key) + len(value)
            if used > room:
                used, room = self._make_room(used, pair)
            self._leaf.append(pair)
        self._leaf_bytes, self._room_bytes, self._last_key = used, room, last

    def _make_room(self, used: int, pair: Pair) -> tuple[int, int]:
        """For a pair with which the leaf would take `used` bytes: more pages, or a new leaf."""
        page = self._pages.page_bytes
        need = ELEMENT_BYTES + len(pair[0]) + len(pair[1])
        if self._leaf and not self._may_grow(used, used - need):
            self._hand_up(self._write_leaf())
            used = HEADER_BYTES + need
        return used, -(-used // page) * page

    def _may_grow(self, used: int, used_before: int) -> bool:
        page = self._pages.page_bytes
        is_roomy = -used_before % page > page // WASTE_PARTS
        return is_roomy and used <= LEAF_PAGES_MAX * page

    def _write_leaf(self) -> Child:
        leaf = self._leaf
        number = self._pages.write(LEAF, len(leaf), self._leaf_body())
        self._leaf = []
        return leaf[0][0] if leaf else b"", number

    def _leaf_body(self) -> list[bytes]:
        """The element array, then keys and values in its order without gaps (F9)."""
        leaf = self._leaf
        flags = self._flags
        numbers: list[int] = []
        position = ELEMENT_BYTES * len(leaf)
        for key, value in leaf:
            key_bytes, value_bytes = len(key), len(value)
            numbers += (flags, position, key_bytes, value_bytes)
            position += key_bytes + value_bytes - ELEMENT_BYTES
        return [pack(f"<{len(numbers)}I", *numbers), *chain.from_iterable(leaf)]

    def _hand_up(self, child: Child, height: int = 0) -> None:
        """Give a written page to the level above, and on as far as that makes it write."""
        written: Child | None = child
        while written is not None:
            if height == len(self._levels):
                self._levels.append(BranchLevel(self._pages))
            written = self._levels[height].add(written)
            height += 1

    def inline_value(self) -> bytes | None:
        """The bucket's value when it is small enough to stand in its parent's leaf (B6, F10)."""
        if self._levels or self._leaf_bytes > self._pages.page_bytes // 4:
            return None
        head = BUCKET.pack(0, 0) + HEADER.pack(0, LEAF, len(self._leaf), 0)
        return b"".join((head, *self._leaf_body()))

    def finish(self) -> int:
        """Write what is pending; returns the number of the root page."""
        root = self._write_leaf()
        if not self._levels:
            return root[1]
        self._hand_up(root)
        height = 0
        while True:
            level = self._levels[height]
            if len(level.pending) == 1 and not level.has_written:
                return level.pending[0][1]
            self._hand_up(level.write(), height + 1)
            height += 1


class ImageWriter:
    """A whole image. Buckets must come in the order of their names."""

    def __init__(self, page_bytes: int = PAGE_BYTES) -> None:
        assert page_bytes <= WRITTEN_PAGE_BYTES_MAX
        self._pages = Pages(page_bytes)
        self._pages.write_empty(FIRST_TREE_PAGE)
        self._root = TreeWriter(self._pages, IS_BUCKET)
        self._name = b""
        self._tree: TreeWriter | None = None
        self.size_bytes = 0
        """Of the whole image, once it is finished."""

    def begin(self, name: bytes) -> None:
        assert self._tree is None, "the bucket before is not ended"
        self._name = name
        self._tree = TreeWriter(self._pages)

    def add(self, pairs: Iterable[Pair]) -> None:
        """More of the bucket, ascending. ValueError for what an image cannot hold."""
        assert self._tree is not None, "no bucket is begun"
        self._tree.add(pairs)

    def end(self) -> None:
        tree, self._tree = self._tree, None
        assert tree is not None, "no bucket is begun"
        value = tree.inline_value()
        if value is None:
            value = BUCKET.pack(tree.finish(), 0)
        self._root.add([(self._name, value)])

    def finish(self) -> bytes:
        """The meta pages, which belong at the beginning of what `take` gave and will give."""
        root = self._root.finish()
        pages = self._pages
        self.size_bytes = pages.next * pages.page_bytes
        return b"".join(
            encode_meta_page(number, Meta(pages.page_bytes, root, pages.next, txid))
            for number, txid in enumerate(SNAPSHOT_TXIDS)
        )

    @property
    def waiting_bytes(self) -> int:
        return self._pages.waiting_bytes

    def take(self) -> bytes:
        """The pages finished since the last call."""
        return self._pages.take()


def write_image(
    buckets: Iterable[tuple[bytes, Iterable[Pair]]], page_bytes: int = PAGE_BYTES
) -> bytes:
    """A whole image in memory: for tests and for small ones."""
    writer = ImageWriter(page_bytes)
    for name, pairs in buckets:
        writer.begin(name)
        writer.add(pairs)
        writer.end()
    metas = writer.finish()
    return metas + writer.take()[len(metas) :]
