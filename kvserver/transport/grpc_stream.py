"""What unary calls and streams have in common: method, deadline, status, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from kvserver.transport import header_blocks
from kvserver.transport.errors import CANCELLED, DEADLINE_EXCEEDED
from kvserver.transport.head import RequestHead
from kvserver.transport.http2_stream import Http2Stream
from kvserver.transport.method import Method

if TYPE_CHECKING:
    from kvserver.transport.deadlines import Expiring
    from kvserver.transport.stream_layer import StreamLayer


class GrpcStream(Http2Stream):
    deadline: float | None = None
    """Loop time, or None."""
    on_cancel: Callable[[], None] | None = None
    """Called once if the call ends before its answer: reset, disconnect or deadline."""
    _slot: set[Expiring] | None = None
    _task: asyncio.Task[Any] | None = None

    def __init__(
        self, connection: StreamLayer, stream_id: int, head: RequestHead, method: Method
    ) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.head = head
        self.send_window = connection.initial_window
        self.method = method
        method.counters.started += 1

    def set_timeout(self, seconds: float) -> None:
        endpoint = self.connection.endpoint
        self.deadline = deadline = endpoint.loop.time() + seconds
        self._slot = endpoint.wheel.add(deadline, self)

    def fail(self, code: int, message: str) -> None:
        """Ends the call with this status. Nothing happens if it has already ended."""
        if self.done:
            return
        self._settle(code)
        if self.headers_sent:
            self._finish(header_blocks.grpc_trailers(code, message))
        else:
            self._finish(header_blocks.grpc_trailers_only(code, message))

    def expire(self) -> None:
        """The deadline has passed (called by the wheel)."""
        self._slot = None
        self._discard_queue()
        self._cancel_with(DEADLINE_EXCEEDED, "context deadline exceeded")

    def closed(self) -> None:
        self.cancelled = True
        if self.done:
            return
        on_cancel, task = self.on_cancel, self._task
        self._settle(CANCELLED)
        self._stop_handler(on_cancel, task)

    def _cancel_with(self, code: int, message: str) -> None:
        if self.done:
            return
        on_cancel, task = self.on_cancel, self._task
        self.cancelled = True
        self.fail(code, message)
        self._stop_handler(on_cancel, task)

    def _stop_handler(
        self, on_cancel: Callable[[], None] | None, task: asyncio.Task[Any] | None
    ) -> None:
        if task is not None:
            task.cancel()
        if on_cancel is not None:
            try:
                on_cancel()
            except Exception as error:
                self.connection.endpoint.status_of(error, self.method.path)

    def _fail_with(self, error: BaseException) -> None:
        if not self.done:
            code, message = self.connection.endpoint.status_of(error, self.method.path)
            self.fail(code, message)

    def _settle(self, code: int) -> None:
        """The outcome is decided: count it, leave the wheel, drop what could form cycles."""
        self.done = True
        if self._slot is not None:
            self._slot.discard(self)
            self._slot = None
        self.on_cancel = None
        self._task = None
        if code:
            failed = self.method.counters.failed
            failed[code] = failed.get(code, 0) + 1
        else:
            self.method.counters.ok += 1

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.connection.endpoint.loop.create_task(work)
        if not task.done():
            self._task = task
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            self.fail(CANCELLED, "context canceled")
            return
        error = task.exception()
        if error is not None:
            self._fail_with(error)
        elif not self.done:
            self._returned(task.result())

    def _returned(self, result: Any) -> None:
        raise NotImplementedError
