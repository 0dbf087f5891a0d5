"""A process that writes to a backend until it is killed. Run by test_backend_crashes.

    python -m tests.backend.crash_child <path> <first index> [failpoint]

Entry `i` appends one record, rewrites one row of `lease`, and removes the record of entry `i - 20`;
its consistent index is `i`. A flush follows every 7 entries, a defragmentation every 5 flushes.
`durable <i>` is printed once a flush is finished. The failpoint, if any, is armed after the second
flush: the process dies there as in a power cut.
"""

from __future__ import annotations

import sys

from kvserver import failpoints
from kvserver.mvcc.backend.api import NO_GRANT
from kvserver.mvcc.backend.lmdb import LmdbBackend
from tests.backend.conftest import MAP_SIZE_BYTES, flush, revision_key

KEPT_RECORDS = 20
ENTRIES_PER_FLUSH = 7


def apply_entry(backend: LmdbBackend, index: int) -> None:
    backend.append(revision_key(index), index.to_bytes(8) * 40)
    backend.put("lease", b"last", index.to_bytes(8))
    if index > KEPT_RECORDS:
        backend.remove_revisions([revision_key(index - KEPT_RECORDS)])
    backend.commit_marks(index, 1, b"{}")


def defragment(backend: LmdbBackend) -> None:
    job = backend.begin_defragment()
    assert job is not None
    job.run(NO_GRANT)
    result, close_old = backend.finish_defragment(job)
    close_old.run(NO_GRANT)
    assert not result.failure, result.failure


def main() -> None:
    path, first, *name = sys.argv[1:]
    backend = LmdbBackend(path, MAP_SIZE_BYTES)
    print("open", backend.durable_index, flush=True)
    index = int(first)
    flushes = 0
    while True:
        apply_entry(backend, index)
        if index % ENTRIES_PER_FLUSH == 0:
            print("durable", flush(backend), flush=True)
            flushes += 1
            if name and flushes == 2:
                failpoints.arm(name[0], "panic")
            if flushes % 5 == 0:
                defragment(backend)
        index += 1


if __name__ == "__main__":
    main()
