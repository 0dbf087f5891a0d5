"""The operating system's files keep the promises of `FileSystem`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvserver.fs import RealFileSystem

FS = RealFileSystem()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "file")


@pytest.mark.parametrize("sync", [True, False])
def test_bytes_land_where_they_should(path: str, sync: bool) -> None:
    handle = FS.create(path)
    FS.allocate(handle, 4096)
    FS.write(handle, b"hello", 100, sync=sync)
    FS.sync(handle)
    assert FS.size(handle) == 4096
    FS.allocate(handle, 10)
    assert FS.size(handle) == 4096, "allocate never shrinks"
    FS.truncate(handle, 103)
    FS.close(handle)
    assert FS.read_file(path) == bytes(100) + b"hel"
    assert FS.read_file(path, 2) == b"\0\0"


def test_a_short_write_is_finished(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def three_bytes(handle: int, buffers: object, offset: int, flags: int) -> int:
        (data,) = buffers  # type: ignore[misc]
        return real(handle, [bytes(data)[:3]], offset, flags)

    monkeypatch.setattr(os, "pwritev", three_bytes)
    handle = FS.create(path)
    FS.write(handle, b"0123456789", 5, sync=True)
    FS.close(handle)
    assert FS.read_file(path) == bytes(5) + b"0123456789"


def test_new_files_are_private_and_new(path: str) -> None:
    before = os.umask(0)
    try:
        FS.close(FS.create(path))
    finally:
        os.umask(before)
    assert FS.mode(path) == 0o600
    with pytest.raises(FileExistsError):
        FS.create(path)
    FS.set_mode(path, 0o640)
    assert FS.mode(path) == 0o640


def test_locks_exclude_handles_and_processes(path: str) -> None:
    first = FS.create(path)
    assert FS.lock(first)
    assert FS.lock(first), "again through the same handle"
    second = FS.open(path)
    assert not FS.lock(second)
    script = (
        f"from kvserver.fs import RealFileSystem as F; f = F(); print(f.lock(f.open({path!r})))"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, timeout=60).stdout == b"False\n"
    FS.close(first)
    assert FS.lock(second)
    FS.close(second)


def test_names(tmp_path: Path) -> None:
    directory = str(tmp_path / "d")
    FS.make_dir(directory)
    assert FS.mode(directory) == 0o700
    handle = FS.create(directory + "/b")
    FS.close(handle)
    FS.close(FS.create(directory + "/a"))
    FS.rename(directory + "/b", directory + "/c")
    FS.sync_dir(directory)
    assert FS.listdir(directory) == ["a", "c"]
    FS.unlink(directory + "/a")
    assert not FS.exists(directory + "/a")
    assert FS.is_dir(directory)
    assert not FS.is_dir(directory + "/c")
    FS.remove_tree(directory)
    assert not FS.exists(directory)


def test_without_syncs_nothing_is_synced(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--unsafe-no-fsync."""

    def never(*_: object) -> None:
        raise AssertionError("synced")

    monkeypatch.setattr(os, "fsync", never)
    flags: list[int] = []
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda h, b, o, f: flags.append(f) or real(h, b, o, f))
    fs = RealFileSystem(syncs=False)
    handle = fs.create(path)
    fs.write(handle, b"x", 0, sync=True)
    fs.sync(handle)
    fs.sync_dir(os.path.dirname(path))
    fs.close(handle)
    assert flags == [0]
    with pytest.raises(AssertionError, match="synced"):
        FS.sync_dir(os.path.dirname(path))
