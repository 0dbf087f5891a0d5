"""What records carry: values of Raft to and from raftpb and walpb (spec/raft-wire.md §1, §7).

Written in the form of etcd up to 3.6, zeros included, because that is what every release and
every tool reads; read in any form. Entries are written by `frame.encode_entries`.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvserver.proto import legacy_pb2, raft_pb2, record_pb2
from kvserver.raft.codec import varint
from kvserver.raft.types import ConfState, Entry, EntryType, HardState, Snapshot

ENTRY_TYPES = tuple(EntryType)
NORMAL_HEAD = b"\x08\x00"
"""How a normal entry begins when its zeros are written."""


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """The log's note that a snapshot of this index and term exists; conf_state from 3.5 on."""

    index: int
    term: int
    conf_state: ConfState | None = None


@dataclass(frozen=True, slots=True)
class WalMetadata:
    """Whose log this is."""

    node_id: int
    cluster_id: int


def encode_metadata(metadata: WalMetadata) -> bytes:
    return b"\x08%b\x10%b" % (varint(metadata.node_id), varint(metadata.cluster_id))


def decode_metadata(data: bytes) -> WalMetadata:
    message = legacy_pb2.Metadata.FromString(data)
    return WalMetadata(message.NodeID, message.ClusterID)


def decode_hard_state(data: bytes) -> HardState:
    message = raft_pb2.HardState.FromString(data)
    return HardState(message.term, message.vote, message.commit)


def decode_entry(data: bytes) -> Entry:
    """ValueError for an entry type nobody knows."""
    return entry_value(parse_entry(data), data)


parse_entry = raft_pb2.Entry.FromString
"""The message of an entry; DecodeError when it is none."""


def entry_value(message: raft_pb2.Entry, data: bytes) -> Entry:
    kind = message.Type
    if data[:2] != NORMAL_HEAD and not kind and data[:1] == NORMAL_HEAD[:1]:
        # protobuf drops a value its enum does not know, and the type would read as normal.
        raise ValueError(f"unknown entry type {data[1]}")
    return Entry(message.Index, message.Term, ENTRY_TYPES[kind], message.Data)


def conf_state_message(state: ConfState) -> raft_pb2.ConfState:
    return raft_pb2.ConfState(
        voters=state.voters,
        learners=state.learners,
        voters_outgoing=state.voters_outgoing,
        learners_next=state.learners_next,
        auto_leave=state.auto_leave,
    )


def conf_state_value(message: raft_pb2.ConfState) -> ConfState:
    return ConfState(
        tuple(message.voters),
        tuple(message.learners),
        tuple(message.voters_outgoing),
        tuple(message.learners_next),
        message.auto_leave,
    )


def encode_snapshot_record(record: SnapshotRecord) -> bytes:
    message = record_pb2.Snapshot(index=record.index, term=record.term)
    if record.conf_state is not None:
        message.conf_state.CopyFrom(conf_state_message(record.conf_state))
    return message.SerializeToString()


def decode_snapshot_record(data: bytes) -> SnapshotRecord:
    message = record_pb2.Snapshot.FromString(data)
    state = conf_state_value(message.conf_state) if message.HasField("conf_state") else None
    return SnapshotRecord(message.index, message.term, state)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """raftpb.Snapshot, as it stands in a `.snap` file."""
    message = raft_pb2.Snapshot()
    if snapshot.data:
        message.data = snapshot.data
    message.metadata.conf_state.CopyFrom(conf_state_message(snapshot.conf_state))
    message.metadata.index = snapshot.index
    message.metadata.term = snapshot.term
    return message.SerializeToString()


def decode_snapshot(data: bytes) -> Snapshot:
    message = raft_pb2.Snapshot.FromString(data)
    metadata = message.metadata
    return Snapshot(
        metadata.index, metadata.term, conf_state_value(metadata.conf_state), message.data
    )
