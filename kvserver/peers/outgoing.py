"""One attached stream: a bounded queue of frames that is the body of a response.

Messages are encoded when they are queued, because the state of a msgapp stream follows their
order. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from kvserver.limits import PEER_STREAM_BYTES_MAX, PEER_STREAM_MESSAGES_MAX
from kvserver.peers.figures import LinkFigures
from kvserver.raft import Message

CHUNK_BYTES_MAX = 1024 * 1024
"""About what is handed to the socket at once: below that its back-pressure is felt."""


class Writer(Protocol):
    """frames.MessageWriter or frames.AppendWriter."""

    @property
    def heartbeat(self) -> bytes: ...

    def encode(self, message: Message) -> bytes: ...


class OutgoingStream:
    """What we write to one member on one stream."""

    def __init__(
        self,
        writer: Writer,
        on_closed: Callable[[OutgoingStream, int], None],
        figures: LinkFigures | None = None,
    ) -> None:
        """`on_closed(stream, messages lost)` is called once, however the stream ends."""
        self._figures = figures or LinkFigures()
        self._writer = writer
        self._on_closed = on_closed
        self._frames: list[bytes] = []
        self._messages = 0
        self._bytes = 0
        self._wanted: asyncio.Future[None] | None = None
        self._write_piece: Callable[[bytes], bool] | None = None
        self._is_closed = False
        self.stuck_heartbeats = 0
        """Link heartbeats in a row that found a queue of which nothing had left meanwhile."""

    @property
    def queued_messages(self) -> int:
        return self._messages

    @property
    def queued_bytes(self) -> int:
        return self._bytes

    def send(self, message: Message) -> bool:
        """Queue a message; False if the queue is full.

        Told before it is encoded: the other side never sees a gap in the state of the stream.
        """
        is_full = self._messages >= PEER_STREAM_MESSAGES_MAX or self._bytes >= PEER_STREAM_BYTES_MAX
        if is_full or self._is_closed:
            return False
        frame = self._writer.encode(message)
        size = len(frame)
        if not self._frames and self._write_piece is not None and self._write_piece(frame):
            self._figures.sent_bytes += size
            return True
        self._messages += 1
        self._bytes += size
        self._frames.append(frame)
        self._wake()
        return True

    def write_with(self, write_piece: Callable[[bytes], bool]) -> None:
        """The response has begun: a frame that finds the queue empty need not wait its turn there.
        With one put after the other that is a fifth of what a message costs."""
        self._write_piece = write_piece

    def send_heartbeat(self) -> None:
        """Show that the link lives, and notice one whose other end takes nothing."""
        if self._frames:
            self.stuck_heartbeats += 1
            return
        self.stuck_heartbeats = 0
        heartbeat = self._writer.heartbeat
        if self._write_piece is not None and self._write_piece(heartbeat):
            self._figures.sent_bytes += len(heartbeat)
            return
        self._bytes += len(heartbeat)
        self._frames.append(heartbeat)
        self._wake()

    def close(self) -> None:
        """End the body: replaced by a newer stream, or the member is gone."""
        if self._is_closed:
            return
        self._is_closed = True
        self._write_piece = None
        lost, self._messages, self._bytes = self._messages, 0, 0
        self._frames.clear()
        self._wake()
        self._on_closed(self, lost)

    async def body(self) -> AsyncIterator[bytes]:
        """The frames as they come, until `close`. Ends the stream when the reader goes away."""
        try:
            while not self._is_closed:
                if not self._frames:
                    self._wanted = asyncio.get_running_loop().create_future()
                    await self._wanted
                    continue
                data = self._take()
                self._figures.sent_bytes += len(data)
                yield data
        finally:
            self._write_piece = None
            self.close()

    def _take(self) -> bytes:
        self.stuck_heartbeats = 0  # slow is not stuck
        frames = self._frames
        if self._bytes <= CHUNK_BYTES_MAX:
            data = b"".join(frames)
            frames.clear()
            self._messages = self._bytes = 0
            return data
        data = frames.pop(0)
        self._bytes -= len(data)
        self._messages = max(self._messages - 1, 0)
        return data

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not wanted.done():
            wanted.set_result(None)
