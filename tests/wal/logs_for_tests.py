"""Small logs for tests: made quickly, on a simulated disk, with segments of a few kilobytes."""

from __future__ import annotations

from kvserver.raft.types import Entry, EntryType, HardState
from kvserver.wal import Wal, WalMetadata, encode_metadata
from tests.support.sim_fs import SimFs

DIRECTORY = "/member/wal"
METADATA = encode_metadata(WalMetadata(11, 22))
SEGMENT_BYTES = 4096


def disk(**faults: int) -> SimFs:
    fs = SimFs()
    fs.make_dir("/member")
    fs.calls = 0
    for name, value in faults.items():
        setattr(fs, name, value)
    return fs


def entry(index: int, term: int = 1, size: int = 100) -> Entry:
    # Random-looking and without zero bytes, so that a lost sector can be told from content.
    return Entry(
        index, term, EntryType.NORMAL, bytes((index * 7 + i) % 255 + 1 for i in range(size))
    )


def entries(first: int, last: int, term: int = 1, size: int = 100) -> list[Entry]:
    return [entry(index, term, size) for index in range(first, last + 1)]


def create(fs: SimFs) -> Wal:
    return Wal.create(fs, DIRECTORY, METADATA, segment_bytes=SEGMENT_BYTES)


def open_at(fs: SimFs, at: tuple[int, int] = (0, 0)) -> Wal:
    return Wal.open(fs, DIRECTORY, at, segment_bytes=SEGMENT_BYTES)


def written(count: int, size: int = 100) -> tuple[SimFs, list[Entry]]:
    """A closed log of `count` entries, one write each."""
    fs = disk()
    wal = create(fs)
    all_entries = entries(1, count, size=size)
    for each in all_entries:
        wal.save(HardState(1, 11, each.index - 1), [each])
    wal.close()
    return fs, all_entries


def segments(fs: SimFs) -> list[str]:
    return [name for name in fs.listdir(DIRECTORY) if name.endswith(".wal")]


def patch(fs: SimFs, name: str, offset: int, data: bytes) -> None:
    """Change bytes on the medium."""
    handle = fs.open(f"{DIRECTORY}/{name}")
    fs.write(handle, data, offset, sync=True)
    fs.close(handle)


def content(fs: SimFs, name: str) -> bytes:
    return fs.read_file(f"{DIRECTORY}/{name}")
