"""The bytes of the two kinds of stream between members (spec/peer.md §3).

`message` stream: length (8) and a marshalled message, again and again. `msgapp` stream: a type
byte, then nothing (link heartbeat), or entries that continue where both sides know the stream to
be, or a whole APPEND. All integers are big-endian and 8 bytes.

The state of a msgapp stream, term and index, begins at 0 on both sides and belongs to one
connection: the first frame is always a whole message. Lengths are bounded before anything is
allocated for them. A link heartbeat never leaves this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from kvserver.errors import KeydeckError
from kvserver.limits import PEER_FRAME_BYTES_MAX
from kvserver.peers.foreseen import ForeseenEntries, ForeseenResponses
from kvserver.raft import Entry, Message, MessageType
from kvserver.raft.codec import MalformedMessage, decode_message, encode_message
from kvserver.raft.codec import encode_entries as encode_entries_anew

LENGTH = Struct(">Q")
ENTRY_BYTES_MIN = 8
"""What an entry takes on the wire at least: its length."""

HEARTBEAT, ENTRIES, APPEND = range(3)
"""Frame types of the msgapp stream."""
_ENTRIES = bytes((ENTRIES,))


class StreamError(KeydeckError):
    """The other side's bytes are not what the protocol says; the stream ends."""


class EntryCache:
    """The encoded form of the entries sent last: all followers get the same ones, and those that
    are as far as each other the same frame."""

    def __init__(self) -> None:
        self._entries: Sequence[Entry] = ()
        self._encoded: list[bytes] = []
        self._framed: Sequence[bytes] | None = None
        self._commit = 0
        self._frame = b""

    def encode(self, entries: Sequence[Entry]) -> list[bytes]:
        known = self._entries
        if not (
            known
            and len(known) == len(entries)
            and known[0] is entries[0]
            and known[-1] is entries[-1]
        ):
            self._encoded = encode_entries_anew(entries)
            self._entries = entries
        return self._encoded

    def frame(self, entries: Sequence[bytes], commit: int) -> bytes:
        """The ENTRIES frame of what `encode` gave last."""
        if entries is not self._framed or commit != self._commit:
            self._framed, self._commit = entries, commit
            pack = LENGTH.pack
            parts = [_ENTRIES, pack(len(entries))]
            for entry in entries:
                parts += (pack(len(entry)), entry)
            parts.append(pack(commit))
            self._frame = b"".join(parts)
        return self._frame


class MessageWriter:
    """Frames of a `message` stream."""

    heartbeat = LENGTH.pack(2) + b"\x08\x08"
    """A HEARTBEAT from nobody to nobody."""

    def __init__(self, cache: EntryCache) -> None:
        self._cache = cache

    def encode(self, message: Message) -> bytes:
        entries = self._cache.encode(message.entries) if message.entries else ()
        body = encode_message(message, entries)
        return LENGTH.pack(len(body)) + body


class AppendWriter:
    """Frames of a `msgapp` stream."""

    heartbeat = bytes((HEARTBEAT,))

    def __init__(self, cache: EntryCache) -> None:
        self._cache = cache
        self._term = 0
        self._index = 0

    def encode(self, message: Message) -> bytes:
        entries = self._cache.encode(message.entries) if message.entries else ()
        continues = message.index == self._index and (
            message.log_term == self._term == message.term and not message.context
        )
        if continues:
            self._index += len(entries)
            return self._cache.frame(entries, message.commit)
        self._term = message.term
        self._index = message.index + len(entries)
        body = encode_message(message, entries)
        return b"%c%b%b" % (APPEND, LENGTH.pack(len(body)), body)


class MessageReader:
    """Messages out of a `message` stream's bytes, however they are cut."""

    def __init__(self) -> None:
        self._held = b""
        self._responses = ForeseenResponses()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises `StreamError`."""
        data = self._held + data if self._held else data
        messages, at, size = [], 0, len(data)
        decode = self._responses.decode
        while size - at >= LENGTH.size:
            length = _length(data, at)
            end = at + LENGTH.size + length
            if end > size:
                break
            try:
                message = decode(data[at + LENGTH.size : end])
            except MalformedMessage as error:
                raise _malformed(error) from None
            if message.from_ or message.type is not MessageType.HEARTBEAT:
                messages.append(message)
            at = end
        self._held = data[at:]
        return messages


class AppendReader:
    """APPENDs out of a `msgapp` stream's bytes: from `sender`, to `receiver`."""

    def __init__(self, sender: int, receiver: int) -> None:
        self._sender = sender
        self._receiver = receiver
        self._held = b""
        self._term = 0
        self._index = 0
        self._entry = ForeseenEntries()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises `StreamError`."""
        data = self._held + data if self._held else data
        messages, at = [], 0
        while at < len(data):
            kind = data[at]
            if kind == HEARTBEAT:
                at += 1
                continue
            if kind == ENTRIES:
                found = self._entries(data, at + 1)
            elif kind == APPEND:
                found = self._append(data, at + 1)
            else:
                raise StreamError(f"unknown frame type {kind} on the stream of appends")
            if found is None:
                break
            message, at = found
            messages.append(message)
        self._held = data[at:]
        return messages

    def _append(self, data: bytes, at: int) -> tuple[Message, int] | None:
        if len(data) < at + LENGTH.size:
            return None
        end = at + LENGTH.size + _length(data, at)
        if len(data) < end:
            return None
        try:
            message = decode_message(data[at + LENGTH.size : end])
        except MalformedMessage as error:
            raise _malformed(error) from None
        self._term = message.term
        self._index = message.entries[-1].index if message.entries else message.index
        return message, end

    def _entries(self, data: bytes, at: int) -> tuple[Message, int] | None:
        # Hot: with one put after the other, each finds the caches cold, and a call takes 1 us.
        size, unpack = len(data), LENGTH.unpack_from
        if size < at + LENGTH.size:
            return None
        count: int = unpack(data, at)[0]
        if count * ENTRY_BYTES_MIN > PEER_FRAME_BYTES_MAX:
            raise StreamError(f"a frame of {count} entries is more than a frame may hold")
        at += LENGTH.size
        if size - at < count * ENTRY_BYTES_MIN:
            return None
        bodies = []
        for _ in range(count):
            first = at + LENGTH.size
            if size < first:
                return None
            length = unpack(data, at)[0]
            if length > PEER_FRAME_BYTES_MAX:
                raise _too_long()
            at = first + length
            bodies.append(data[first:at])
        if size < at + LENGTH.size:
            return None
        commit: int = unpack(data, at)[0]
        term, before, decode = self._term, self._index, self._entry.decode
        index, entries = before, []
        try:
            for body in bodies:
                index += 1
                entries.append(decode(body, index, term))
        except MalformedMessage as error:
            raise StreamError(f"an entry on the stream of appends is malformed: {error}") from None
        self._index = index
        kind, to, from_ = MessageType.APPEND, self._receiver, self._sender
        message = Message(kind, to, from_, term, term, before, tuple(entries), commit)
        return message, at + LENGTH.size


def _length(data: bytes, at: int) -> int:
    length: int = LENGTH.unpack_from(data, at)[0]
    if length > PEER_FRAME_BYTES_MAX:
        raise _too_long()
    return length


def _too_long() -> StreamError:
    return StreamError("rafthttp: error limit exceeded")


def _malformed(error: MalformedMessage) -> StreamError:
    return StreamError(f"a message on a stream is malformed: {error}")
