"""Another complete file takes the backend's place (spec/peer.md §4.2, §9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvserver.errors import FatalError
from kvserver.limits import BACKEND_MAP_BYTES_MIN
from kvserver.mvcc.backend.api import NO_GRANT
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.revision import revision_key


def filled(path: Path, mains: range, index: int) -> LmdbBackend:
    backend = LmdbBackend(str(path), BACKEND_MAP_BYTES_MIN)
    for main in mains:
        backend.append(revision_key(main, 0), b"r%d" % main)
    backend.put("lease", b"l%d" % index, b"x")
    backend.commit_marks(index, 3, b"{}")
    flush(backend)
    return backend


def flush(backend: LmdbBackend) -> None:
    job = backend.begin_flush()
    assert job is not None
    job.run(NO_GRANT)
    backend.finish_flush(job)


def test_everything_of_the_old_file_is_forgotten(tmp_path: Path) -> None:
    filled(tmp_path / "new", range(10, 20), 99).close()
    backend = filled(tmp_path / "db", range(2, 5), 7)
    backend.append(revision_key(5, 0), b"in the buffer")
    backend.put("lease", b"buffered", b"x")
    view = backend.open_snapshot()
    backend.adopt(str(tmp_path / "new")).run(NO_GRANT)
    assert backend.marks.consistent_index == backend.durable_index == 99
    assert backend.get(revision_key(2, 0)) is None
    assert backend.get(revision_key(5, 0)) is None
    assert backend.get_many([revision_key(10, 0)]) == [b"r10"]
    assert backend.items("lease") == [(b"l99", b"x")]
    assert backend.pending_records == 0
    old = [pair for pairs in view.items("key") for pair in pairs]
    assert old[-1] == (revision_key(5, 0), b"in the buffer"), "an open view stands still"
    view.close()
    backend.append(revision_key(20, 0), b"r20")
    backend.commit_marks(100, 3, b"{}")
    flush(backend)
    backend.close()
    assert not (tmp_path / "new").exists()
    again = LmdbBackend(str(tmp_path / "db"), BACKEND_MAP_BYTES_MIN)
    assert again.marks.consistent_index == 100
    assert again.get(revision_key(20, 0)) == b"r20"
    again.close()


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    backend = filled(tmp_path / "db", range(2, 5), 7)
    with pytest.raises(FatalError, match="is gone"):
        backend.adopt(str(tmp_path / "new"))
    assert backend.get(revision_key(2, 0)) == b"r2"
    backend.close()
