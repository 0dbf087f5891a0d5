"""The LMDB file itself: what is refused, what is repaired, how its sizes move."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import NO_GRANT, Defragmented, Pair
from kvserver.mvcc.backend.environment import Environment
from kvserver.mvcc.backend.flush import FlushJob, record_slices, slices
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import TABLES
from kvserver.mvcc.backend.write_buffer import WriteBuffer
from tests.backend.conftest import MAP_SIZE_BYTES, fill, flush, revision_key

Open = Callable[..., LmdbBackend]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """A disk that is full: writes beyond this offset fail."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def defragment(backend: LmdbBackend) -> Defragmented:
    job = backend.begin_defragment()
    assert job is not None
    job.run(NO_GRANT)
    result, close_old = backend.finish_defragment(job)
    close_old.run(NO_GRANT)
    return result


def test_the_file_is_private(open_lmdb: Open, tmp_path: Path) -> None:
    """Spec/storage.md §1: db 0600, whatever the umask."""
    old = os.umask(0)
    try:
        open_lmdb()
    finally:
        os.umask(old)
    for name in ("db", "db-lock"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_an_existing_readable_file_is_made_private(open_lmdb: Open, tmp_path: Path) -> None:
    open_lmdb().close()
    os.chmod(tmp_path / "db", 0o644)
    open_lmdb()
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o600


def test_leftovers_of_a_defragmentation_are_removed(open_lmdb: Open, tmp_path: Path) -> None:
    """Spec/storage.md §8 case 14."""
    for name in ("db.tmp.123", "db.tmp.123-lock", "other.tmp.1"):
        (tmp_path / name).write_bytes(b"left over")
    backend = open_lmdb()
    assert sorted(os.listdir(tmp_path)) == ["db", "db-lock", "other.tmp.1"]
    names = [os.path.basename(path) for path in backend.removed_temporaries]
    assert names == ["db.tmp.123", "db.tmp.123-lock"]


@pytest.mark.parametrize(
    "contents",
    [b"garbage", b"garbage" * 10_000, bytes(65536), b"\0" * 16 + b"\xed\xda\x0c\xed" + bytes(8192)],
    ids=["short", "long", "zeroes", "bbolt magic"],
)
def test_a_foreign_file_is_refused(open_lmdb: Open, tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "db").write_bytes(contents)
    with pytest.raises(FatalError, match=r"no backend file of this program.*[Rr]estore"):
        open_lmdb()
    assert (tmp_path / "db").read_bytes() == contents


def opened_rows(path: Path) -> list[Pair] | None:
    """What a start finds in the key table, or None when it refuses the file."""
    try:
        backend = LmdbBackend(str(path), MAP_SIZE_BYTES)
    except FatalError as error:
        assert "damaged" in str(error) and "Restore this member" in str(error)
        return None
    rows = [pair for piece in backend.scan_all() for pair in piece]
    backend.close()
    return rows


def test_a_file_without_its_tail_is_refused_or_whole(open_lmdb: Open, tmp_path: Path) -> None:
    """At every length: never served in part, and never dying of a signal at the first read. LMDB
    need not write pages at the end that a transaction took and gave back, so that a short file
    may be sound."""
    backend = open_lmdb()
    fill(backend, 1, 3000)
    flush(backend)
    backend.remove_revisions([revision_key(main) for main in range(1, 2900)])
    flush(backend)
    for _ in range(3):  # roots into freed pages far from the end, records stay at the end
        backend.put("lease", b"k", b"v")
        flush(backend)
    expected = [pair for piece in backend.scan_all() for pair in piece]
    backend.close()
    whole = (tmp_path / "db").read_bytes()
    verdicts = []
    for pages in range(3, len(whole) // 4096 + 1):
        trial = tmp_path / "trial"
        trial.write_bytes(whole[: pages * 4096])
        rows = opened_rows(trial)
        assert rows is None or rows == expected, pages
        verdicts.append(rows is not None)
        if rows is not None:
            assert trial.stat().st_size == len(whole)
    first_whole = verdicts.index(True)
    assert 0 < first_whole < len(verdicts) - 1
    assert all(verdicts[first_whole:])


def test_a_full_map_is_fatal_and_says_what_to_do(open_lmdb: Open) -> None:
    backend = open_lmdb(map_size_bytes=1024 * 1024)
    fill(backend, 1, 20_000)
    job = backend.begin_flush()
    assert job is not None
    with pytest.raises(FatalError, match=r"map is full.*--quota-backend-bytes"):
        job.run(NO_GRANT)
    backend.close()
    again = open_lmdb()
    assert again.durable_index == 0 and again.scan(b"", b"\xff", 1) == []


def test_a_full_disk_is_fatal_and_leaves_the_last_flush(open_lmdb: Open, tmp_path: Path) -> None:
    """Spec/storage.md §8 case 25."""
    backend = open_lmdb()
    fill(backend, 1, 10)
    flush(backend)
    fill(backend, 11, 20_000)
    job = backend.begin_flush()
    assert job is not None
    with file_size_limit(1024 * 1024), pytest.raises(FatalError, match="the disk's space"):
        job.run(NO_GRANT)
    backend.close()
    again = open_lmdb()
    assert again.durable_index == 10
    assert len(again.scan(b"", b"\xff", 100)) == 10


def test_a_file_that_is_ahead_of_its_log_is_fatal(open_lmdb: Open, tmp_path: Path) -> None:
    """LMDB would skip such a record in silence."""
    backend = open_lmdb()
    fill(backend, 5, 5)
    flush(backend)
    backend.close()
    environment = Environment(str(tmp_path / "db"), MAP_SIZE_BYTES)
    buffer = WriteBuffer()
    buffer.records[revision_key(4)] = b"record"
    with pytest.raises(FatalError, match="do not belong together"):
        FlushJob(environment, buffer).run(NO_GRANT)
    environment.close()


def test_sizes_follow_flush_removal_and_defragmentation(open_lmdb: Open, tmp_path: Path) -> None:
    """Spec/storage.md §4.4 and §8 case 19: in use shrinks with a compaction, the file with a
    defragmentation, to what was in use."""
    backend = open_lmdb()
    fill(backend, 1, 20_000)
    assert backend.size_bytes < 100_000
    flush(backend)
    full = backend.size_bytes
    assert full >= 20_000 * 125 and full == (tmp_path / "db").stat().st_size
    assert full * 0.95 < backend.size_in_use_bytes <= full
    backend.remove_revisions([revision_key(main) for main in range(1, 18_001)])
    flush(backend)
    assert backend.size_bytes >= full
    assert backend.size_in_use_bytes < full * 0.2
    in_use, allocated = backend.size_in_use_bytes, backend.size_bytes
    result = defragment(backend)
    assert result == Defragmented(allocated, backend.size_bytes)
    assert backend.size_bytes == backend.size_in_use_bytes == in_use
    assert (tmp_path / "db").stat().st_size == backend.size_bytes
    assert sorted(os.listdir(tmp_path)) == ["db", "db-lock"]
    backend.close()
    again = open_lmdb()
    assert (again.size_bytes, again.size_in_use_bytes) == (in_use, in_use)


def test_freed_pages_are_used_again(open_lmdb: Open) -> None:
    """No read transaction stays behind: a store that is compacted as it is written stops
    growing (spec/storage.md §4.2)."""
    backend = open_lmdb()
    sizes = []
    for turn in range(60):
        fill(backend, turn * 100 + 1, turn * 100 + 100, size_bytes=1000)
        old = range((turn - 2) * 100 + 1, (turn - 1) * 100 + 1)
        backend.remove_revisions([revision_key(main) for main in old if main > 0])
        flush(backend)
        sizes.append(backend.size_bytes)
    assert sizes[-1] <= sizes[10] * 1.1


def test_a_snapshot_pins_pages_until_it_is_closed(open_lmdb: Open) -> None:
    backend = open_lmdb()
    for main in range(1, 10):
        fill(backend, main, main)
        flush(backend)
    before = backend.size_bytes
    snapshot = backend.open_snapshot()
    for main in range(10, 40):
        fill(backend, main, main)
        flush(backend)
    pinned = backend.size_bytes
    assert pinned > before
    snapshot.close()
    for main in range(40, 70):
        fill(backend, main, main)
        flush(backend)
    assert backend.size_bytes == pinned


def test_the_old_file_is_let_go(open_lmdb: Open, tmp_path: Path) -> None:
    """At once, or when the last snapshot of it is closed: its space is the disk's again."""
    backend = open_lmdb()
    fill(backend, 1, 10)
    flush(backend)
    assert not defragment(backend).failure
    assert deleted_files(tmp_path) == []
    snapshots = [backend.open_snapshot(), backend.open_snapshot()]
    assert not defragment(backend).failure
    assert deleted_files(tmp_path) != []
    snapshots[0].close()
    assert deleted_files(tmp_path) != []
    snapshots[1].close()
    assert deleted_files(tmp_path) == []


def deleted_files(directory: Path) -> list[str]:
    """Files of this directory that the process holds although they have no name any more."""
    targets = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [t for t in targets if t.startswith(str(directory)) and t.endswith("(deleted)")]


def test_a_defragmentation_without_space_keeps_the_old_file(
    open_lmdb: Open, tmp_path: Path
) -> None:
    backend = open_lmdb()
    fill(backend, 1, 10_000)
    flush(backend)
    job = backend.begin_defragment()
    assert job is not None
    with file_size_limit(256 * 1024):
        job.run(NO_GRANT)
    result, close_old = backend.finish_defragment(job)
    close_old.run(NO_GRANT)
    assert result.failure
    assert result.size_bytes_after == result.size_bytes_before == backend.size_bytes
    assert sorted(os.listdir(tmp_path)) == ["db", "db-lock"]
    fill(backend, 10_001, 10_001)
    assert flush(backend) == 10_001
    assert not defragment(backend).failure


def test_defragmentations_and_flushes_in_turn(open_lmdb: Open) -> None:
    backend = open_lmdb()
    for turn in range(5):
        fill(backend, turn * 10 + 1, turn * 10 + 10)
        flush(backend)
        assert not defragment(backend).failure
    assert len(backend.scan(b"", b"\xff", 1000)) == 50
    backend.close()
    assert open_lmdb().durable_index == 50


def test_every_table_is_in_the_file(open_lmdb: Open, tmp_path: Path) -> None:
    """Spec/storage.md §4.1."""
    open_lmdb().close()
    environment = Environment(str(tmp_path / "db"), MAP_SIZE_BYTES)
    with environment.begin_read() as txn:
        names = {key.decode() for key, _ in txn.cursor(environment.lmdb.open_db(None, txn=txn))}
    environment.close()
    assert names == set(TABLES)
    assert {"key", "meta", "lease", "alarm", "auth", "authUsers", "authRoles"} < names
    assert {"members", "members_removed", "cluster"} < names


def test_slices_are_bounded_in_records_and_bytes() -> None:
    assert [len(piece) for piece in slices(range(2500))] == [1000, 1000, 500]
    small = [(b"k", b"v")] * 1500
    assert [len(piece) for piece in record_slices(small)] == [1000, 500]
    large = [(b"k", bytes(400 * 1024))] * 7
    assert [len(piece) for piece in record_slices(large)] == [3, 3, 1]
    mixed = [(b"1", b""), (b"2", bytes(2**20)), (b"3", b""), (b"4", bytes(2**20))]
    assert list(record_slices(mixed)) == [mixed[:2], mixed[2:]]
