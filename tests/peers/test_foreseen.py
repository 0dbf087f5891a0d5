"""What is decoded by comparison is what protobuf decodes (kvserver/peers/foreseen.py)."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.peers import foreseen
from kvserver.peers.foreseen import ForeseenEntries, ForeseenResponses
from kvserver.raft import Entry, EntryType, Message, MessageType
from kvserver.raft.codec import (
    MalformedMessage,
    decode_entry,
    decode_message,
    encode_entry,
    encode_message,
)

ETCDS_TYPE = b"\x08\x00"

indexes = st.integers(0, 300) | st.integers(0, 2**40)
terms = st.integers(0, 300) | st.integers(0, 2**64 - 1)
datas = st.binary(max_size=300) | st.integers(16_000, 17_000).map(bytes)


def damaged(body: bytes, at: int, byte: int, cut: int) -> bytes:
    """One byte is another one, and some are missing at the end."""
    changed = bytearray(body)
    changed[at % len(changed)] = byte
    return bytes(changed[: len(changed) - cut])


@given(
    st.lists(
        st.tuples(indexes, terms, datas, st.sampled_from(EntryType), st.booleans()), max_size=4
    ),
    st.booleans(),
)
def test_entries_are_what_protobuf_says(
    rows: list[tuple[int, int, bytes, EntryType, bool]], is_foreseen: bool
) -> None:
    decoder = ForeseenEntries()
    for index, term, data, kind, is_etcds in rows:
        entry = Entry(index, term, kind, data)
        body = encode_entry(entry)
        if is_etcds and kind is EntryType.NORMAL:
            body = ETCDS_TYPE + body
        at = (index, term) if is_foreseen else (index + 1, term)
        assert decoder.decode(body, *at) == entry


@given(
    st.integers(128, 2**40), st.integers(1, 9), datas, st.data(), st.integers(0, 255), st.booleans()
)
def test_damaged_entries_are_what_protobuf_says(
    index: int, term: int, data: bytes, draw: st.DataObject, byte: int, is_etcds: bool
) -> None:
    body = encode_entry(Entry(index, term, EntryType.NORMAL, data))
    if is_etcds:
        body = ETCDS_TYPE + body
    # Mostly in front, where the numbers are.
    at = draw.draw(st.integers(0, min(20, len(body) - 1)))
    body = damaged(body, at, byte, draw.draw(st.integers(0, 2)))
    try:
        expected = decode_entry(body)
    except MalformedMessage:
        with pytest.raises(MalformedMessage):
            ForeseenEntries().decode(body, index, term)
    else:
        assert ForeseenEntries().decode(body, index, term) == expected


def response(index: int, term: int = 4) -> Message:
    return Message(MessageType.APPEND_RESPONSE, 2**63 + 5, 2**62 + 9, term, index=index)


@given(
    st.lists(
        st.builds(response, indexes, st.integers(0, 3))
        | st.builds(
            lambda *values: Message(
                *values[:4], index=values[4], reject=values[5], commit=values[6]
            ),
            st.sampled_from(MessageType),
            st.integers(0, 9),
            st.integers(0, 9),
            terms,
            indexes,
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_messages_are_what_protobuf_says(messages: list[Message]) -> None:
    decoder = ForeseenResponses()
    for message in messages:
        assert decoder.decode(encode_message(message)) == message


@given(st.integers(128, 2**40), st.data(), st.integers(0, 255))
def test_damaged_responses_are_what_protobuf_says(
    index: int, draw: st.DataObject, byte: int
) -> None:
    decoder = ForeseenResponses()
    body = encode_message(response(index))
    decoder.decode(body)
    at = draw.draw(st.integers(0, len(body) - 1))
    body = damaged(body, at, byte, draw.draw(st.integers(0, 2)))
    try:
        expected = decode_message(body)
    except MalformedMessage:
        with pytest.raises(MalformedMessage):
            decoder.decode(body)
    else:
        assert decoder.decode(body) == expected


def test_what_is_foreseen_needs_no_protobuf() -> None:
    """Or all of the above would hold without this module doing anything."""
    entries, responses = ForeseenEntries(), ForeseenResponses()
    responses.decode(encode_message(response(1280)))
    with (
        patch.object(foreseen, "decode_entry", side_effect=AssertionError),
        patch.object(foreseen, "decode_message", side_effect=AssertionError),
    ):
        for index in range(1281, 1408):  # up to where the upper bytes of the index change
            assert responses.decode(encode_message(response(index))) == response(index)
            for prefix in (b"", ETCDS_TYPE):
                entry = Entry(index, 4, EntryType.NORMAL, b"x" * index)
                assert entries.decode(prefix + encode_entry(entry), index, 4) == entry
