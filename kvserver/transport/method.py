"""A gRPC method as the transport knows it: a path, a kind, a handler, a bound."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from kvserver.transport.counters import MethodCounters

Handler = Callable[..., Any]
"""`unary`: (call, body) -> bytes | None, or a coroutine function of the same that gives bytes.
`stream`: a coroutine function of (stream)."""


class Method:
    __slots__ = (
        "counters",
        "handler",
        "is_task",
        "is_unary",
        "kind",
        "on_handled",
        "path",
        "request_bytes_max",
    )

    def __init__(
        self,
        path: str,
        kind: Literal["unary", "stream"],
        handler: Handler,
        request_bytes_max: int,
    ) -> None:
        assert path.startswith("/") and path.count("/") == 2, path
        self.path = path
        self.kind = kind
        self.handler = handler
        self.request_bytes_max = request_bytes_max
        self.is_unary = kind == "unary"
        self.is_task = inspect.iscoroutinefunction(handler)
        assert self.is_unary or self.is_task, f"{path}: a stream handler is a coroutine function"
        self.counters = MethodCounters()
        self.on_handled: Callable[[float], None] | None = None
        """Told how many seconds each unary call took, if somebody wants to know."""
