"""A TCP proxy between members, in which the network breaks: per pair and per direction.

Members advertise the proxy's ports and listen on their own. Who dials is told by the kernel: the
socket at the other end of an accepted connection belongs to one of the members' processes
(`/proc`), so that nothing about the protocol is assumed, and TLS passes too.

A *path* is what flows from one member to another, on whoever's connection. A path that is cut
holds everything, ends of connections included, as a network without an answer does: nobody is
told. When it heals the bytes go on; what is held in between is bounded by the sockets' buffers.

Owner: the proxy's own thread, with an event loop; the methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, TypeVar

from tests.support.socket_owner import socket_owner

T = TypeVar("T")
CHUNK_BYTES = 65536
ANSWER_SECONDS_MAX = 30.0
Direction = tuple[str, str]


@dataclass(slots=True)
class _Path:
    """The state of one path. Owner: the proxy's loop."""

    is_open: asyncio.Event
    delay_seconds: float = 0.0


@dataclass(eq=False, slots=True)
class _Link:
    """One connection, from the member that dialled to the one that listens."""

    dialler: str
    listener: str
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter] = field(repr=False)

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class PeerProxy:
    """`pids` tells the processes of the members by name, as they are now."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._ways: dict[Direction, _Path] = {}
        self._links: set[_Link] = set()
        self._servers: dict[str, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="peer-proxy")
        self._thread.start()

    def open(self, name: str, port: int, target_port: int) -> None:
        """Listen on `port` for who wants to reach the member `name`, which is at `target_port`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # A task of our own: that of the server would complain when it is cancelled.
            task = asyncio.create_task(self._serve(name, target_port, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        async def start() -> None:
            await self._shut(name)
            self._servers[name] = await asyncio.start_server(accept, "127.0.0.1", port)

        self._run(start())

    def forget(self, name: str) -> None:
        """Listen for this member no more."""
        self._run(self._shut(name))

    def cut(self, paths: Iterable[Direction]) -> None:
        wanted = list(paths)

        async def change() -> None:
            for path in wanted:
                self._way(path).is_open.clear()

        self._run(change())

    def slow(self, paths: Iterable[Direction], seconds: float) -> None:
        """Each piece that goes this way is held for `seconds` first."""
        wanted = list(paths)

        async def change() -> None:
            for path in wanted:
                self._way(path).delay_seconds = seconds

        self._run(change())

    def reset(self, names: Iterable[str]) -> None:
        """Break all connections from and to these members, at once and audibly."""
        wanted = set(names)

        async def change() -> None:
            for link in list(self._links):
                if wanted & {link.dialler, link.listener}:
                    link.abort()

        self._run(change())

    def heal(self) -> None:
        """Everything flows again, without delay."""

        async def change() -> None:
            for way in self._ways.values():
                way.delay_seconds = 0.0
                way.is_open.set()

        self._run(change())

    def links(self) -> list[Direction]:
        """Who has dialled whom, one per open connection."""

        async def look() -> list[Direction]:
            return [(link.dialler, link.listener) for link in self._links]

        return self._run(look())

    def close(self) -> None:
        async def end() -> None:
            for name in list(self._servers):
                await self._shut(name)
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_SECONDS_MAX)
        self._loop.close()

    def _run(self, what: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        return future.result(ANSWER_SECONDS_MAX)

    def _way(self, path: Direction) -> _Path:
        way = self._ways.get(path)
        if way is None:
            way = self._ways[path] = _Path(asyncio.Event())
            way.is_open.set()
        return way

    def _is_whole(self) -> bool:
        return all(way.is_open.is_set() for way in self._ways.values())

    async def _shut(self, name: str) -> None:
        server = self._servers.pop(name, None)
        if server is not None:
            server.close()
        for link in list(self._links):
            if name in (link.dialler, link.listener):
                link.abort()

    async def _serve(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            answers, requests = None, None
        if requests is None and self._is_whole():
            writer.transport.abort()  # nobody is there, and nothing hides it
            return
        own = writer.get_extra_info("sockname")[1]
        dialler = socket_owner(writer.get_extra_info("peername")[1], own, self._pids())
        # Nobody's: the dialler is gone already, or no member; it gets no further.
        if dialler is None or answers is None or requests is None:
            if dialler is not None:
                await self._way((name, dialler)).is_open.wait()
            for each in (writer, requests):
                if each is not None:
                    each.transport.abort()
            return
        link = _Link(dialler, name, (writer, requests))
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, requests, (dialler, name)))
                both.create_task(self._pump(answers, writer, (name, dialler)))
        except* OSError:
            pass
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: Direction
    ) -> None:
        """Raises ConnectionResetError at either end, so that the other direction ends with it."""
        way = self._way(path)
        while True:
            try:
                piece = await reader.read(CHUNK_BYTES)
            except OSError:
                piece = b""
            if way.delay_seconds:
                await asyncio.sleep(way.delay_seconds)
            await way.is_open.wait()
            if not piece:
                raise ConnectionResetError
            writer.write(piece)
            await writer.drain()


def between(ones: Iterable[str], others: Iterable[str]) -> list[Direction]:
    """All paths from one of the first to one of the second."""
    return [(a, b) for a in ones for b in others if a != b]


def apart(*groups: Iterable[str]) -> list[Direction]:
    """All paths between members of different groups."""
    sides = [list(group) for group in groups]
    return [path for one, other in permutations(sides, 2) for path in between(one, other)]
