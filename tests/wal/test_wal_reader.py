"""Records that add up to nothing (spec/storage.md §2.4 rule 3), made by hand."""

from __future__ import annotations

import pytest

from kvserver.proto import raft_pb2
from kvserver.raft.codec import encode_hard_state, varint
from kvserver.raft.types import EntryType, HardState
from kvserver.wal import WalCorrupt, WalError
from kvserver.wal.frame import RecordType, encode_record, frame_length
from kvserver.wal.reader import LogReader, WalContents

HEAD = ((RecordType.CRC, b""), (RecordType.METADATA, b"\x08\x01\x10\x02"))
ROOT = (RecordType.SNAPSHOT, b"\x08\x00\x10\x00")


def image(*records: tuple[int, bytes], crc: int = 0) -> bytes:
    out = b""
    for kind, data in records:
        frame, crc = encode_record(kind, data, crc)  # type: ignore[arg-type]
        out += frame
    return out


def read(*images: bytes, at: tuple[int, int] = (0, 0)) -> WalContents:
    reader = LogReader(at)
    for number, content in enumerate(images, 1):
        reader.read(f"segment-{number}", content, is_last=number == len(images))
    return reader.finish()


def entry_bytes(index: int, term: int = 1, data: bytes | None = None) -> bytes:
    message = raft_pb2.Entry(Type=0, Term=term, Index=index)
    if data is not None:
        message.Data = data
    return message.SerializeToString()


def test_an_empty_log_has_a_head_and_its_root() -> None:
    contents = read(image(*HEAD, ROOT))
    assert contents.metadata == HEAD[1][1]
    assert contents.entries == []
    assert contents.hard_state == HardState()


@pytest.mark.parametrize(
    "data", [entry_bytes(1, data=b""), b"\x18\x01\x10\x01", b"\x10\x01\x18\x01\x78\x05"]
)
def test_every_form_of_an_entry_is_read(data: bytes) -> None:
    """spec/raft-wire.md §2: long, short, any order, unknown fields."""
    (entry,) = read(image(*HEAD, ROOT, (RecordType.ENTRY, data))).entries
    assert (entry.index, entry.term, entry.type, entry.data) == (1, 1, EntryType.NORMAL, b"")


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ((RecordType.METADATA, b"\x08\x09\x10\x02"), "wal: conflicting metadata found"),
        ((9, b"x"), "wal: unexpected record type 9"),
        ((RecordType.STATE, b"\xff"), "wal: unreadable record of type 3"),
        ((RecordType.SNAPSHOT, b"\x1a\x05"), "wal: unreadable record of type 5"),
        ((RecordType.ENTRY, b"\x22\x50"), "wal: bad entry"),
        ((RecordType.ENTRY, b"\x08\x07\x18\x01"), "wal: bad entry \\(unknown entry type 7\\)"),
        ((RecordType.ENTRY, entry_bytes(3)), "entry 3 follows 0"),
    ],
)
def test_records_with_a_right_crc_and_wrong_content(record: tuple[int, bytes], text: str) -> None:
    with pytest.raises(WalCorrupt, match=text) as refusal:
        read(image(*HEAD, ROOT, record))
    assert refusal.value.path == "segment-1"
    assert refusal.value.offset > 0


def test_the_same_metadata_again_is_no_conflict() -> None:
    assert read(image(*HEAD, ROOT, HEAD[1])).metadata == HEAD[1][1]


def test_the_last_state_counts() -> None:
    states = [(RecordType.STATE, encode_hard_state(HardState(t, 1, t))) for t in (1, 2, 3)]
    assert read(image(*HEAD, ROOT, *states)).hard_state == HardState(3, 1, 3)


def test_entries_below_the_snapshot_are_passed_over() -> None:
    records = [(RecordType.ENTRY, entry_bytes(index)) for index in (1, 2, 3, 4)]
    mark = (RecordType.SNAPSHOT, b"\x08\x02\x10\x01")
    contents = read(image(*HEAD, ROOT, *records, mark), at=(2, 1))
    assert [entry.index for entry in contents.entries] == [3, 4]


def test_the_chain_goes_over_the_border() -> None:
    reader = LogReader((0, 0))
    first = image(*HEAD, ROOT, (RecordType.ENTRY, entry_bytes(1)))
    reader.read("a", first, is_last=False)
    second = image((RecordType.CRC, b""), (RecordType.ENTRY, entry_bytes(2)), crc=reader.crc)
    reader.read("b", second, is_last=True)
    assert [entry.index for entry in reader.finish().entries] == [1, 2]
    with pytest.raises(WalCorrupt, match="crc mismatch"):
        read(first, image((RecordType.CRC, b""), crc=1))


def overlong(record: bytes, following: bytes) -> bytes:
    """A log whose last records are: one with a length far too large, then `following`."""
    return image(*HEAD, ROOT) + (2**40).to_bytes(8, "little") + record + following


RIGHT = image(*HEAD, ROOT, (RecordType.ENTRY, entry_bytes(1)))[len(image(*HEAD, ROOT)) + 8 :]


@pytest.mark.parametrize(
    ("record", "following", "error"),
    [
        (RIGHT, b"", "unexpected EOF"),
        (RIGHT, bytes(16), "unexpected EOF"),
        (RIGHT, frame_length(4), "max entry size limit exceeded"),
        (RIGHT[:4] + b"\x7f" + RIGHT[5:], frame_length(4), "unexpected EOF"),
        (b"\x08\x02", b"", "unexpected EOF"),
        (b"\x10\x02" + RIGHT, frame_length(4), "unexpected EOF"),
        (b"\x08" + b"\xff" * 12, b"", "unexpected EOF"),
        (b"\x08\x02\x10\x05\x1a" + varint(2**60), b"1234", "unexpected EOF"),
    ],
)
def test_a_length_beyond_the_end(record: bytes, following: bytes, error: str) -> None:
    """Torn, unless the record is whole by its own account and others follow it."""
    with pytest.raises(WalError, match=error):
        read(overlong(record, following))


def test_a_record_that_is_no_protobuf() -> None:
    garbage = b"\xff" * 16
    with pytest.raises(WalCorrupt, match="unreadable record"):
        read(image(*HEAD, ROOT) + frame_length(16) + garbage)
    lost = b"\xff" * 4 + bytes(1020)
    with pytest.raises(WalError, match="unexpected EOF"):
        read(image(*HEAD, ROOT) + frame_length(1024) + lost)
