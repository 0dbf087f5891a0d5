"""One write buffer into one LMDB transaction, with its marks (spec/storage.md §4.2).

Runs in the flush thread beside the loop. py-lmdb gives the GIL up around every call, and beside a
busy loop each re-acquisition costs about a millisecond, so the many small calls are made in slices
that the loop grants: 0.3 us a record then. The commit (write and fdatasync, one call without the
GIL) needs no grant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import lmdb

from kvserver import failpoints
from kvserver.errors import FatalError
from kvserver.limits import FLUSH_SLICE_BYTES, FLUSH_SLICE_RECORDS, FLUSH_SLICE_REMOVALS
from kvserver.mvcc.backend.api import Grant, Pair
from kvserver.mvcc.backend.environment import Environment, lmdb_errors
from kvserver.mvcc.backend.tables import KEY
from kvserver.mvcc.backend.write_buffer import WriteBuffer

T = TypeVar("T")


class FlushJob:
    """Carries a frozen buffer (the marks are among its rows) and an environment that nobody else
    writes to meanwhile."""

    def __init__(self, environment: Environment, buffer: WriteBuffer) -> None:
        self.environment = environment
        self.buffer = buffer
        self.size_bytes = 0
        self.size_in_use_bytes = 0
        self.is_durable = False

    def run(self, grant: Grant) -> None:
        with lmdb_errors("the flush of the backend failed"):
            txn = self.environment.lmdb.begin(write=True)
            try:
                self._write_records(txn, grant)
                self._write_changes(txn, grant)
                failpoints.hit("beforeCommit")
                txn.commit()
            except BaseException:
                txn.abort()
                raise
            self.size_bytes = self.environment.allocated_bytes()
        self.is_durable = True
        failpoints.hit("afterCommit")

    def _write_records(self, txn: lmdb.Transaction[bytes], grant: Grant) -> None:
        cursor = txn.cursor(self.environment.tables[KEY])
        pieces = record_slices(self.buffer.records.items())
        while True:
            with grant:
                piece = next(pieces, None)
                if piece is None:
                    return
                _, added = cursor.putmulti(piece, append=True)
                if added != len(piece):
                    raise FatalError(
                        "the flush of the backend failed: it already has a record at or above "
                        f"{piece[0][0].hex()}. Its file and the log do not belong together."
                    )

    def _write_changes(self, txn: lmdb.Transaction[bytes], grant: Grant) -> None:
        """Removals and small tables; then the sizes, which need as many small calls."""
        tables = self.environment.tables
        for keys in slices(sorted(self.buffer.removed), FLUSH_SLICE_REMOVALS):
            with grant:
                for key in keys:
                    txn.delete(key, db=tables[KEY])
        for table, rows in self.buffer.tables.items():
            for changes in slices(rows.items()):
                with grant:
                    for key, value in changes:
                        if value is None:
                            txn.delete(key, db=tables[table])
                        else:
                            txn.put(key, value, db=tables[table])
        with grant:
            self.size_in_use_bytes = self.environment.in_use_bytes(txn)


def slices(things: Iterable[T], size: int = FLUSH_SLICE_RECORDS) -> Iterator[list[T]]:
    iterator = iter(things)
    while piece := list(islice(iterator, size)):
        yield piece


def record_slices(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Slices bounded in records and in bytes: a thousand large values are not 0.3 ms."""
    for piece in slices(pairs):
        if sum([len(record) for _, record in piece]) <= FLUSH_SLICE_BYTES:
            yield piece
            continue
        part: list[Pair] = []
        part_bytes = 0
        for pair in piece:
            part.append(pair)
            part_bytes += len(pair[1])
            if part_bytes >= FLUSH_SLICE_BYTES:
                yield part
                part, part_bytes = [], 0
        if part:
            yield part
