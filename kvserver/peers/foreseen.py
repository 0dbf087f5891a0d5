"""Decoders for what a stream says again and again, told by comparing bytes.

Most of what a member hears is one entry after the other, and one acknowledgement after the other:
all of their bytes but a few are known before they come. Comparing takes a third of what protobuf
objects do, and with one put after the other every microsecond of a follower is one that the put's
caller waits. Whatever is not as foreseen goes by way of protobuf. Owner: the loop.
"""

from __future__ import annotations

from kvserver.raft import Entry, EntryType, Message, MessageType
from kvserver.raft.codec import decode_entry, decode_message, varint

_LOW = [bytes((low | 128,)) for low in range(128)]
"""The first byte of an index above 127."""
_TYPE_NORMAL = b"\x08\x00"
"""etcd writes the type of a normal entry, we leave it out."""


class ForeseenEntries:
    """Of a stream of appends that continues: index and term of the next one are known."""

    __slots__ = ("_head", "_high", "_tail", "_term")

    def __init__(self) -> None:
        self._term = self._high = 0
        self._head = self._tail = b""

    def decode(self, body: bytes, index: int, term: int) -> Entry:
        """The entry in `body`, most likely the one at `index` of `term`. Raises
        `MalformedMessage`."""
        high = index >> 7
        if high != self._high or term != self._term:
            self._high, self._term = high, term
            self._head = b"\x10" + varint(term) + b"\x18"
            self._tail = varint(high) + b'"'
        known = self._head + _LOW[index & 127] + self._tail
        at = len(known)
        if not body.startswith(known):
            at += len(_TYPE_NORMAL)
            if body[:at] != _TYPE_NORMAL + known:
                return decode_entry(body)
        size = len(body)
        if at + 1 < size and high:
            length = body[at]
            at += 1
            if length > 127:
                more = body[at]
                at += 1
                # A third byte is for data of 16 KiB, whose decoding is not what takes time.
                length = length & 127 | more << 7 if more < 128 else size
            if at + length == size:
                return Entry(index, term, EntryType.NORMAL, body[at:])
        return decode_entry(body)


class ForeseenResponses:
    """Of a stream of messages: acknowledgements that differ in the low bits of their index."""

    __slots__ = ("_at", "_head", "_high", "_like", "_size", "_tail")

    def __init__(self) -> None:
        self._like = Message(MessageType.APPEND_RESPONSE)
        self._size = -1  # nothing is like it yet
        self._at = self._high = 0
        self._head = self._tail = b""

    def decode(self, body: bytes) -> Message:
        """The message in `body`. Raises `MalformedMessage`."""
        at = self._at
        if len(body) == self._size and body.startswith(self._head) and body[at + 1 :] == self._tail:
            like = self._like
            low = body[at]
            if low > 127:
                index = self._high | low & 127
                return Message(like.type, like.to, like.from_, like.term, 0, index)
        message = decode_message(body)
        if message.type is MessageType.APPEND_RESPONSE:
            self._foresee(message, body)
        return message

    def _foresee(self, message: Message, body: bytes) -> None:
        """The next one may be like this one."""
        kind, to, from_, term, log_term, index, *_ = message
        index_bytes = varint(index)
        if index < 128 or message != Message(kind, to, from_, term, log_term, index) or log_term:
            return
        if not body.endswith(b"\x30" + index_bytes):
            return  # written in another form
        self._like = message
        self._size = len(body)
        self._at = self._size - len(index_bytes)
        self._head = body[: self._at]
        self._tail = index_bytes[1:]
        self._high = index & ~127
