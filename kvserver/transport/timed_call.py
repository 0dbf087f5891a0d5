"""A unary call that tells its method how long it took, from its headers to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.transport.call import Call
from kvserver.transport.head import RequestHead
from kvserver.transport.method import Method

if TYPE_CHECKING:
    from kvserver.transport.stream_layer import StreamLayer


class TimedCall(Call):
    def __init__(
        self, connection: StreamLayer, stream_id: int, head: RequestHead, method: Method
    ) -> None:
        super().__init__(connection, stream_id, head, method)
        self._started = connection.endpoint.loop.time()

    def reply(self, body: bytes) -> None:
        if not self.done:
            super().reply(body)
            self._tell()

    def _settle(self, code: int) -> None:
        super()._settle(code)
        self._tell()

    def _tell(self) -> None:
        on_handled = self.method.on_handled
        if on_handled is not None:
            on_handled(self.connection.endpoint.loop.time() - self._started)
