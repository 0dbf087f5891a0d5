"""The backend as the rest of the server sees it. No I/O here: `LmdbBackend` and the fake
`MemoryBackend` both keep these rules, and the same tests run against both.

Threads: the loop owns a `Backend` and calls every method of it. Only `Job.run` runs in the flush
thread, and it touches only what the job carries. A job goes: `begin_…` (loop) -> `run` (flush
thread) -> `finish_…` (loop). One job at a time: while one is under way, `begin_…` returns None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol

Pair = tuple[bytes, bytes]
"""A key and its value, or a revision key and its record."""

Grant = AbstractContextManager[object]
"""`with grant:` around a slice of many small LMDB calls. In the flush thread entering waits for the
loop to hand over, because py-lmdb gives the GIL up around every call and would get it back only
after a millisecond beside a busy loop. It is entered many times."""

NO_GRANT: Final[Grant] = nullcontext()
"""For callers that have no loop beside them: tests, tools, start and shutdown."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How far the state has come: written in the same transaction as the effects it vouches for."""

    consistent_index: int = 0
    term: int = 0
    conf_state: bytes = b""
    """etcd's JSON of the raft ConfState; empty until the first configuration is applied."""


@dataclass(frozen=True, slots=True)
class Defragmented:
    """What a defragmentation did. `failure` is empty, or why the old file was kept."""

    size_bytes_before: int
    size_bytes_after: int
    failure: str = ""


class Job(Protocol):
    """Work for the flush thread."""

    def run(self, grant: Grant) -> None:
        """Do it. Raises FatalError when the member cannot go on."""


class Snapshot(Protocol):
    """A view that stands still while the backend moves on. Close it soon: it pins pages."""

    @property
    def marks(self) -> Marks: ...

    def items(self, table: str) -> Iterator[list[Pair]]:
        """The whole table, ascending, in slices of about a thousand pairs or a megabyte."""

    def close(self) -> None: ...


class Backend(Protocol):
    """The tables of one member."""

    # Records of the key table

    def append(self, revision_key: bytes, record: bytes) -> None:
        """Add a record. Keys strictly ascend over the backend's whole life."""

    def get(self, revision_key: bytes) -> bytes | None: ...

    def get_many(self, revision_keys: Sequence[bytes]) -> list[bytes]:
        """The records of these keys, in their order. A missing one is a FatalError: the index
        promised that it is there."""

    def scan(self, first: bytes, last: bytes, limit: int) -> list[Pair]:
        """At most `limit` records with first <= key < last, ascending."""

    def scan_all(self) -> Iterator[list[Pair]]:
        """Every record, ascending, in large slices: for the rebuild of the index at start.
        The backend must not change in between."""

    def remove_revisions(self, revision_keys: Sequence[bytes]) -> None:
        """Drop compacted records. They leave `scan` at once; `get` may still find them until the
        flush that carries the removal is finished, and nobody asks."""

    # Small tables (all but `key`)

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...

    def get_from(self, table: str, key: bytes) -> bytes | None: ...

    def items(self, table: str) -> list[Pair]:
        """The whole small table, ascending."""

    # Durability

    def commit_marks(self, consistent_index: int, term: int, conf_state: bytes) -> None:
        """All changes so far are the effects of entries up to this index. Empty conf_state: as it
        was. The flush writes the newest marks, so call it after each applied entry or batch and
        never between the changes of one entry and a `begin_flush`."""

    @property
    def marks(self) -> Marks:
        """The newest marks, durable or not."""

    @property
    def durable_index(self) -> int:
        """The consistent index that a crash now would leave."""

    @property
    def pending_records(self) -> int:
        """Changes that the next flush would carry (marks alone count as none)."""

    @property
    def pending_bytes(self) -> int:
        """Records that no flush has finished yet. A quota check may add them to `size_bytes`,
        which moves only with a flush."""

    def begin_flush(self) -> Job | None:
        """Swap the active buffer out. None when nothing changed, not even the marks, or when a job
        is under way."""

    def finish_flush(self, job: Job) -> int:
        """After `run`: reads go to the new state. Returns the durable consistent index."""

    def begin_defragment(self) -> Job | None:
        """A job that rewrites the file without its free pages (design D8). Flush first: what is
        in the buffers stays there. Until `finish_defragment`, `begin_flush` returns None."""

    def finish_defragment(self, job: Job) -> tuple[Defragmented, Job]:
        """Swap. The job returned lets go of the old file and must run too, in the flush thread."""

    # Views and sizes

    def open_snapshot(self) -> Snapshot: ...

    @property
    def size_bytes(self) -> int:
        """Allocated: what the quota counts (spec/storage.md §4.4). A plain cached number."""

    @property
    def size_in_use_bytes(self) -> int:
        """Allocated minus free pages: about what a defragmentation would leave."""

    def close(self) -> None:
        """Let go of the file. What was not flushed is lost, as in a crash."""


class FileBackend(Backend, Protocol):
    """A backend in a file, as a member's start and the installing of snapshots see it."""

    @property
    def removed_temporaries(self) -> tuple[str, ...]:
        """What an earlier process left half-made and opening has removed."""

    def adopt(self, path: str) -> Job:
        """Let the complete file at `path` take the place of ours: whatever was here is forgotten,
        the buffers included. No job is under way. Returns the job that closes the old file."""
