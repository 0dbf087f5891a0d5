"""The loop's side of the log: what to write, where, and when a segment ends.

The encoder owns the offsets, the CRC chain and the decision to cut; it never touches a file. Each
call makes one `AppendBatch`, and batches are written in the order they were made. So a new batch
may be made while earlier ones still wait for the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kvserver.raft.codec import encode_hard_state
from kvserver.raft.types import ConfState, Entry, HardState
from kvserver.wal.frame import RecordType, encode_entries, encode_record
from kvserver.wal.payload import SnapshotRecord, encode_snapshot_record
from kvserver.wal.segment import SegmentName

_NO_STATE = HardState()


@dataclass(frozen=True, slots=True)
class Cut:
    """The next segment: its name and the records it begins with."""

    name: SegmentName
    head: bytes


class AppendBatch(NamedTuple):
    """Bytes for one place of the current segment, and the cut that follows them, if any."""

    data: bytes
    offset: int
    must_sync: bool
    cut: Cut | None = None
    is_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log goes on: everything a new encoder has to know."""

    sequence: int
    offset: int
    crc: int
    last_index: int
    metadata: bytes
    hard_state: HardState


class WalEncoder:
    """Owner: the loop."""

    def __init__(self, position: Position, segment_bytes: int) -> None:
        self._sequence = position.sequence
        self._offset = position.offset
        self._crc = position.crc
        self._last_index = position.last_index
        self._metadata = position.metadata
        self._hard_state = position.hard_state
        self._segment_bytes = segment_bytes

    def encode(
        self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool
    ) -> AppendBatch:
        """Entries first, then the hard state, as one piece of bytes (spec/storage.md §2.3)."""
        out: list[bytes] = []
        if entries:
            self._crc = encode_entries(entries, self._crc, out)
            self._last_index = entries[-1][0]
        if hard_state is not None and hard_state != _NO_STATE:
            self._hard_state = hard_state
            frame, self._crc = encode_record(
                RecordType.STATE, encode_hard_state(hard_state), self._crc
            )
            out.append(frame)
        data = b"".join(out)
        offset = self._offset
        self._offset = offset + len(data)
        if self._offset < self._segment_bytes:
            return AppendBatch(data, offset, must_sync)
        return AppendBatch(data, offset, True, self._cut())

    def encode_snapshot(self, index: int, term: int, conf_state: ConfState | None) -> AppendBatch:
        """The record that vouches for a snapshot file. Always synced, never cuts."""
        record = encode_snapshot_record(SnapshotRecord(index, term, conf_state))
        frame, self._crc = encode_record(RecordType.SNAPSHOT, record, self._crc)
        self._last_index = max(self._last_index, index)
        batch = AppendBatch(frame, self._offset, True, None, is_snapshot=True)
        self._offset += len(frame)
        return batch

    @property
    def last_index(self) -> int:
        """The last index encoded; entries after it go on from here."""
        return self._last_index

    def _cut(self) -> Cut:
        self._sequence += 1
        head, self._crc = segment_head(self._crc, self._metadata)
        if self._hard_state != _NO_STATE:
            frame, self._crc = encode_record(
                RecordType.STATE, encode_hard_state(self._hard_state), self._crc
            )
            head += frame
        self._offset = len(head)
        return Cut(SegmentName(self._sequence, self._last_index + 1), head)


def segment_head(crc: int, metadata: bytes) -> tuple[bytes, int]:
    """How every segment begins: the chain's value so far, then whose log it is."""
    first, crc = encode_record(RecordType.CRC, b"", crc)
    second, crc = encode_record(RecordType.METADATA, metadata, crc)
    return first + second, crc
