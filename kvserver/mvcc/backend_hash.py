"""The hash of a member's whole backend (spec/kv.md X6): every table but raft's bookkeeping.

Its value says nothing to other implementations; two members of ours with equal state agree.
"""

from __future__ import annotations

from collections.abc import Iterator

from crc32c import crc32c

from kvserver.mvcc.backend.api import Backend, Pair
from kvserver.mvcc.backend.tables import CONF_STATE, CONSISTENT_INDEX, META, TABLES, TERM

_BOOKKEEPING = frozenset((CONSISTENT_INDEX, TERM, CONF_STATE))


class BackendHash:
    """One hash in slices of at most a thousand records, over a view that stands still."""

    def __init__(self, backend: Backend) -> None:
        self._snapshot = backend.open_snapshot()
        self._slices = self._each_slice()
        self._hash = 0

    def _each_slice(self) -> Iterator[tuple[str, list[Pair]]]:
        for table in sorted(TABLES):
            yield table, [(table.encode(), b"")]
            for pairs in self._snapshot.items(table):
                yield table, pairs

    def step(self) -> bool:
        found = next(self._slices, None)
        if found is None:
            self._snapshot.close()
            return True
        table, pairs = found
        parts = [
            part
            for key, value in pairs
            if table != META or key not in _BOOKKEEPING
            for part in (key, value)
        ]
        self._hash = crc32c(b"".join(parts), self._hash)
        return False

    def result(self) -> int:
        return self._hash

    def close(self) -> None:
        self._snapshot.close()
