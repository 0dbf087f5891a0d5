"""Kill -9 at and around every moment of a flush and of a defragmentation (spec/storage.md §5).

After each death: the file opens, its consistent index is one that a flush really had, nothing that
was reported durable is missing, and the contents are exactly the effects of the entries up to it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvserver.mvcc.backend.lmdb import LmdbBackend
from tests.backend.conftest import MAP_SIZE_BYTES
from tests.backend.crash_child import ENTRIES_PER_FLUSH, KEPT_RECORDS

ROOT = Path(__file__).parents[2]


class Child:
    """One life of the writing process; `durable` is the last index it vouched for."""

    def __init__(self, path: Path, first: int, failpoint: str = "") -> None:
        command = [sys.executable, "-m", "tests.backend.crash_child", str(path), str(first)]
        self.durable = first - 1
        self._process = subprocess.Popen(
            [*command, *filter(None, [failpoint])], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def read(self, lines: int) -> None:
        """So many lines, or to the end."""
        assert self._process.stdout is not None
        for _ in range(lines):
            line = self._process.stdout.readline()
            if not line:
                return
            self.durable = max(self.durable, int(line.split()[1]))

    def kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """Everything that it still said counts: it was said before it died."""
        self.read(10**6)
        assert self._process.wait(timeout=30) == -signal.SIGKILL
        assert self._process.stdout is not None
        self._process.stdout.close()


def check(path: Path, at_least: int) -> int:
    """The invariants of a file after a death; its consistent index."""
    backend = LmdbBackend(str(path), MAP_SIZE_BYTES)
    index = backend.durable_index
    assert index >= at_least
    assert index % ENTRIES_PER_FLUSH == 0
    records = [pair for piece in backend.scan_all() for pair in piece]
    expected = range(max(1, index - KEPT_RECORDS + 1), index + 1)
    assert [record[:8] for _, record in records] == [each.to_bytes(8) for each in expected]
    assert backend.get_from("lease", b"last") == (index.to_bytes(8) if index else None)
    assert (os.stat(path).st_mode & 0o777) == 0o600
    backend.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["db", "db-lock"]
    return index


@pytest.mark.parametrize(
    ("failpoint", "index", "has_copy"),
    [
        ("beforeCommit", 14, False),
        ("afterCommit", 21, False),
        ("defragBeforeCopy", 35, False),
        ("defragBeforeRename", 35, True),
    ],
)
def test_death_at_a_failpoint(tmp_path: Path, failpoint: str, index: int, has_copy: bool) -> None:
    path = tmp_path / "db"
    child = Child(path, 1, failpoint)
    child.bury()
    assert any(".tmp." in each.name for each in tmp_path.iterdir()) == has_copy
    assert check(path, child.durable) == index


def test_death_at_any_moment_again_and_again(tmp_path: Path) -> None:
    """Spec/storage.md §8 case 8, for the backend alone: each life goes on where the last ended."""
    path = tmp_path / "db"
    moments = random.Random(8)
    index = 0
    for _ in range(8):
        child = Child(path, index + 1)
        child.read(1 + moments.randrange(40))
        child.kill()
        child.bury()
        index = check(path, child.durable)
    assert index > 0


@pytest.mark.parametrize("renamed", ["neither", "data", "both"])
def test_death_between_the_renames(tmp_path: Path, renamed: str) -> None:
    """The lock file follows the data file; with either half done the next start is sound."""
    path = tmp_path / "db"
    child = Child(path, 1, "defragBeforeRename")
    child.bury()
    if renamed != "neither":
        os.rename(tmp_path / "db.tmp.1", path)
    if renamed == "both":
        os.rename(tmp_path / "db.tmp.1-lock", tmp_path / "db-lock")
    assert check(path, child.durable) == 35
