"""An interval tree of half-open key ranges: which of them hold a key?

A treap ordered by (start, end), each node knowing the greatest end below it. Priorities are
checksums of the ranges, so that the same ranges always make the same tree. Ends are bytes, or None
for a range without end. Expected cost of insert and remove O(log n), of a look-up O(log n + found).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from zlib import crc32

Value = TypeVar("Value")


class _Node(Generic[Value]):
    __slots__ = ("end", "left", "max_end", "order", "priority", "right", "start", "value")

    def __init__(self, start: bytes, end: bytes | None, value: Value) -> None:
        self.start = start
        self.end = end
        self.order = _order(start, end)
        self.priority = crc32(repr(self.order).encode())
        self.value = value
        self.left: _Node[Value] | None = None
        self.right: _Node[Value] | None = None
        self.max_end = end

    def refresh(self) -> None:
        """Make max_end true again after a child changed."""
        max_end = self.end
        for child in (self.left, self.right):
            if child is not None and max_end is not None:
                max_end = None if child.max_end is None else max(max_end, child.max_end)
        self.max_end = max_end


def _order(start: bytes, end: bytes | None) -> tuple[bytes, bool, bytes]:
    return start, end is None, end or b""


class IntervalTree(Generic[Value]):
    """Distinct ranges, each with a value."""

    __slots__ = ("_root", "size")

    def __init__(self) -> None:
        self._root: _Node[Value] | None = None
        self.size = 0

    def insert(self, start: bytes, end: bytes | None, value: Value) -> None:
        """Add a range that is not in the tree."""
        self._root = _insert(self._root, _Node(start, end, value))
        self.size += 1

    def remove(self, start: bytes, end: bytes | None) -> None:
        """Take out a range that is in the tree."""
        self._root = _remove(self._root, _order(start, end))
        self.size -= 1

    def holding(self, key: bytes) -> Iterator[Value]:
        """Values of all ranges with start <= key < end, by ascending (start, end)."""
        pending: list[_Node[Value]] = []
        node = self._root
        while True:
            while node is not None and (node.max_end is None or node.max_end > key):
                if node.start <= key:
                    pending.append(node)  # it and its right side come after its left side
                node = node.left
            if not pending:
                return
            node = pending.pop()
            if node.end is None or node.end > key:
                yield node.value
            node = node.right


def _insert(root: _Node[Value] | None, new: _Node[Value]) -> _Node[Value]:
    if root is None:
        return new
    assert root.order != new.order, "a range is inserted once"
    if new.priority > root.priority:
        new.left, new.right = _split(root, new.order)
        new.refresh()
        return new
    if new.order < root.order:
        root.left = _insert(root.left, new)
    else:
        root.right = _insert(root.right, new)
    root.refresh()
    return root


def _split(
    root: _Node[Value] | None, order: tuple[bytes, bool, bytes]
) -> tuple[_Node[Value] | None, _Node[Value] | None]:
    """The subtree's nodes before and after `order`."""
    if root is None:
        return None, None
    if root.order < order:
        root.right, after = _split(root.right, order)
        root.refresh()
        return root, after
    before, root.left = _split(root.left, order)
    root.refresh()
    return before, root


def _remove(root: _Node[Value] | None, order: tuple[bytes, bool, bytes]) -> _Node[Value] | None:
    assert root is not None, "only a range in the tree is removed"
    if root.order == order:
        return _merge(root.left, root.right)
    if order < root.order:
        root.left = _remove(root.left, order)
    else:
        root.right = _remove(root.right, order)
    root.refresh()
    return root


def _merge(before: _Node[Value] | None, after: _Node[Value] | None) -> _Node[Value] | None:
    if before is None or after is None:
        return before or after
    if before.priority > after.priority:
        before.right = _merge(before.right, after)
        before.refresh()
        return before
    after.left = _merge(before, after.left)
    after.refresh()
    return after
