"""A plain HTTP request and its response, the same over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from kvserver.transport.peer import Peer


class HttpError(Exception):
    """The request is answered with this status and a line of text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    """Percent-decoding is the handler's business."""
    query: str
    headers: Mapping[str, str]
    """Lower-case names; the values of a repeated name joined with a comma."""
    body: bytes
    peer: Peer
    chunks: AsyncIterator[bytes] | None = None
    """The body as it arrives, where the server was asked to stream it; `body` is empty then."""


WritePiece = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | AsyncIterator[bytes] = b""
    """An iterator is sent piece by piece, and is closed when the peer goes away."""
    on_streaming: Callable[[WritePiece], None] | None = None
    """Told, when an iterator's turn has come, how to write a piece of the body without the two
    turns of the loop that an iterator takes. That says False when the peer takes nothing at the
    moment: then it is the iterator's again. HTTP/1.1 only."""
