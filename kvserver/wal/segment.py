"""Segments by name: `<sequence %016x>-<first index %016x>.wal` (spec/storage.md §2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kvserver.fs import FileSystem
from kvserver.wal.errors import WalFileNotFound

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
NEXT_NAMES = ("0.tmp", "1.tmp")
"""What the segment prepared ahead is called, in turn."""


@dataclass(frozen=True, slots=True)
class SegmentName:
    """`first_index` is the index of the first entry that may be in the file."""

    sequence: int
    first_index: int

    def __str__(self) -> str:
        return f"{self.sequence:016x}-{self.first_index:016x}.wal"


def parse_name(name: str) -> SegmentName | None:
    match = _NAME.fullmatch(name)
    return SegmentName(int(match[1], 16), int(match[2], 16)) if match else None


def list_segments(fs: FileSystem, directory: str) -> tuple[list[SegmentName], list[str]]:
    """The segments in order, and the foreign names that are left alone."""
    found: list[SegmentName] = []
    foreign: list[str] = []
    for name in fs.listdir(directory):
        segment = parse_name(name)
        if segment is not None:
            found.append(segment)
        elif name not in NEXT_NAMES and not name.endswith(".wal.broken"):
            foreign.append(name)
    found.sort(key=lambda segment: segment.sequence)
    return found, foreign


def has_segments(fs: FileSystem, directory: str) -> bool:
    """Whether there is a log: a directory without segments counts as none."""
    return fs.is_dir(directory) and bool(list_segments(fs, directory)[0])


def select_from(segments: Sequence[SegmentName], index: int, directory: str) -> list[SegmentName]:
    """The segments to read for the entries after `index`: from the last that may hold it, on."""
    start = _last_at_or_below(segments, index)
    if start is None:
        raise WalFileNotFound(f"no segment in {directory!r} begins at or below index {index}")
    chosen = list(segments[start:])
    for before, after in pairwise(chosen):
        if after.sequence != before.sequence + 1:
            raise WalFileNotFound(f"{directory!r} lacks the segment between {before} and {after}")
    return chosen


def _last_at_or_below(segments: Sequence[SegmentName], index: int) -> int | None:
    for position in range(len(segments) - 1, -1, -1):
        if segments[position].first_index <= index:
            return position
    return None


def releasable(segments: Iterable[SegmentName], index: int) -> int:
    """How many leading segments hold only entries before `index`; the last never counts."""
    names = list(segments)
    for position, name in enumerate(names):
        if name.first_index >= index:
            return max(position - 1, 0)
    return max(len(names) - 1, 0)
