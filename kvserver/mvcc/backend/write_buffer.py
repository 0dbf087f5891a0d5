"""What apply has changed since the last flush: plain dictionaries, no I/O.

The loop fills the active buffer. `begin_flush` freezes it: from then on nobody changes it, so the
flush thread may read it without a lock.

Invariant: revision keys ascend over the backend's whole life, so every key of LMDB is below every
key of the buffer being flushed, and those are below every key of the active buffer. A merged scan
is therefore the three parts one after the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from kvserver.mvcc.backend.api import Pair
from kvserver.mvcc.backend.tables import CONF_STATE, CONSISTENT_INDEX, META, SMALL_TABLES, TERM


class WriteBuffer:
    """One buffer. `records` and `record_bytes` are filled by the backend itself: a put is one
    dictionary store there, without a call in between (0.1 us of a put's 10 us)."""

    __slots__ = ("_sorted_keys", "record_bytes", "records", "removed", "tables")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.record_bytes = 0
        self.removed: set[bytes] = set()
        """Compacted keys that are in an older layer."""
        self.tables: dict[str, dict[bytes, bytes | None]] = {table: {} for table in SMALL_TABLES}
        """None is a deletion. The marks are rows of `meta` like any other."""
        self._sorted_keys: list[bytes] = []

    @property
    def is_empty(self) -> bool:
        return not (self.records or self.removed or any(self.tables.values()))

    @property
    def pending_records(self) -> int:
        """Changes, the marks not counted. Asked for after each applied entry, hence no generator
        (it costs half as much again)."""
        meta = self.tables[META]
        marks = (CONSISTENT_INDEX in meta) + (TERM in meta) + (CONF_STATE in meta)
        rows = sum(map(len, self.tables.values()))
        return len(self.records) + len(self.removed) + rows - marks

    def remove(self, revision_keys: Iterable[bytes]) -> None:
        """Forget a record that never left this buffer; remember the others for the flush."""
        for key in revision_keys:
            record = self.records.pop(key, None)
            if record is None:
                self.removed.add(key)
            else:
                self.record_bytes -= len(record)
                self._sorted_keys = []

    def range(self, first: bytes, last: bytes) -> Iterator[Pair]:
        """The records with first <= key < last, ascending."""
        keys = self.sorted_keys()
        begin = bisect_left(keys, first)
        end = bisect_left(keys, last, begin)
        return ((key, self.records[key]) for key in islice(keys, begin, end))

    def sorted_keys(self) -> list[bytes]:
        """The record keys. They were stored ascending, so the list only has to catch up."""
        known = self._sorted_keys
        if len(known) < len(self.records):
            known.extend(islice(self.records, len(known), None))
        return known

    def copy(self) -> WriteBuffer:
        """The buffer as it stands, for a snapshot: the values are shared, they never change."""
        twin = WriteBuffer()
        twin.records = self.records.copy()
        twin.record_bytes = self.record_bytes
        twin.removed = self.removed.copy()
        twin.tables = {table: rows.copy() for table, rows in self.tables.items()}
        return twin


def merge_rows(stored: Iterable[Pair], layers: Sequence[WriteBuffer], table: str) -> list[Pair]:
    """A small table as the layers, oldest first, leave it; ascending."""
    rows: dict[bytes, bytes | None] = dict(stored)
    for layer in layers:
        rows.update(layer.tables[table])
    return sorted((key, value) for key, value in rows.items() if value is not None)


def row_pieces(
    stored: Iterator[Pair], layers: Sequence[WriteBuffer], table: str, size: int
) -> Iterator[list[Pair]]:
    """A small table as the layers, oldest first, leave it: ascending, about `size` rows at a time.
    A hundred thousand leases are no slice."""
    changed: dict[bytes, bytes | None] = {}
    for layer in layers:
        changed.update(layer.tables[table])
    keys = sorted(changed)
    done = 0
    while piece := list(islice(stored, size)):
        until = bisect_right(keys, piece[-1][0], done)
        if until > done:
            rows: dict[bytes, bytes | None] = dict(piece)
            rows.update((key, changed[key]) for key in keys[done:until])
            piece = sorted((key, value) for key, value in rows.items() if value is not None)
        done = until
        yield piece
    for first in range(done, len(keys), size):
        pairs = ((key, changed[key]) for key in keys[first : first + size])
        yield [(key, value) for key, value in pairs if value is not None]


def record_pieces(
    stored: Iterator[Pair], layers: Sequence[WriteBuffer], size: int, bytes_max: int = 0
) -> Iterator[list[Pair]]:
    """The key table as the layers, oldest first, leave it: ascending, `size` records at a time.
    With `bytes_max` a piece ends with the record that reaches it."""
    removed: set[bytes] = set().union(*(layer.removed for layer in layers))
    for source in (stored, *(iter(layer.records.items()) for layer in layers)):
        pieces = bounded_pieces(source, size, bytes_max) if bytes_max else _pieces(source, size)
        for piece in pieces:
            yield [pair for pair in piece if pair[0] not in removed] if removed else piece


def _pieces(source: Iterator[Pair], size: int) -> Iterator[list[Pair]]:
    while piece := list(islice(source, size)):
        yield piece


def bounded_pieces(source: Iterator[Pair], size: int, bytes_max: int) -> Iterator[list[Pair]]:
    """A thousand large values are neither a slice nor a bound on memory."""
    piece: list[Pair] = []
    piece_bytes = 0
    for pair in source:
        piece.append(pair)
        piece_bytes += len(pair[1])
        if len(piece) >= size or piece_bytes >= bytes_max:
            yield piece
            piece, piece_bytes = [], 0
    if piece:
        yield piece
