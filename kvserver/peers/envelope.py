"""The head of a snapshot's body: length (8, big-endian) and the marshalled SNAPSHOT message; the
raw database image follows to the end (spec/peer.md §4.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kvserver.limits import SNAPSHOT_ENVELOPE_BYTES_MAX
from kvserver.peers.frames import LENGTH
from kvserver.peers.identity import RefusedPeer
from kvserver.raft import Message, MessageType
from kvserver.raft.codec import MalformedMessage, decode_message, encode_message


def encode_envelope(message: Message) -> bytes:
    body = encode_message(message)
    return LENGTH.pack(len(body)) + body


async def read_envelope(chunks: AsyncIterator[bytes]) -> tuple[Message, bytes]:
    """The message, and what has come of the image with it. Raises `RefusedPeer`."""
    held = b""
    wanted = LENGTH.size
    async for chunk in chunks:
        held += chunk
        if len(held) >= LENGTH.size:
            wanted = LENGTH.size + LENGTH.unpack_from(held)[0]
            if wanted > SNAPSHOT_ENVELOPE_BYTES_MAX:
                raise RefusedPeer(400, "failed to decode raft message (it is too long)")
        if len(held) >= LENGTH.size and len(held) >= wanted:
            break
    else:
        raise RefusedPeer(400, "failed to decode raft message (unexpected EOF)")
    try:
        message = decode_message(held[LENGTH.size : wanted])
    except MalformedMessage as error:
        raise RefusedPeer(400, f"failed to decode raft message ({error})") from None
    if message.type is not MessageType.SNAPSHOT or message.snapshot is None:
        raise RefusedPeer(400, "wrong raft message type")
    return message, held[wanted:]
