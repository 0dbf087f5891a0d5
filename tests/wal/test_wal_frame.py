"""Frames, records and payloads, byte by byte (spec/storage.md §2.1, spec/raft-wire.md §1, §7)."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from kvserver.proto import raft_pb2, record_pb2
from kvserver.raft.codec import encode_hard_state
from kvserver.raft.types import ConfState, Entry, EntryType, HardState, Snapshot
from kvserver.wal.frame import (
    RecordType,
    encode_entries,
    encode_record,
    frame_length,
    split_length,
)
from kvserver.wal.payload import (
    SnapshotRecord,
    WalMetadata,
    decode_entry,
    decode_hard_state,
    decode_metadata,
    decode_snapshot,
    decode_snapshot_record,
    encode_metadata,
    encode_snapshot,
    encode_snapshot_record,
)

UINT64 = st.integers(0, 2**64 - 1)


def reference_frame(kind: int, data: bytes, crc: int) -> tuple[bytes, int]:
    """A frame made the slow way, by protobuf."""
    crc = crc32c(data, crc)
    message = record_pb2.Record(type=kind, crc=crc)
    if data:
        message.data = data
    record = message.SerializeToString()
    return frame_length(len(record)) + record + bytes(-len(record) & 7), crc


def reference_entry(entry: Entry) -> bytes:
    message = raft_pb2.Entry(Type=int(entry.type), Term=entry.term, Index=entry.index)
    if entry.data:
        message.Data = entry.data
    return message.SerializeToString()


def test_the_first_frame_of_a_log_is_etcds() -> None:
    """spec/storage.md §8 case 2 (live)."""
    frame, crc = encode_record(RecordType.CRC, b"", 0)
    assert frame.hex() == "04000000000000840804100000000000"
    assert crc == 0


@pytest.mark.parametrize("size", [1, 7, 8, 9, 4095, 4096, 2**40 + 3])
def test_length_field_carries_size_and_padding(size: int) -> None:
    field = frame_length(size)
    assert split_length(int.from_bytes(field, "little")) == (size, -size % 8)
    assert (field[7] & 0x80 != 0) == (size % 8 != 0)


@given(st.lists(st.tuples(UINT64, UINT64, st.sampled_from(EntryType), st.binary(max_size=40))))
def test_entries_are_encoded_as_protobuf_would(
    rows: list[tuple[int, int, EntryType, bytes]],
) -> None:
    entries = [Entry(*row) for row in rows]
    out: list[bytes] = []
    crc = encode_entries(entries, 77, out)
    expected, chain = b"", 77
    for entry in entries:
        frame, chain = reference_frame(2, reference_entry(entry), chain)
        expected += frame
    assert b"".join(out) == expected
    assert crc == chain


@pytest.mark.parametrize("size", [0, 1, 113, 127, 128, 4060, 4080, 4090, 16383, 16384, 1_500_000])
@pytest.mark.parametrize("index", [1, 127, 16383, 16384, 2**21, 2**35 + 5])
def test_entry_sizes_at_the_borders_of_the_tables(size: int, index: int) -> None:
    out: list[bytes] = []
    entry = Entry(index, 5, EntryType.NORMAL, b"v" * size)
    crc = encode_entries([entry], 0, out)
    assert (b"".join(out), crc) == reference_frame(2, reference_entry(entry), 0)


def test_a_small_crc_is_encoded_in_fewer_bytes() -> None:
    """The chain's value is below 2**28 once in sixteen: the other branch of the table code."""
    entries = [Entry(i + 20_000, 1, EntryType.NORMAL, b"%d" % i) for i in range(200)]
    chain, small = 0, 0
    for entry in entries:
        out: list[bytes] = []
        before, chain = chain, encode_entries([entry], chain, out)
        assert (b"".join(out), chain) == reference_frame(2, reference_entry(entry), before)
        small += chain < 2**28
    assert small > 0


def test_metadata_vector() -> None:
    """spec/raft-wire.md §7 (live)."""
    data = bytes.fromhex("08f392aa8ab8f6caea5810c699f7a2d9d787b352")
    metadata = decode_metadata(data)
    assert metadata.node_id == 0x58D52BB3814A8973
    assert encode_metadata(metadata) == data
    assert decode_metadata(encode_metadata(WalMetadata(1, 2))) == WalMetadata(1, 2)


def test_hard_state_vector() -> None:
    """spec/raft-wire.md §2."""
    assert encode_hard_state(HardState(2, 1, 3)).hex() == "080210011803"
    assert decode_hard_state(b"") == HardState()
    assert decode_hard_state(bytes.fromhex("080210011803")) == HardState(2, 1, 3)


def test_snapshot_record_vector() -> None:
    """spec/raft-wire.md §7 (live), and {0, 0} as every log begins."""
    data = bytes.fromhex(
        "083410021a2208f392aa8ab8f6caea580891e08de5d7bbfacad70108cb9fb989edd9c7c4ec012800"
    )
    record = decode_snapshot_record(data)
    assert (record.index, record.term) == (52, 2)
    assert record.conf_state is not None
    assert len(record.conf_state.voters) == 3
    assert encode_snapshot_record(record) == data
    assert encode_snapshot_record(SnapshotRecord(0, 0)).hex() == "08001000"
    assert decode_snapshot_record(b"") == SnapshotRecord(0, 0, None)


def test_snapshot_vector() -> None:
    """spec/raft-wire.md §2: data "d", voters 1 and 2, learner 3, index 5, term 2."""
    snapshot = Snapshot(5, 2, ConfState(voters=(1, 2), learners=(3,)), b"d")
    data = bytes.fromhex("0a0164120e0a08080108021003280010051802")
    assert encode_snapshot(snapshot) == data
    assert decode_snapshot(data) == snapshot


def test_the_empty_entry_of_a_new_leader() -> None:
    """spec/raft-wire.md §2: written with its zeros, read in the short form too."""
    out: list[bytes] = []
    encode_entries([Entry(4, 2, EntryType.NORMAL, b"")], 0, out)
    assert bytes.fromhex("080010021804") in b"".join(out)
    assert decode_entry(bytes.fromhex("10021804")) == Entry(4, 2, EntryType.NORMAL, b"")


def test_an_unknown_entry_type_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown entry type 9"):
        decode_entry(bytes.fromhex("080910011801"))
    assert decode_entry(bytes.fromhex("080110011801")).type is EntryType.CONF_CHANGE
