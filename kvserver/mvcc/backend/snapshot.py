"""A view of all layers that stands still: for hashes and for the bbolt image of a backup.

It holds a read transaction of its own. LMDB cannot reuse pages freed after that, so the file grows
with the writes made while a snapshot is open (spec/storage.md §4.2): close it soon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lmdb

from kvserver.limits import FLUSH_SLICE_BYTES, FLUSH_SLICE_RECORDS
from kvserver.mvcc.backend.api import Marks, Pair
from kvserver.mvcc.backend.environment import Environment, lmdb_errors
from kvserver.mvcc.backend.long_names import NAMED_TABLES, whole_names
from kvserver.mvcc.backend.tables import KEY
from kvserver.mvcc.backend.write_buffer import WriteBuffer, record_pieces, row_pieces


class LmdbSnapshot:
    """Layers, oldest first, none of which changes any more. The loop opens and closes it; its
    items may be read in the flush thread, with a grant around each step of the iteration."""

    def __init__(
        self,
        environment: Environment,
        txn: lmdb.Transaction[bytes],
        layers: Sequence[WriteBuffer],
        marks: Marks,
    ) -> None:
        self.marks = marks
        self._environment = environment
        self._layers = layers
        self._txn = txn
        self._is_open = True
        environment.snapshots += 1

    def items(self, table: str) -> Iterator[list[Pair]]:
        assert self._is_open, "the snapshot is closed"
        with lmdb_errors("cannot read the backend"):
            stored = self._txn.cursor(self._environment.tables[table]).iternext()
            if table == KEY:
                size, bytes_max = FLUSH_SLICE_RECORDS, FLUSH_SLICE_BYTES
                yield from record_pieces(stored, self._layers, size, bytes_max)
            else:
                pieces = row_pieces(stored, self._layers, table, FLUSH_SLICE_RECORDS)
                yield from whole_names(pieces) if table in NAMED_TABLES else pieces

    def close(self) -> None:
        """Closing twice is harmless."""
        if not self._is_open:
            return
        self._is_open = False
        self._txn.abort()
        self._environment.snapshots -= 1
        if self._environment.is_retired and not self._environment.snapshots:
            self._environment.close()
