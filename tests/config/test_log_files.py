"""Log files: appending, rotation by size, number and age, compression (spec/config.md §6)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kvserver.config import load
from kvserver.log_files import FileSink, Rotation
from tests.config.test_log_lines import NOON, FixedClock

DAY = 86_400.0


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def filled(
    directory: Path, lines: int, rotation: Rotation, *, seconds_apart: float = 1.0
) -> FileSink:
    """A closed sink after so many lines, each of which fills its file."""
    clock = FixedClock(NOON)
    sink = FileSink(str(directory / "etcd.log"), rotation, clock)
    for number in range(lines):
        clock.now += seconds_apart
        sink.write(f"line{number:03}\n")
    sink.close()
    return sink


def test_files_are_appended_to_privately(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("one\n", "two\n"):
        sink = FileSink(str(path))
        sink.write(text)
        sink.close()
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o077 == 0


def test_files_are_rotated_and_the_oldest_removed(tmp_path: Path) -> None:
    filled(tmp_path, 8, Rotation(bytes_max=10, backups_max=2))
    contents = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert contents == ["line005\n", "line006\n", "line007\n"]


def test_without_a_bound_all_are_kept_and_tell_when_they_ended(tmp_path: Path) -> None:
    filled(tmp_path, 3, Rotation(bytes_max=10))
    assert names(tmp_path) == [
        "etcd-2026-01-02T12-04-07.123456.log",
        "etcd-2026-01-02T12-04-08.123456.log",
        "etcd.log",
    ]


def test_local_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        filled(tmp_path, 2, Rotation(bytes_max=10, is_local_time=True))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert names(tmp_path)[0] == "etcd-2026-01-02T15-04-07.123456.log"


def test_old_ones_are_removed_by_age(tmp_path: Path) -> None:
    filled(tmp_path, 6, Rotation(bytes_max=10, days_max=2), seconds_apart=DAY)
    kept = [path.read_text() for path in sorted(tmp_path.glob("etcd-*"))]
    assert kept == ["line002\n", "line003\n", "line004\n"]


def test_other_files_of_the_directory_are_left_alone(tmp_path: Path) -> None:
    for name in ("etcd-old.log", "etcd-2026.log", "other-2020-01-01T00-00-00.000000.log"):
        (tmp_path / name).write_text("keep")
    filled(tmp_path, 4, Rotation(bytes_max=10, backups_max=1, days_max=1))
    assert len(names(tmp_path)) == 3 + 2


def test_rotated_files_are_compressed(tmp_path: Path) -> None:
    sink = filled(tmp_path, 2, Rotation(bytes_max=10, is_compressed=True))
    (packed,) = tmp_path.glob("etcd-*")
    assert packed.name.endswith(".log.gz")
    assert gzip.decompress(packed.read_bytes()) == b"line000\n"
    assert packed.stat().st_mode & 0o077 == 0
    # What a kill has left half packed is packed again, and counts once.
    (tmp_path / "etcd-2026-01-01T00-00-00.000000.log").write_text("left")
    (tmp_path / "etcd-2026-01-01T00-00-00.000000.log.partial").write_text("ha")
    sink = FileSink(str(tmp_path / "etcd.log"), Rotation(bytes_max=10, is_compressed=True))
    sink.write("more than there is room for\n")
    sink.close()
    assert [name for name in names(tmp_path) if not name.endswith(".gz")] == ["etcd.log"]


def test_a_file_that_cannot_be_renamed_grows(tmp_path: Path) -> None:
    path = tmp_path / "there" / "etcd.log"
    path.parent.mkdir()
    sink = FileSink(str(path), Rotation(bytes_max=10), FixedClock(NOON))
    sink.write("line000\n")
    path.unlink()
    path.parent.rmdir()
    for number in range(1, 4):
        sink.write(f"line{number:03}\n")
    sink.close()


def test_the_flags_reach_the_file(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_bytes(b"x" * (1 << 20))
    config = '{"maxsize": 1, "maxage": 3, "maxbackups": 2, "localtime": false, "compress": true}'
    _, log = load(
        [
            "--enable-log-rotation",
            f"--log-outputs={path}",
            f"--log-rotation-config-json={config}",
            f"--data-dir={tmp_path / 'data'}",
        ],
        {},
    )
    log.info("one more line")
    log.close()
    assert b"one more line" in path.read_bytes()
    assert len(list(tmp_path.glob("etcd-*.log.gz"))) == 1
