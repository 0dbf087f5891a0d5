"""The bytes of both kinds of stream (spec/peer.md §3, cases 2 to 5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvserver.limits import PEER_FRAME_BYTES_MAX
from kvserver.peers.frames import (
    LENGTH,
    AppendReader,
    AppendWriter,
    EntryCache,
    MessageReader,
    MessageWriter,
    StreamError,
)
from kvserver.raft import Entry, EntryType, Message, MessageType
from kvserver.raft.types import PROMISE

A, B, C = 0x58D52BB3814A8973, 0xEC891ECED12E4FCB, 0xD795E9DD7CA37011


def entry(index: int, term: int = 2, data: bytes = b"") -> Entry:
    return Entry(index, term, EntryType.NORMAL, data)


def append(
    index: int, log_term: int, term: int = 2, entries: tuple[Entry, ...] = (), commit: int = 0
) -> Message:
    return Message(
        MessageType.APPEND, C, B, term, log_term=log_term, index=index, entries=entries,
        commit=commit,
    )  # fmt: skip


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


MESSAGES = [
    Message(MessageType.VOTE, B, A, 2, log_term=1, index=3),
    Message(MessageType.HEARTBEAT, B, A, 2, commit=7, context=b"\1\0\0\0\0\0\0\0"),
    Message(MessageType.READ_INDEX, B, C, entries=(Entry(0, 0, EntryType.NORMAL, b"ctx"),)),
]


@pytest.mark.parametrize("size", range(1, 40))
def test_messages_cut_anywhere_arrive_whole(size: int) -> None:
    """Case 2."""
    writer = MessageWriter(EntryCache())
    data = b"".join(
        [writer.encode(MESSAGES[0]), writer.heartbeat, *map(writer.encode, MESSAGES[1:])]
    )
    reader = MessageReader()
    got = [message for piece in pieces(data, size) for message in reader.feed(piece)]
    assert got == MESSAGES


def test_a_frame_beyond_the_limit_ends_the_stream_before_it_is_read() -> None:
    """Case 2."""
    with pytest.raises(StreamError, match="limit exceeded"):
        MessageReader().feed(LENGTH.pack(PEER_FRAME_BYTES_MAX + 1))
    with pytest.raises(StreamError):
        AppendReader(B, C).feed(b"\x01" + LENGTH.pack(PEER_FRAME_BYTES_MAX))
    with pytest.raises(StreamError, match="unknown frame type"):
        AppendReader(B, C).feed(b"\x07")


APPENDS = [
    append(3, 1, entries=(entry(4),), commit=3),
    append(4, 2, entries=(entry(5, data=b"x"), entry(6, data=b"y" * 200)), commit=4),
    append(6, 2, commit=6),
    append(6, 2, term=3, entries=(entry(7, 3),), commit=6),
    append(7, 3, term=3, entries=(entry(8, 3, b"z"),), commit=7),
]
TYPES = [2, 1, 1, 2, 1]


def test_the_writer_continues_only_while_terms_and_index_agree() -> None:
    """Case 4, and rule: the first frame is a whole message."""
    writer = AppendWriter(EntryCache())
    assert [writer.encode(message)[0] for message in APPENDS] == TYPES
    writer = AppendWriter(EntryCache())
    writer.encode(append(4, 1, entries=(entry(5),)))
    assert writer.encode(append(5, 2))[0] == 1
    assert writer.encode(append(5, 1))[0] == 2
    assert writer.encode(append(5, 2, term=3))[0] == 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30, 10_000])
def test_appends_are_rebuilt_as_they_were(size: int) -> None:
    """Case 3."""
    writer = AppendWriter(EntryCache())
    data = b"".join([writer.encode(m) + writer.heartbeat for m in APPENDS])
    reader = AppendReader(B, C)
    got = [message for piece in pieces(data, size) for message in reader.feed(piece)]
    assert got == APPENDS


@pytest.mark.parametrize("index", [5, 6])
def test_what_an_append_says_besides_is_not_lost(index: int) -> None:
    """A frame that only continues has no room for it; the stream goes on behind it."""
    writer, reader = AppendWriter(EntryCache()), AppendReader(B, C)
    messages = [
        append(4, 2, entries=(entry(5), entry(6))),
        append(6, 2, commit=4),
        append(index, 2, commit=4)._replace(context=PROMISE),
        append(6, 2, entries=(entry(7),), commit=5),
        append(7, 2, commit=6),
    ]
    assert [message for m in messages for message in reader.feed(writer.encode(m))] == messages


def test_what_an_etcd_leader_writes_is_read() -> None:
    """Case 5: the example of §3.3 in the long form of release 3.5."""
    first = bytes.fromhex(
        "08031091e08de5d7bbfacad70118cb9fb989edd9c7c4ec012002280130033a060800100218044003500058006800"
    )
    five, six, seven = (
        bytes.fromhex(f"0800100218{index:02x}2201{index:02x}") for index in (5, 6, 7)
    )
    frames = b"\x02" + LENGTH.pack(len(first)) + first
    frames += b"\x01" + LENGTH.pack(3)
    for body in (five, six, seven):
        frames += LENGTH.pack(len(body)) + body
    frames += LENGTH.pack(4) + b"\x01" + LENGTH.pack(0) + LENGTH.pack(7) + b"\x00"
    got = AppendReader(B, C).feed(frames)
    assert got == [
        append(3, 1, entries=(entry(4),), commit=3),
        append(4, 2, entries=tuple(entry(i, data=bytes((i,))) for i in (5, 6, 7)), commit=4),
        append(7, 2, commit=7),
    ]


@pytest.mark.parametrize(
    "heartbeat",
    [
        "08081000180020002800300040004a0a12080a0228001000180050005800",
        "0808100018002000280030004000500058006800",
        "0808",
    ],
)
def test_link_heartbeats_of_every_release_are_dropped(heartbeat: str) -> None:
    """Case 6."""
    body = bytes.fromhex(heartbeat)
    assert MessageReader().feed(LENGTH.pack(len(body)) + body) == []


def test_the_same_entries_are_encoded_once() -> None:
    cache = EntryCache()
    entries = (entry(4), entry(5, data=b"x"))
    assert cache.encode(entries) is cache.encode(tuple(entries))
    assert cache.encode((entry(4), entry(5, data=b"y"))) != cache.encode(entries)
