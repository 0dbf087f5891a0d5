"""A connection before its protocol is known: TLS handshake, then the first bytes.

Plain text: the HTTP/2 preface or anything else (spec/wire-api.md §3.4). TLS: the protocol of ALPN,
and the first bytes where the client named none. Handshake and preface each have a deadline, and
only so many handshakes run at once. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import ssl

from kvserver.transport import frames
from kvserver.transport.connection import Http2Connection
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.http1 import Http1Connection

_TLS_HANDSHAKE = 0x16


class Handshakes:
    """How many TLS handshakes of a listener are in progress."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


class Accepted(asyncio.Protocol):
    def __init__(
        self, endpoint: Endpoint, context: ssl.SSLContext | None, handshakes: Handshakes
    ) -> None:
        self._endpoint = endpoint
        self._context = context
        self._handshakes = handshakes
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._secured = context is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")
        self._transport = transport  # type: ignore[assignment]
        endpoint = self._endpoint
        endpoint.counters.connections_accepted += 1
        if self._context is None:
            self._await_preface()
            return
        if self._handshakes.now >= endpoint.limits.handshakes_max:
            self._reject("too many TLS handshakes in progress")
            return
        self._transport.pause_reading()  # type: ignore[union-attr]
        self._handshakes.now += 1
        self._task = endpoint.loop.create_task(self._handshake(self._context))

    async def _handshake(self, context: ssl.SSLContext) -> None:
        endpoint = self._endpoint
        assert self._transport is not None
        try:
            secured = await endpoint.loop.start_tls(
                self._transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=endpoint.limits.handshake_seconds,
            )
        except (OSError, ValueError) as error:
            self._reject(str(error) or type(error).__name__)
            return
        finally:
            self._handshakes.now -= 1
            self._task = None
        if secured is None or secured.is_closing():
            return
        self._transport = secured
        self._secured = True
        self._await_preface()
        protocol = secured.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol == "http/1.1":
            self._become_http1()
        else:
            self._sniff()

    def _await_preface(self) -> None:
        endpoint = self._endpoint
        self._deadline = endpoint.loop.call_later(endpoint.limits.preface_seconds, self._too_late)

    def _too_late(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reject(self, reason: str) -> None:
        endpoint = self._endpoint
        endpoint.counters.handshakes_failed += 1
        transport = self._transport
        if transport is not None:
            peer = transport.get_extra_info("peername")
            address = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)
            fields = {"remote-addr": address, "error": reason}
            endpoint.log("warn", "rejected connection on client endpoint", fields)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._secured:
            self._sniff()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._deadline is not None:
            self._deadline.cancel()

    def _sniff(self) -> None:
        data = self._data
        preface = frames.PREFACE
        if data.startswith(preface):
            self._become_http2()
        elif data and not preface.startswith(data):
            self._become_http1()

    def _become_http2(self) -> None:
        transport = self._handed_over()
        if not self._endpoint.serve_grpc and self._context is None:
            transport.abort()
            return
        connection = Http2Connection(self._endpoint, transport)
        transport.set_protocol(connection)
        connection.start()
        rest = self._data[len(frames.PREFACE) :]
        if rest:
            connection.data_received(rest)

    def _become_http1(self) -> None:
        transport = self._handed_over()
        if self._data[:1] == bytes((_TLS_HANDSHAKE,)) or self._endpoint.http_handler is None:
            transport.abort()
            return
        connection = Http1Connection(self._endpoint, transport)
        transport.set_protocol(connection)
        connection.start()
        if self._data:
            connection.data_received(self._data)

    def _handed_over(self) -> asyncio.Transport:
        assert self._transport is not None
        if self._deadline is not None:
            self._deadline.cancel()
        return self._transport
