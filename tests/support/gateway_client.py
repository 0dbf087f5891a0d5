"""A client of the JSON gateway over plain sockets, for a member on 127.0.0.1."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SECONDS_MAX = 60.0
"""Only an upper bound for a test that hangs."""


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Refused(AssertionError):
    """A stream that did not begin."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status


class GatewayClient:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; `body` is text, or becomes JSON."""
        with self._connected() as connection:
            connection.request(method, path, _text(body), dict(headers or {}))
            response = connection.getresponse()
            return _answer(response, response.read())

    @contextmanager
    def stream(
        self, path: str, *bodies: Any, headers: Mapping[str, str] | None = None
    ) -> Iterator[Iterator[Any]]:
        """The lines of a stream whose requests are `bodies`; it ends with the block."""
        with self._connected() as connection:
            connection.request("POST", path, " ".join(map(_text, bodies)), dict(headers or {}))
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(response.status, response.read())
            yield (json.loads(line) for line in response)

    @contextmanager
    def _connected(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)
        try:
            yield connection
        finally:
            connection.close()


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps({} if body is None else body)


def _answer(response: http.client.HTTPResponse, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body)
