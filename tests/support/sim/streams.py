"""Byte streams between machines, as asyncio's transports: what runs on sockets runs on them.

What is written arrives in order, in pieces, after a while, and no faster than the other end takes
it. While a link is cut the pieces are tried again, as TCP does. A process that ends leaves a kernel
that says so, or a machine without power that says nothing: then the other end learns of it when it
sends something to a machine that is up again, or never.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.sim.machine import Process
    from tests.support.sim.network import Fabric, Link

Factory = Callable[[], asyncio.BaseProtocol]
RETRY_SECONDS = 0.2
RETRY_SECONDS_MAX = 2.0


class Sizes:
    """Of one connection, chosen by chance: bytes in one piece, bytes that wait at either end."""

    def __init__(self, rng: random.Random) -> None:
        self.piece_bytes_max = rng.choice((1500, 9000, 1 << 20))
        self.unread_bytes_max = rng.choice((4096, 65536))
        self.unsent_bytes_max = rng.choice((4096, 65536))


class End(asyncio.Transport):
    """One end of a connection. Owner: its process' loop."""

    def __init__(self, process: Process, link: Link, sizes: Sizes) -> None:
        """`link` leads from here to the other end."""
        super().__init__({"peername": (link[1], 0)})
        self.other: End
        self._process = process
        self._fabric: Fabric = process.fabric
        self._world = process.world
        self._loop = process.loop
        self._link = link
        self._sizes = sizes
        self._protocol: Any = None
        self._unsent = bytearray()
        self._unread = bytearray()
        self._is_sending = False
        self._is_read_due = False
        self._is_reading = True
        self._is_writer_held = False
        self._is_closing = False
        self._has_farewell = False
        """That nothing more is written has been sent, or has come."""
        self._has_ended = False
        self._is_over = False
        self._is_gone = False
        """Its process has ended."""
        process.on_end.append(self._process_ended)

    # -- asyncio's side

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        self._is_reading = True
        self._have_read()

    def write(self, data: Any) -> None:
        if self._is_closing or self._loop.is_dead:
            return
        self._unsent += data
        self._send()
        if len(self._unsent) > self._sizes.unsent_bytes_max and not self._is_writer_held:
            self._is_writer_held = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """After what is written has left."""
        if not self._is_closing and not self._loop.is_dead:
            self._is_closing = True
            self._is_reading = False
            self._send()

    def abort(self) -> None:
        if self._is_over or self._loop.is_dead:
            return
        self._unsent.clear()
        self._say(self.other._reset)
        self._lose(None)

    # -- out

    def _send(self) -> None:
        """One piece at a time is under way."""
        if self._is_sending or self._is_over or self._is_gone:
            return
        if not self._unsent:
            if self._is_closing and not self._has_farewell:
                self._has_farewell = True
                self._say(self.other._ended)
                self._lose(None)
            return
        room = self._sizes.unread_bytes_max - len(self.other._unread)
        if room > 0:
            rng = self._fabric.stream_rng
            size = min(len(self._unsent), room, rng.randint(1, self._sizes.piece_bytes_max))
            self._is_sending = True
            self._world.call_later(self._delay(), self._fabric, self._arrive, size, 0)

    def _delay(self) -> float:
        lost = self._fabric.stream_rng.random() < self._fabric.weather.drop
        return self._fabric.delay(self._link) + (RETRY_SECONDS if lost else 0.0)

    def _retry(self, attempt: int, again: Callable[..., None], *args: Any) -> None:
        seconds = min(RETRY_SECONDS * 2**attempt, RETRY_SECONDS_MAX)
        self._world.call_later(seconds, self._fabric, again, *args, attempt + 1)

    def _arrive(self, size: int, attempt: int) -> None:
        if self._is_over or self._is_gone:
            return
        other = self.other
        if self._link in self._fabric.cut or (other._is_gone and not other._process.machine.is_up):
            self._retry(attempt, self._arrive, size)
            return
        if other._is_gone or other._is_over:  # nobody knows this connection there
            self._loop.call_soon(self._reset)
            return
        other._unread += self._unsent[:size]
        del self._unsent[:size]
        self._is_sending = False
        other._have_read()
        if self._is_writer_held and len(self._unsent) <= self._sizes.unsent_bytes_max // 4:
            self._is_writer_held = False
            self._loop.call_soon(self._resume_writer)
        self._send()

    def _resume_writer(self) -> None:
        if not self._is_over:
            self._protocol.resume_writing()

    def _say(self, what: Callable[[], None], attempt: int = 0) -> None:
        """A word about the connection itself; the kernel sees to it."""
        self._world.call_later(self._delay(), self._fabric, self._said, what, attempt)

    def _said(self, what: Callable[[], None], attempt: int) -> None:
        if self._link in self._fabric.cut:
            self._retry(attempt, self._said, what)
        else:
            self.other._loop.call_soon(what)

    # -- in

    def _have_read(self) -> None:
        if self._is_reading and not self._is_read_due and (self._unread or self._has_ended):
            self._is_read_due = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_read_due = False
        if self._is_over or not self._is_reading or self._protocol is None:
            return
        if self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            self._protocol.data_received(data)
            self._world.call_later(self._fabric.delay(self._link), self._fabric, self.other._send)
        if self._has_ended and not self._is_closing and not self._protocol.eof_received():
            self.close()

    def _ended(self) -> None:
        self._has_ended = True
        self._have_read()

    def _reset(self) -> None:
        if not self._is_over:
            self._unsent.clear()
            self._lose(ConnectionResetError("the connection was reset by the other side"))

    # -- the end

    def _lose(self, error: Exception | None) -> None:
        self._is_over = self._is_closing = True
        self._is_reading = False
        self._process.on_end.remove(self._process_ended)
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def _process_ended(self) -> None:
        self._is_gone = True
        if self._fabric.stream_rng.random() < self._fabric.farewell_chance:
            self._say(self.other._reset)


async def dial(process: Process, factory: Factory, host: str) -> tuple[End, asyncio.BaseProtocol]:
    """What `loop.create_connection` does. OSError when nobody listens there; waits in vain while
    a link is cut."""
    fabric, loop = process.fabric, process.loop
    made: asyncio.Future[End] = loop.create_future()
    there, back = (process.name, host), (host, process.name)
    if host not in fabric.urls.values():
        raise OSError(f"no address for {host}")

    def connected(near: End) -> None:
        if made.done():
            near.abort()
        else:
            made.set_result(near)

    def refuse() -> None:
        if not made.done():
            made.set_exception(ConnectionRefusedError("connection refused"))

    def serve(other: Process) -> None:
        if loop.is_dead:
            return
        if other.loop.accept is None:
            fabric.answer(back, loop, refuse)
            return
        sizes = Sizes(fabric.stream_rng)
        near, far = End(process, there, sizes), End(other, back, sizes)
        near.other, far.other = far, near
        far.set_protocol(other.loop.accept())
        far.get_protocol().connection_made(far)
        fabric.answer(back, loop, connected, near)

    fabric.connect(there, serve, lambda: fabric.answer(back, loop, refuse))
    near = await made
    protocol = factory()
    near.set_protocol(protocol)
    protocol.connection_made(near)
    near.resume_reading()
    return near, protocol
