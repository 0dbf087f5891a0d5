"""Reading the log back: frames, the CRC chain, and what the records add up to.

Two layers. `SegmentReader` turns one segment's bytes into records and judges damage
(spec/storage.md §2.5): *torn* is what a crash can leave at the end of the last segment, anything
else is corruption. `LogReader` folds the records into entries, hard state and snapshots
(spec/storage.md §2.4). Neither opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

from crc32c import crc32c
from google.protobuf.message import DecodeError

from kvserver.limits import SECTOR_BYTES
from kvserver.proto import record_pb2
from kvserver.raft.types import Entry, HardState
from kvserver.wal.errors import (
    RESTORE_ADVICE,
    SnapshotMismatch,
    SnapshotNotFound,
    WalCorrupt,
    WalError,
    WalTorn,
)
from kvserver.wal.frame import FRAME_LENGTH_BYTES, RecordType, split_length
from kvserver.wal.payload import (
    SnapshotRecord,
    decode_hard_state,
    decode_snapshot_record,
    entry_value,
    parse_entry,
)

_LENGTH = Struct("<Q")
_decode_record = record_pb2.Record.FromString


class SegmentReader:
    """The records of one segment. `offset` is the end of the last good record, `crc` the chain."""

    def __init__(self, path: str, image: bytes, crc: int, *, is_last: bool) -> None:
        self.path = path
        self.offset = 0
        self.crc = crc
        self._image = image
        self._is_last = is_last

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(type, data) of each record whose CRC is right; ends at the unwritten part."""
        image, size = self._image, len(self._image)
        while (start := self.offset + FRAME_LENGTH_BYTES) <= size:
            (length,) = _LENGTH.unpack_from(image, self.offset)
            if length == 0:
                break
            record_bytes, padding = split_length(length)
            end = start + record_bytes
            if end + padding > size:
                raise self._overlong(start)
            try:
                record = _decode_record(image[start:end])
            except DecodeError:
                raise self._torn_or("wal: unreadable record", start, end + padding) from None
            kind = record.type
            data = record.data
            if not self.offset and kind != RecordType.CRC:
                raise WalCorrupt("wal: a segment does not begin with its crc", self.path, 0)
            if kind == RecordType.CRC:
                self._join_chain(record.crc)
            else:
                crc = crc32c(data, self.crc)
                if crc != record.crc:
                    raise self._torn_or("walpb: crc mismatch", start, end + padding)
                self.crc = crc
            self.offset = end + padding
            yield kind, data
        if not self.offset:
            raise WalCorrupt("wal: a segment has no head", self.path, 0)
        if size - self.offset < FRAME_LENGTH_BYTES and self.offset < size:
            raise self._torn_or("wal: unexpected EOF", self.offset, size, True)

    def _join_chain(self, crc: int) -> None:
        """A crc record carries the chain over a border; the first one read starts it."""
        if self.crc not in (0, crc):
            raise WalCorrupt("walpb: crc mismatch", self.path, self.offset)
        self.crc = crc

    def _overlong(self, start: int) -> WalError:
        """A length beyond the end: the file was cut short, unless the record proves the length
        wrong by being whole and having successors, which no crash can leave."""
        what = "wal: max entry size limit exceeded"
        end = _whole_record_end(self._image, start, self.crc)
        following = self._image[end : end + FRAME_LENGTH_BYTES] if end is not None else b""
        if following.strip(b"\0"):
            return WalCorrupt(what, self.path, self.offset)
        return self._torn_or(what, start, len(self._image), True)

    def _torn_or(self, what: str, start: int, end: int, cut_off: bool = False) -> WalError:
        if self._is_last and (cut_off or self._has_lost_sector(start, end)):
            return WalTorn(self.path, self.offset)
        return WalCorrupt(what, self.path, self.offset)

    def _has_lost_sector(self, start: int, end: int) -> bool:
        """Whether some sector of the record never reached the disk.

        Split at sector borders, a chunk of the record is all zero. Of the sector that the record
        ends in, what follows must be zero too: the disk would have lost both or neither.
        """
        while start < end:
            border = (start // SECTOR_BYTES + 1) * SECTOR_BYTES
            if not self._image[start:border].strip(b"\0"):
                return True
            start = border
        return False


def _whole_record_end(image: bytes, start: int, crc: int) -> int | None:
    """Where the frame of the record at `start` ends by its own account, if its CRC agrees."""
    position = start
    values = []
    for tag in (0x08, 0x10, 0x1A):  # type, crc, length of data
        if image[position : position + 1] != bytes((tag,)):
            return None
        position += 1
        value = shift = 0
        while (byte := image[position : position + 1]) and shift < 64:
            value |= (byte[0] & 0x7F) << shift
            shift += 7
            position += 1
            if byte[0] < 0x80:
                break
        values.append(value)
    end = position + values[2]
    if end > len(image) or crc32c(image[position:end], crc) != values[1]:
        return None
    return end + (-(end - start) & 7)


@dataclass(slots=True)
class WalContents:
    """What a log says: whose it is, the entries after the snapshot it was read at, and so on."""

    metadata: bytes = b""
    hard_state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    snapshots: list[SnapshotRecord] = field(default_factory=list)


class LogReader:
    """Folds segments, fed in order, into `WalContents`. One use."""

    def __init__(self, at: tuple[int, int]) -> None:
        self.contents = WalContents()
        self.crc = 0
        self.offset = 0
        self.last_index = 0
        self._at_index, self._at_term = at
        self._is_matched = False
        self._has_metadata = False

    def read(self, path: str, image: bytes, *, is_last: bool) -> None:
        segment = SegmentReader(path, image, self.crc, is_last=is_last)
        for kind, data in segment:
            if kind == RecordType.ENTRY:
                self._entry(data, segment)
            else:
                self._other(kind, data, segment)
        self.crc, self.offset = segment.crc, segment.offset

    def finish(self) -> WalContents:
        if not self._is_matched:
            raise SnapshotNotFound(
                f"wal: snapshot not found: no record of index {self._at_index} "
                f"term {self._at_term}. {RESTORE_ADVICE}"
            )
        return self.contents

    def _entry(self, data: bytes, segment: SegmentReader) -> None:
        try:
            message = parse_entry(data)
            index = self.last_index = message.Index
            place = index - self._at_index - 1
            if place < 0:
                # Below the snapshot: most of a segment after a restart. Not made into a value,
                # which halves the time of reading it.
                return
            entry = entry_value(message, data)
        except (DecodeError, ValueError) as error:
            raise WalCorrupt(f"wal: bad entry ({error})", segment.path, segment.offset) from None
        if not entry.term:  # the checksum covers a record's data, not its type: this is no entry
            raise WalCorrupt(f"wal: entry {index} has no term", segment.path, segment.offset)
        entries = self.contents.entries
        if place == len(entries):
            entries.append(entry)
        elif place > len(entries):
            last = self._at_index + len(entries)
            what = f"wal: slice bounds out of range: entry {index} follows {last}"
            raise WalCorrupt(what, segment.path, segment.offset)
        else:
            # A new leader's entry replaces what an old one left, and everything after it.
            del entries[place:]
            entries.append(entry)
        if place and entries[place - 1].term > entry.term:
            what = f"wal: the term goes back to {entry.term} at entry {index}"
            raise WalCorrupt(what, segment.path, segment.offset)

    def _other(self, kind: int, data: bytes, segment: SegmentReader) -> None:
        contents = self.contents
        try:
            if kind == RecordType.STATE:
                state = decode_hard_state(data)
                if state.term < contents.hard_state.term:  # an entry by its bytes, as above
                    what = f"wal: the term goes back to {state.term}"
                    raise WalCorrupt(what, segment.path, segment.offset)
                contents.hard_state = state
            elif kind == RecordType.SNAPSHOT:
                self._snapshot(decode_snapshot_record(data))
            elif kind == RecordType.METADATA:
                if self._has_metadata and data != contents.metadata:
                    what = "wal: conflicting metadata found"
                    raise WalCorrupt(what, segment.path, segment.offset)
                contents.metadata, self._has_metadata = data, True
            elif kind != RecordType.CRC:
                what = f"wal: unexpected record type {kind}"
                raise WalCorrupt(what, segment.path, segment.offset)
        except DecodeError:
            what = f"wal: unreadable record of type {kind}"
            raise WalCorrupt(what, segment.path, segment.offset) from None

    def _snapshot(self, record: SnapshotRecord) -> None:
        if record.index == self._at_index:
            if record.term != self._at_term:
                raise SnapshotMismatch(
                    f"wal: snapshot mismatch: index {record.index} has term {record.term} in the "
                    f"log and {self._at_term} in the snapshot. {RESTORE_ADVICE}"
                )
            self._is_matched = True
        self.last_index = max(self.last_index, record.index)
        self.contents.snapshots.append(record)
