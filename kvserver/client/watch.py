"""One watch stream to one member: what is said goes out, what arrives comes in, in order.

A `WatchStream` is a resource: iterate it from one thread, `close` it from any. It knows nothing
of resuming (follow.py) or of when history has been read to its end (replay.py).
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from kvserver.client.client import Client, monotonic
from kvserver.client.config import Endpoint
from kvserver.client.failure import CallFailed
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

PROGRESS_SECONDS = 0.1
"""How often progress is asked for while somebody waits for it: a member that is still replaying
answers nothing (spec/watch.md W11), so the question is repeated."""

SILENT_SECONDS = 3.0
"""A stream on which nothing came for so long is checked: a member that stands still (a stopped
process, a network that swallows packets) breaks no connection for a long time."""

_NAMES = {code.name.title().replace("_", ""): code for code in Code}
"""Codes as Go prints them: PermissionDenied."""

COMPACTED = "required revision has been compacted"


class WatchStream:
    """A bidirectional Watch call. Raises `CallFailed` when it ends, `close` ends it quietly."""

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        *,
        seconds: float | None = None,
        needs_leader: bool = False,
        is_checked: bool = False,
    ) -> None:
        """`is_checked`: a silent member is asked whether it is there, and the stream ends when it
        is not."""
        self.endpoint = endpoint
        self._client = client
        self._is_checked = is_checked
        self._is_lost = False
        self._heard_at = monotonic()
        self.asks_progress = False
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        self._is_closed = False
        extra = (("hasleader", "true"),) if needs_leader else ()
        self._call: Any = client.stream(
            endpoint, lambda stubs: stubs.watch.Watch, self._outgoing(), seconds, extra
        )

    def create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        # Without fragments a batch of a thousand large values would not fit one message (D6, D7).
        request.fragment = True
        self._requests.put(rpc_pb2.WatchRequest(create_request=request))

    def cancel(self, watch_id: int) -> None:
        request = rpc_pb2.WatchCancelRequest(watch_id=watch_id)
        self._requests.put(rpc_pb2.WatchRequest(cancel_request=request))

    def close(self) -> None:
        self._is_closed = True
        self._requests.put(None)
        self._call.cancel()

    def __iter__(self) -> Iterator[rpc_pb2.WatchResponse]:
        try:
            for response in self._call:
                self._heard_at = monotonic()
                yield response
        except grpc.RpcError as error:
            if self._is_lost:
                text = "the member does not answer any more"
                raise CallFailed(
                    Code.UNAVAILABLE, text, str(self.endpoint), was_sent=True
                ) from None
            if not self._is_closed:
                raise CallFailed.from_rpc(error, str(self.endpoint), is_write=False) from None

    def _outgoing(self) -> Iterator[rpc_pb2.WatchRequest]:
        """Runs in a thread of gRPC's, which ends with the call."""
        while True:
            try:
                request = self._requests.get(timeout=PROGRESS_SECONDS)
            except queue.Empty:
                if self._is_closed or not self._call_is_active():
                    return
                if self._is_checked and not self._still_there():
                    return
                if self.asks_progress:
                    yield rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())
                continue
            if request is None:
                return
            yield request

    def _still_there(self) -> bool:
        if monotonic() - self._heard_at < SILENT_SECONDS:
            return True
        self._heard_at = monotonic()
        if self._client.answers(self.endpoint):
            return True
        self._is_lost = True
        self._call.cancel()
        return False

    def _call_is_active(self) -> bool:
        call = getattr(self, "_call", None)
        return call is None or bool(call.is_active())


def is_progress(response: rpc_pb2.WatchResponse) -> bool:
    """Nothing but a revision: how far the member has shown everything (W12)."""
    return not (response.events or response.created or response.canceled)


def refusal(response: rpc_pb2.WatchResponse, endpoint: Endpoint) -> CallFailed:
    """A watch that was not created, or ended for another reason than compaction, as a failure.

    The reason is a text that may wrap a gRPC status (A1).
    """
    text = response.cancel_reason
    code, message = Code.UNKNOWN, text
    if text.startswith("rpc error: code = ") and " desc = " in text:
        name, _, message = text.removeprefix("rpc error: code = ").partition(" desc = ")
        code = _NAMES.get(name, Code.UNKNOWN)
    elif "permission denied" in text:
        code = Code.PERMISSION_DENIED
    elif "watcher range is empty" in text:
        code = Code.INVALID_ARGUMENT
    elif COMPACTED in text:
        code = Code.OUT_OF_RANGE
    return CallFailed(code, message, str(endpoint), was_sent=True)
