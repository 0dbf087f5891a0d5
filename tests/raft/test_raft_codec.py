"""raftpb bytes (spec/raft-wire.md §1, §2, §4, test cases of §8)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.proto import raft_pb2
from kvserver.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    codec,
)
from kvserver.raft.types import ConfChangeTransition

A, B, C = 0x58D52BB3814A8973, 0xEC891ECED12E4FCB, 0xD795E9DD7CA37011

VOTE = Message(MessageType.VOTE, to=B, from_=A, term=2, log_term=1, index=3)
APPEND = Message(
    MessageType.APPEND,
    to=C,
    from_=B,
    term=2,
    log_term=1,
    index=3,
    entries=(Entry(4, 2, EntryType.NORMAL, b""),),
    commit=3,
)
REJECTION = Message(
    MessageType.APPEND_RESPONSE,
    to=B,
    from_=C,
    term=2,
    index=6,
    reject=True,
    reject_hint=4,
    log_term=2,
)
HEARTBEAT = Message(MessageType.HEARTBEAT, to=2, from_=1, term=2, context=b"\x01" + bytes(7))
READ_INDEX = Message(
    MessageType.READ_INDEX,
    to=B,
    from_=C,
    entries=(Entry(0, 0, EntryType.NORMAL, bytes.fromhex("7011a207c91a4d03")),),
)
CONF_STATE = ConfState(voters=(1, 2), learners=(3,))
SNAPSHOT = Snapshot(5, 2, CONF_STATE, b"d")

IN = {
    "link heartbeat 3.5": (
        "08081000180020002800300040004a0a12080a0228001000180050005800",
        Message(MessageType.HEARTBEAT),
    ),
    "link heartbeat 3.6": (
        "0808100018002000280030004000500058006800",
        Message(MessageType.HEARTBEAT),
    ),
    "link heartbeat 3.7": ("0808", Message(MessageType.HEARTBEAT)),
    "vote 3.5": (
        "080510cb9fb989edd9c7c4ec0118f392aa8ab8f6caea5820022801300340004a0a12080a02280010001800"
        "50005800",
        VOTE,
    ),
    "vote 3.7": (
        "080510f392aa8ab8f6caea5818cb9fb989edd9c7c4ec01200228013003",
        VOTE._replace(to=A, from_=B),
    ),
    "append 3.6": (
        "08031091e08de5d7bbfacad70118cb9fb989edd9c7c4ec012002280130033a060800100218044003"
        "500058006800",
        APPEND,
    ),
    "append 3.7": (
        "080310f392aa8ab8f6caea5818cb9fb989edd9c7c4ec012002280130033a04100218044003",
        APPEND._replace(to=A),
    ),
    "rejection 3.7": (
        "080410cb9fb989edd9c7c4ec011891e08de5d7bbfacad70120022802300650015804",
        REJECTION,
    ),
    "heartbeat 3.7": (
        "0808100218012002400062080100000000000000",
        HEARTBEAT,
    ),
    "read index 3.7": (
        "080f10cb9fb989edd9c7c4ec011891e08de5d7bbfacad7013a0a22087011a207c91a4d03",
        READ_INDEX,
    ),
}


@pytest.mark.parametrize("name", IN)
def test_every_form_of_a_message_reads_alike(name: str) -> None:
    """§8.1, §8.2: whichever release wrote it, and again from our short form."""
    body, message = IN[name]
    assert codec.decode_message(bytes.fromhex(body)) == message
    assert codec.decode_message(codec.encode_message(message)) == message


@pytest.mark.parametrize("name", ["vote 3.7", "append 3.7", "rejection 3.7", "read index 3.7"])
def test_short_form_is_that_of_3_7(name: str) -> None:
    body, message = IN[name]
    assert codec.encode_message(message).hex() == body


def test_an_empty_snapshot_is_none() -> None:
    """§8.3."""
    assert codec.decode_snapshot(bytes.fromhex("12080a02280010001800")) is None
    body = bytes.fromhex("08074a0a12080a02280010001800")
    assert codec.decode_message(body).snapshot is None


def test_conf_state_packed_and_unpacked() -> None:
    """§8.4."""
    assert codec.decode_conf_state(bytes.fromhex("0801080210032800")) == CONF_STATE
    assert codec.decode_conf_state(bytes.fromhex("0a0201021201032800")) == CONF_STATE
    assert codec.encode_conf_state(CONF_STATE).hex() == "0801080210032800"


def test_conf_state_of_a_joint_configuration() -> None:
    state = ConfState((1, 2), (3,), (1, 4), (4,), True)
    assert codec.decode_conf_state(codec.encode_conf_state(state)) == state


def test_unknown_fields_are_skipped() -> None:
    """§8.5: 13 and 14 come from 3.6, 99 from a release to come."""
    body = bytes.fromhex("0808") + b"\x68\x05" + b"\x72\x02\x08\x04" + b"\x98\x06\x07"
    assert codec.decode_message(body) == Message(MessageType.HEARTBEAT)


def test_an_unknown_type_reads_as_one_that_the_network_may_not_send() -> None:
    assert codec.decode_message(b"\x08\x7f").type is MessageType.HUP


def test_snapshot_vector() -> None:
    body = "0a0164120e0a08080108021003280010051802"
    assert codec.encode_snapshot(SNAPSHOT).hex() == body
    assert codec.decode_snapshot(bytes.fromhex(body)) == SNAPSHOT


def test_hard_state_is_written_with_its_zeros() -> None:
    assert codec.encode_hard_state(HardState(2, 1, 3)).hex() == "080210011803"
    assert codec.encode_hard_state(HardState()).hex() == "080010001800"
    assert codec.decode_hard_state(bytes.fromhex("080210011803")) == HardState(2, 1, 3)


def test_varint_vectors() -> None:
    assert [codec.varint(n).hex() for n in (0, 1, 127, 128, 300, 2**32, 2**64 - 1)] == [
        "00",
        "01",
        "7f",
        "8001",
        "ac02",
        "8080808010",
        "ffffffffffffffffff01",
    ]


def test_entry_of_a_new_leader() -> None:
    """§2: `10021804` from 3.7 on, with the type before."""
    entry = Entry(4, 2, EntryType.NORMAL, b"")
    assert codec.encode_entry(entry).hex() == "10021804"
    assert codec.decode_entry(bytes.fromhex("080010021804")) == entry


def test_bootstrap_entry() -> None:
    """§4.1: a conf change of 3.7 in an entry of term 1."""
    context = b'{"id":6401070495345314163,"peerURLs":["http://127.0.0.1:4511"],"name":"m1"}'
    change = ConfChange(0, ConfChangeType.ADD_NODE, A, context)
    entry = Entry(1, 1, EntryType.CONF_CHANGE, codec.encode_conf_change(change))
    # AddNode is 0, which the short form leaves out.
    assert codec.encode_entry(entry).hex().startswith("080110011801225718f392aa8ab8f6caea58224b7b")
    assert codec.decode_conf_change(entry) == change
    long = bytes.fromhex("0800100018f392aa8ab8f6caea58224b") + context
    assert codec.decode_conf_change(entry._replace(data=long)) == change


def test_remove_node_vector() -> None:
    """§4, last line."""
    body = bytes.fromhex("0882aeb3d2fac0e8b9890110011884c0819b80fc8eb416")
    change = codec.decode_conf_change(Entry(1, 1, EntryType.CONF_CHANGE, body))
    assert isinstance(change, ConfChange)
    assert (change.type, change.node_id) == (ConfChangeType.REMOVE_NODE, 1614606299727683588)
    assert codec.encode_conf_change(change) == body


def test_conf_change_v2() -> None:
    change = ConfChangeV2(
        (
            ConfChangeSingle(ConfChangeType.ADD_NODE, 4),
            ConfChangeSingle(ConfChangeType.REMOVE_NODE, 3),
        ),
        ConfChangeTransition.JOINT_EXPLICIT,
        b"why",
    )
    entry = Entry(1, 1, codec.conf_change_entry_type(change), codec.encode_conf_change(change))
    assert entry.type is EntryType.CONF_CHANGE_V2
    assert codec.decode_conf_change(entry) == change
    # No changes leave a joint configuration, and take no bytes.
    leave = Entry(1, 1, EntryType.CONF_CHANGE_V2, b"")
    assert codec.decode_conf_change(leave) == ConfChangeV2()
    assert codec.encode_conf_change(ConfChangeV2()) == b""


@pytest.mark.parametrize(
    "decode",
    [
        codec.decode_message,
        codec.decode_entry,
        codec.decode_hard_state,
        codec.decode_snapshot,
        codec.decode_conf_state,
    ],
)
@pytest.mark.parametrize("body", [b"\x08", b"\xff\xff\xff", b"\x0a\x7f\x01", b"\x3a\x05abc"])
def test_malformed_bytes_are_one_error_of_ours(decode: object, body: bytes) -> None:
    with suppress(codec.MalformedMessage):
        decode(body)  # type: ignore[operator]


def test_malformed_message_is_refused() -> None:
    with pytest.raises(codec.MalformedMessage, match=r"raftpb\.Message"):
        codec.decode_message(b"\x3a\x05abc")
    with pytest.raises(codec.MalformedMessage, match=r"raftpb\.ConfChange"):
        codec.decode_conf_change(Entry(1, 1, EntryType.CONF_CHANGE, b"\x22\x05abc"))


def test_encoded_entries_can_be_used_twice() -> None:
    """Once for the write-ahead log, once for every follower."""
    entries = codec.encode_entries(APPEND.entries)
    assert codec.encode_message(APPEND, entries) == codec.encode_message(APPEND)


numbers = st.one_of(st.integers(0, 300), st.integers(16000, 17000), st.integers(0, 2**64 - 1))
entries = st.builds(Entry, numbers, numbers, st.sampled_from(EntryType), st.binary(max_size=300))
conf_states = st.builds(
    ConfState,
    *[st.lists(numbers, max_size=3).map(tuple)] * 4,
    st.booleans(),
)
snapshots = st.builds(Snapshot, numbers.filter(bool), numbers, conf_states, st.binary(max_size=9))
messages = st.builds(
    Message,
    st.sampled_from(MessageType),
    numbers,
    numbers,
    numbers,
    numbers,
    numbers,
    st.lists(entries, max_size=4).map(tuple),
    numbers,
    st.none() | snapshots,
    st.booleans(),
    numbers,
    st.binary(max_size=9),
)


@given(messages)
def test_any_message_comes_back(message: Message) -> None:
    assert codec.decode_message(codec.encode_message(message)) == message


@given(st.lists(entries, max_size=5))
def test_entries_by_hand_are_what_protobuf_writes(items: list[Entry]) -> None:
    """The hand-written encoder against the library, in the short form."""
    for entry, body in zip(items, codec.encode_entries(items), strict=True):
        pb = raft_pb2.Entry()
        if entry.index:
            pb.Index = entry.index
        if entry.type:
            pb.Type = entry.type  # type: ignore[assignment]
        if entry.term:
            pb.Term = entry.term
        if entry.data:
            pb.Data = entry.data
        assert pb.SerializeToString(deterministic=True) == body


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    with suppress(codec.MalformedMessage):
        codec.decode_message(body)
