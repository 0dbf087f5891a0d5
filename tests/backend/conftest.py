"""Both backends behind one face: every rule of `api.Backend` is tested on the fake and on LMDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from kvserver.mvcc.backend.api import NO_GRANT, Backend
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.memory import MemoryBackend

MAP_SIZE_BYTES = 64 * 1024 * 1024


class Subject(Protocol):
    """A backend that can be stopped and started."""

    backend: Backend

    def crash(self) -> None:
        """Lose what is not durable, start again."""


class MemorySubject:
    def __init__(self) -> None:
        self._memory = MemoryBackend()
        self.backend: Backend = self._memory

    def crash(self) -> None:
        self._memory = self._memory.after_crash()
        self.backend = self._memory


class LmdbSubject:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.backend: Backend = LmdbBackend(self.path, MAP_SIZE_BYTES)

    def crash(self) -> None:
        self.backend.close()
        self.backend = LmdbBackend(self.path, MAP_SIZE_BYTES)


@pytest.fixture(params=["memory", "lmdb"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made = MemorySubject() if request.param == "memory" else LmdbSubject(tmp_path / "db")
    yield made
    made.backend.close()


@pytest.fixture
def open_lmdb(tmp_path: Path) -> Iterator[Callable[..., LmdbBackend]]:
    """Opens backends at `tmp_path / "db"` and closes those that are left."""
    opened: list[LmdbBackend] = []

    def open_one(map_size_bytes: int = MAP_SIZE_BYTES) -> LmdbBackend:
        opened.append(LmdbBackend(str(tmp_path / "db"), map_size_bytes))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


def revision_key(main: int, sub: int = 0, tombstone: bool = False) -> bytes:
    return main.to_bytes(8) + b"_" + sub.to_bytes(8) + (b"t" if tombstone else b"")


def flush(backend: Backend) -> int:
    """A whole flush on one thread; the durable index afterwards."""
    job = backend.begin_flush()
    assert job is not None
    job.run(NO_GRANT)
    return backend.finish_flush(job)


def fill(backend: Backend, first: int, last: int, size_bytes: int = 100) -> None:
    """One record for each revision from first to last; the revision is the consistent index."""
    for main in range(first, last + 1):
        backend.append(revision_key(main), main.to_bytes(8) + bytes(size_bytes))
        backend.commit_marks(main, 1, b"")
