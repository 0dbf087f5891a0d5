"""The data directory (spec/storage.md §1, §6, §8 cases 1, 13, 14; verification: lessons)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvserver.datadir import (
    FORMAT,
    DataDir,
    DataDirError,
    DataDirLock,
    DataDirLocked,
    prepare,
)
from kvserver.fs import RealFileSystem
from kvserver.logs import Logger

FS = RealFileSystem()


class Lines:
    def __init__(self) -> None:
        self.text = ""

    def write(self, line: str) -> None:
        self.text += line

    def close(self) -> None:
        pass


@pytest.fixture
def layout(tmp_path: Path) -> DataDir:
    return DataDir.at(str(tmp_path / "deep" / "default.etcd"))


@pytest.fixture
def held(layout: DataDir) -> Iterator[DataDirLock]:
    lock = prepare(FS, layout)
    yield lock
    lock.release()


def again(layout: DataDir) -> str:
    """Prepare once more, let go, and give what was logged."""
    lines = Lines()
    prepare(FS, layout, Logger((lines,))).release()
    return lines.text


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def test_a_fresh_directory_is_private(layout: DataDir) -> None:
    before = os.umask(0)
    try:
        prepare(FS, layout).release()
    finally:
        os.umask(before)
    assert [mode(path) for path in (layout.root, layout.member, layout.snap)] == [0o700] * 3
    assert mode(os.path.join(layout.member, "keydeck.format")) == 0o600
    assert os.listdir(layout.root) == ["member"]
    assert not os.path.exists(layout.wal), "the log is made whole by Wal.create"
    assert layout.database.endswith("/member/snap/db")


def test_wal_dir_replaces_the_logs_place(tmp_path: Path) -> None:
    layout = DataDir.at(str(tmp_path / "d"), str(tmp_path / "fast" / "wal"))
    prepare(FS, layout).release()
    assert layout.wal == str(tmp_path / "fast" / "wal")
    assert mode(str(tmp_path / "fast")) == 0o700


def test_an_existing_directory_is_closed_to_others(layout: DataDir) -> None:
    again(layout)
    database = Path(layout.database)
    database.write_bytes(bytes(64))
    os.mkdir(layout.wal)
    for path in (layout.root, layout.member, layout.snap, layout.wal):
        os.chmod(path, 0o755)
    database.chmod(0o644)
    text = again(layout)
    assert "closed a path to other users" in text
    assert mode(layout.root) == mode(layout.wal) == mode(layout.snap) == 0o700
    assert mode(layout.database) == 0o600


def test_a_second_server_is_told_who_is_there(layout: DataDir, held: DataDirLock) -> None:
    """Case 13."""
    with pytest.raises(DataDirLocked, match=rf"in use by another server \(pid {os.getpid()}\)"):
        prepare(FS, layout)


def test_the_lock_goes_with_its_holder(layout: DataDir, held: DataDirLock) -> None:
    held.release()
    lock = prepare(FS, layout)
    with pytest.raises(DataDirLocked):
        prepare(FS, layout)
    lock.release()
    # The fixture lets go once more: give it something to let go of.
    held._handle = os.open(os.devnull, os.O_RDONLY)


def test_leftovers_are_removed(layout: DataDir) -> None:
    """Case 14, and a log that was only half made."""
    again(layout)
    Path(layout.member, "keydeck.format.tmp").touch()
    for name in ("db.tmp.123", "tmp123", "0000000000000005.snap.db", "db"):
        Path(layout.snap, name).touch()
    Path(layout.wal + ".tmp").mkdir()
    Path(layout.wal + ".tmp", "0000000000000000-0000000000000000.wal").touch()
    again(layout)
    assert sorted(os.listdir(layout.snap)) == ["0000000000000005.snap.db", "db"]
    assert not os.path.exists(layout.wal + ".tmp")


def test_foreign_names_are_reported_and_left_alone(layout: DataDir) -> None:
    again(layout)
    Path(layout.root, "lost+found").mkdir()
    text = again(layout)
    assert "found invalid file under data directory" in text
    assert "lost+found" in text
    Path(layout.root, "proxy").mkdir()
    with pytest.raises(DataDirError, match="both member and proxy directories exist"):
        again(layout)


def test_etcds_directory_is_refused_with_what_to_do(layout: DataDir) -> None:
    again(layout)
    os.unlink(os.path.join(layout.member, "keydeck.format"))
    page = bytes(16) + (0xED0CDAED).to_bytes(4, "little") + bytes(4076)
    Path(layout.database).write_bytes(page)
    with pytest.raises(DataDirError, match=r"written by etcd.*kvutl snapshot restore"):
        again(layout)
    assert Path(layout.database).read_bytes() == page


def test_data_without_a_format_number_is_refused(layout: DataDir) -> None:
    again(layout)
    os.unlink(os.path.join(layout.member, "keydeck.format"))
    Path(layout.database).write_bytes(bytes(100))
    with pytest.raises(DataDirError, match="is missing beside it"):
        again(layout)
    os.unlink(layout.database)
    os.mkdir(layout.wal)
    Path(layout.wal, "0000000000000000-0000000000000000.wal").touch()
    with pytest.raises(DataDirError, match="belongs to no Keydeck data directory"):
        again(layout)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(str(FORMAT + 1), "Start it with the newer Keydeck"), ("abc", "should hold a format number")],
)
def test_another_format_is_refused(layout: DataDir, text: str, reason: str) -> None:
    again(layout)
    Path(layout.member, "keydeck.format").write_text(text)
    with pytest.raises(DataDirError, match=reason):
        again(layout)
    Path(layout.member, "keydeck.format").write_text(f"{FORMAT}\n")
    again(layout)


def test_a_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(DataDirError, match="cannot access data directory"):
        prepare(FS, DataDir.at(str(blocker / "data")))
