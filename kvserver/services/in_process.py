"""Calls that come from inside the process, for handlers that expect the transport's `Call` and
`Stream`.

The JSON gateway and the Lock and Election services call the same handlers as gRPC clients do, so
that validation, auth and metrics are the same; nothing goes through a socket. What is here looks to
a handler like the transport's classes do, and no more of them is imitated than handlers use.
Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from kvserver.errors import Code, RequestError
from kvserver.transport import Method, MethodCounters, Peer, RpcError

Metadata = Mapping[str, str | bytes]
Handler = Callable[[Any, bytes], Any]
Log = Callable[[str, str, dict[str, Any]], None]
"""(level, message, fields)"""

HIGH_WATER_BYTES = 256 * 1024
"""Queued for a slow reader before `writable` turns false; the transport's own mark."""
DEADLINE_TEXT = "context deadline exceeded"
LOW_WATER_BYTES = HIGH_WATER_BYTES // 2


class InnerCall:
    """A unary call; its answer is awaited. `method` is None where no rule of a method is asked."""

    __slots__ = ("cancelled", "deadline", "future", "metadata", "method", "on_cancel", "peer")

    def __init__(self, metadata: Metadata, peer: Peer, method: Method | None = None) -> None:
        self.metadata = metadata
        self.peer = peer
        self.method = method
        self.deadline: float | None = None
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def done(self) -> bool:
        return self.future.done()

    def reply(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(body)

    def fail(self, code: int, message: str) -> None:
        if not self.future.done():
            self.future.set_exception(RequestError(message, Code(code)))

    def cancel(self) -> None:
        """The caller has gone."""
        self.cancelled = True
        self.future.cancel()
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None:
            on_cancel()

    async def run(self, body: bytes) -> bytes:
        """The reply of the call's method, within its deadline and counted as the transport counts
        calls. Raises what the handler raises."""
        assert self.method is not None
        counters, on_handled = self.method.counters, self.method.on_handled
        counters.started += 1
        counters.messages_received += 1
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        try:
            async with asyncio.timeout_at(self.deadline) as deadline:
                reply = await self.ask(self.method.handler, body)
        except BaseException as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                error = RequestError(DEADLINE_TEXT, Code.DEADLINE_EXCEEDED)
            code = code_of(error)
            counters.failed[code] = counters.failed.get(code, 0) + 1
            raise error from None
        else:
            counters.ok += 1
            counters.messages_sent += 1
            return reply
        finally:
            if on_handled is not None:
                on_handled(loop.time() - started_at)

    async def ask(self, handler: Handler, body: bytes) -> bytes:
        """The handler's answer. Raises what it raises, or `RequestError` for what it fails with."""
        reply = handler(self, body)
        if asyncio.iscoroutine(reply):
            return bytes(await reply)
        if reply is not None:
            return bytes(reply)
        try:
            return await self.future
        except asyncio.CancelledError:
            self.cancel()
            raise


class InnerStream:
    """A stream whose requests come from an iterator and whose replies are taken with `take`."""

    def __init__(
        self,
        metadata: Metadata,
        peer: Peer,
        requests: AsyncIterator[bytes],
        method: Method | None = None,
    ) -> None:
        self.metadata = metadata
        self.peer = peer
        self.method = method
        self.deadline: float | None = None
        self.cancelled = False
        self.done = False
        self.on_cancel: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.queued_bytes = 0
        self.failure: BaseException | None = None
        """Why the stream ended, if not well."""
        self._requests = requests
        self._replies: deque[bytes] = deque()
        self._is_full = False
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- for the handler

    def __aiter__(self) -> InnerStream:
        return self

    async def __anext__(self) -> bytes:
        if self.done:
            raise StopAsyncIteration
        body = await anext(self._requests)
        if self.method is not None:
            self.method.counters.messages_received += 1
        return body

    @property
    def writable(self) -> bool:
        return self.queued_bytes < HIGH_WATER_BYTES

    @property
    def queued_messages(self) -> int:
        return len(self._replies)

    def send(self, body: bytes) -> None:
        if self.done:
            return
        if self.method is not None:
            self.method.counters.messages_sent += 1
        self._replies.append(body)
        self.queued_bytes += len(body)
        self._is_full = self._is_full or not self.writable
        self._changed.set()

    def send_many(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.send(body)

    def send_headers(self) -> None:
        """There are none to send."""

    async def drain(self) -> None:
        while self._is_full and not self.done:
            self._drained.clear()
            await self._drained.wait()

    def fail(self, code: int, message: str) -> None:
        self._end(RequestError(message, Code(code)))
        if self._task is not None:
            self._task.cancel()  # it may be waiting for a request

    # -- for who opened it

    def start(self, work: Coroutine[Any, Any, None], seconds: float | None = None) -> None:
        """Run the handler in a task of its own, for so many seconds at most."""
        if self.method is not None:
            self.method.counters.started += 1
        if seconds is not None:
            self.deadline = self._loop.time() + seconds
            self._timer = self._loop.call_at(self.deadline, self._expire)
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._handler_done)

    async def take(self) -> bytes | None:
        """The next reply, or None at the end; raises what ended the stream."""
        while not self._replies:
            if self.done:
                if self.failure is not None:
                    raise self.failure
                return None
            self._changed.clear()
            await self._changed.wait()
        body = self._replies.popleft()
        self.queued_bytes -= len(body)
        if self._is_full and self.queued_bytes <= LOW_WATER_BYTES:
            self._is_full = False
            self._drained.set()
            if self.on_writable is not None:
                self._loop.call_soon(self._tell_writable)
        return body

    def close(self) -> None:
        """Nobody reads any more."""
        if not self.done:
            self.cancelled = True
            on_cancel = self.on_cancel
            self._end(RequestError("context canceled", Code.CANCELLED))
            if on_cancel is not None:
                on_cancel()
        if self._task is not None:
            self._task.cancel()

    def _expire(self) -> None:
        on_cancel = self.on_cancel
        self.cancelled = True
        self.fail(Code.DEADLINE_EXCEEDED, DEADLINE_TEXT)
        if on_cancel is not None:
            on_cancel()

    def _tell_writable(self) -> None:
        if self.on_writable is not None:
            self.on_writable()

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._end(RequestError("context canceled", Code.CANCELLED))
        else:
            self._end(task.exception())

    def _end(self, failure: BaseException | None) -> None:
        if self.done:
            return
        self.done = True
        self.failure = failure
        if self._timer is not None:
            self._timer.cancel()
        if self.method is not None:
            self._count(self.method.counters)
        self.on_cancel = self.on_writable = None
        self._changed.set()
        self._drained.set()

    def _count(self, counters: MethodCounters) -> None:
        if self.failure is None:
            counters.ok += 1
        else:
            code = code_of(self.failure)
            counters.failed[code] = counters.failed.get(code, 0) + 1


def code_of(error: BaseException) -> int:
    if isinstance(error, (RequestError, RpcError)):
        return int(error.code)
    if isinstance(error, asyncio.CancelledError):
        return int(Code.CANCELLED)
    return int(Code.INTERNAL)


def status_of(error: BaseException, path: str, log: Log) -> tuple[int, str]:
    """The gRPC status an exception becomes; an unforeseen one is logged, never shown."""
    if isinstance(error, (RequestError, RpcError)):
        return int(error.code), error.message
    log("error", "handler failed", {"method": path, "error": repr(error), "exc": error})
    return int(Code.INTERNAL), "internal error"
