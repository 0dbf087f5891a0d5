"""Django's handler, reading a body from the file it already is in (bodies.py)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler

SCOPE_KEY = "keydeck.body"


class _Received:
    """The messages of a request, and the file its body is in."""

    def __init__(self, receive: Any, file: Any) -> None:
        self._receive = receive
        self.file = file

    async def __call__(self) -> Any:
        return await self._receive()


class Handler(ASGIHandler):
    """Django's, but for where the body comes from."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        file = scope.pop(SCOPE_KEY, None)
        await super().__call__(scope, _Received(receive, file) if file else receive, send)

    async def read_body(self, receive: Any) -> Any:
        if not isinstance(receive, _Received):
            return await super().read_body(receive)
        message = await receive()  # daphne's own, of an empty body
        if message["type"] == "http.disconnect":
            receive.file.close()
            raise RequestAborted
        return receive.file
