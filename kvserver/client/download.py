"""One answer in many messages, read as fast as the reader likes and no faster.

gRPC's flow control holds the sender back: what is in memory is a message and what the window
allows, however large the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from kvserver.client.client import Client, Pick
from kvserver.client.config import Endpoint
from kvserver.client.failure import CallFailed


class Download:
    """A server stream from one member. Iterate it from one thread, `cancel` it from any."""

    def __init__(
        self, client: Client, endpoint: Endpoint, pick: Pick, request: Any, seconds: float
    ) -> None:
        self.endpoint = endpoint
        self._is_cancelled = False
        self._call: Any = client.stream(endpoint, pick, request, seconds)

    def __iter__(self) -> Iterator[Any]:
        """The messages. Raises `CallFailed` when the stream breaks; `cancel` ends it quietly."""
        try:
            yield from self._call
        except grpc.RpcError as error:
            if not self._is_cancelled:
                raise CallFailed.from_rpc(error, str(self.endpoint), is_write=False) from None

    def cancel(self) -> None:
        self._is_cancelled = True
        self._call.cancel()
