"""Calls of clients over the simulated network: unary ones and streams.

A connection keeps its order and loses nothing in the middle: what a cut link would lose breaks it,
and both ends hear of that after a while, as by keep-alive pings.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kvserver.errors import RequestError
from kvserver.services.in_process import InnerStream
from kvserver.transport import Peer
from tests.support.sim.network import Fabric, Link

if TYPE_CHECKING:
    from tests.support.sim.loop import SimLoop
    from tests.support.sim.machine import Process

SOMEBODY = Peer("sim")
OPERATOR = Peer("sim", True, "root")
"""Who comes with root's certificate: while auth is enabled, all but the users (users.py)."""
UNAVAILABLE = 14
BREAK_SECONDS = 1.5
"""Until an end of a connection learns that the other is out of reach."""


class ServerCall:
    """What a unary handler sees of a call; its answer goes back once."""

    __slots__ = (
        "_answer",
        "cancelled",
        "deadline",
        "done",
        "metadata",
        "method",
        "on_cancel",
        "peer",
    )

    def __init__(self, method: Any, answer: Callable[[Any], None], token: str | None) -> None:
        self.metadata: Mapping[str, str] = {"token": token} if token else {}
        self.peer = OPERATOR if token is None else SOMEBODY
        self.method = method
        self.deadline = None
        self.cancelled = False
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self._answer = answer

    def reply(self, body: bytes) -> None:
        if not self.done:
            self.done = True
            self._answer(body)

    def fail(self, code: int, message: str) -> None:
        if not self.done:
            self.done = True
            self._answer(RequestError(message, code))  # type: ignore[arg-type]

    def cancel(self) -> None:
        """The caller has given up."""
        if not self.done:
            self.done = self.cancelled = True
            on_cancel, self.on_cancel = self.on_cancel, None
            if on_cancel is not None:
                on_cancel()


class Refused(Exception):
    """Nobody listens there: the call has surely not happened."""


class Broken(Exception):
    """The connection broke: nobody knows."""


def call(
    fabric: Fabric,
    loop: SimLoop,
    client: str,
    target: str,
    path: str,
    body: bytes,
    settle: Callable[[Any, str], None],
    token: str | None = None,
) -> Callable[[], None]:
    """Ask; `settle(bytes or exception, life of the member)` runs on the client's loop, perhaps
    more than once. Returns what cancels the call. Without a token the certificate is root's, with
    an empty one the caller is nobody."""
    there, back = (client, target), (target, client)
    served: list[tuple[Process, ServerCall]] = []

    def refused() -> None:
        fabric.answer(back, loop, settle, Refused(), target)

    def serve(process: Process) -> None:
        if not process.is_serving:
            refused()
            return

        def answer(outcome: Any) -> None:
            process.open_calls.pop(server_call, None)
            fabric.answer(back, loop, settle, outcome, process.life)

        def broke() -> None:
            fabric.answer(back, loop, settle, Broken(), process.life)

        method = process.methods[path]
        server_call = ServerCall(method, answer, token)
        served.append((process, server_call))
        process.open_calls[server_call] = broke
        try:
            reply = method.handler(server_call, body)
        except RequestError as error:
            server_call.fail(error.code, error.message)
        else:
            if reply is not None:
                server_call.reply(reply)

    def cancel() -> None:
        for process, server_call in served:
            process.open_calls.pop(server_call, None)
            fabric.world.call_later(fabric.delay(there), process.loop, server_call.cancel)

    fabric.connect(there, serve, refused)
    return cancel


class Requests:
    """The requests of a stream as they come, for `InnerStream`."""

    def __init__(self) -> None:
        self._bodies: deque[bytes] = deque()
        self._wanted: asyncio.Future[None] | None = None

    def feed(self, body: bytes) -> None:
        self._bodies.append(body)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def __anext__(self) -> bytes:
        while not self._bodies:
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._bodies.popleft()


class StreamPipe:
    """One stream between a client and a member's process."""

    def __init__(
        self,
        fabric: Fabric,
        loop: SimLoop,
        client: str,
        target: str,
        path: str,
        on_body: Callable[[bytes], None],
        on_broken: Callable[[str], None],
        read_seconds: float = 0.0,
    ) -> None:
        """`read_seconds`: how long the client takes for each response."""
        self.is_broken = False
        self.life = target
        self._fabric = fabric
        self._loop = loop
        self._there: Link = client, target
        self._back: Link = target, client
        self._path = path
        self._on_body = on_body
        self._on_broken = on_broken
        self.read_seconds = read_seconds
        self._process: Process | None = None
        self._inner: InnerStream | None = None
        self._requests = Requests()
        self._last: dict[Link, float] = {}
        self._pass(self._there, fabric, self._open)

    # -- the client's side

    def send(self, body: bytes) -> None:
        self._pass(self._there, self._fabric, self._feed, body)

    def close(self) -> None:
        """The client goes away."""
        if not self.is_broken:
            self.is_broken = True
            self._fabric.world.call_later(0.01, self._fabric, self._close_server)

    # -- underway

    def _pass(self, link: Link, owner: Any, callback: Callable[..., None], *args: Any) -> None:
        if self.is_broken:
            return
        fabric = self._fabric
        if link in fabric.cut:
            self._break("the link is cut")
            return
        when = max(self._last.get(link, 0.0), fabric.world.now + fabric.delay(link))
        self._last[link] = when
        fabric.world.call_at(when, owner, self._passed, link, callback, args)

    def _passed(self, link: Link, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.is_broken:
            return
        if link in self._fabric.cut:
            self._break("the link was cut")
            return
        callback(*args)

    def _break(self, reason: str) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        world = self._fabric.world
        world.call_later(BREAK_SECONDS, self._fabric, self._close_server)
        world.call_later(BREAK_SECONDS, self._loop, self._on_broken, reason)

    def _close_server(self) -> None:
        process, inner = self._process, self._inner
        if process is not None and inner is not None:
            process.open_calls.pop(self, None)
            process.loop.call_soon(inner.close)

    # -- the server's side

    def _open(self) -> None:
        process = self._fabric.processes.get(self._there[1])
        if process is None or not process.is_serving:
            self._break("refused")
            return
        self._process, self.life = process, process.life
        process.open_calls[self] = lambda: self._break("the member is gone")
        process.loop.call_soon(self._serve, process)

    def _serve(self, process: Process) -> None:
        method = process.methods[self._path]
        self._inner = InnerStream({}, OPERATOR, self._requests, method)  # type: ignore[arg-type]
        self._inner.start(self._run(method, self._inner))
        process.loop.create_task(self._pump(process, self._inner))

    async def _run(self, method: Any, inner: InnerStream) -> None:
        await method.handler(inner)

    def _feed(self, body: bytes) -> None:
        if self._process is not None:
            self._process.loop.call_soon(self._requests.feed, body)

    async def _pump(self, process: Process, inner: InnerStream) -> None:
        reason = "the stream ended"
        try:
            while (body := await inner.take()) is not None:
                if self.read_seconds:
                    await asyncio.sleep(self.read_seconds)
                self._pass(self._back, self._loop, self._on_body, body)
        except RequestError as error:
            reason = error.message
        self._break(reason)
