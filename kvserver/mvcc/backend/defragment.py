"""Rewriting the file without its free pages, beside running reads and writes (design D8).

In the flush thread: a compact copy (one C call without the GIL), synced, opened, renamed over the
old file, the directory synced. Meanwhile reads go to the old file and writes gather in the active
buffer; no flush can be under way, because jobs run one at a time. Then, on the loop, the swap; and
in the flush thread again the old file is unmapped, which takes milliseconds when it is large.

A crash before the rename leaves the old file and a copy that the next start deletes; after it, the
new file, which has the same contents. Either way `consistent_index` is that of the contents.
"""

from __future__ import annotations

import os

import lmdb

from kvserver import failpoints
from kvserver.mvcc.backend.api import Grant
from kvserver.mvcc.backend.environment import (
    Environment,
    create_file,
    discard,
    lmdb_errors,
    rename_over,
    sync_and_close,
    temporary_path,
)


class DefragmentJob:
    """Carries the environment to copy. Afterwards `replacement` is the new one, or `failure` says
    why the old one stays: a disk too full for a copy, or one that refuses it, is no reason to stop
    while nothing relies on the copy yet. From the rename on every error is fatal."""

    def __init__(
        self,
        environment: Environment,
        map_size_bytes: int,
        number: int,
    ) -> None:
        self.environment = environment
        self.replacement: Environment | None = None
        self.size_bytes = 0
        self.size_in_use_bytes = 0
        self.failure = ""
        self._map_size_bytes = map_size_bytes
        self._temporary = temporary_path(environment.path, number)

    def run(self, grant: Grant) -> None:
        failpoints.hit("defragBeforeCopy")
        try:
            self._copy()
        except (lmdb.Error, OSError) as error:
            discard(self._temporary)
            self.failure = str(error)
            return
        with lmdb_errors("the defragmentation failed"):
            # A few dozen small calls: slow without a grant, but the loop never waits for a file.
            replacement = Environment(self._temporary, self._map_size_bytes)
            with replacement.begin_read() as txn:
                self.size_in_use_bytes = replacement.in_use_bytes(txn)
            self.size_bytes = replacement.allocated_bytes()
            failpoints.hit("defragBeforeRename")
            rename_over(self._temporary, self.environment.path)
            replacement.path = self.environment.path
        self.replacement = replacement

    def _copy(self) -> None:
        """Synced, or OSError."""
        descriptor = create_file(self._temporary)
        try:
            self.environment.lmdb.copyfd(descriptor, compact=True)
        except BaseException:
            os.close(descriptor)
            raise
        sync_and_close(descriptor)


class CloseJob:
    """Unmaps a file that nobody reads any more."""

    def __init__(self, environment: Environment | None) -> None:
        self._environment = environment

    def run(self, grant: Grant) -> None:
        if self._environment is not None:
            self._environment.close()
