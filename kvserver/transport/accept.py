"""A connection before its protocol is known: TLS handshake, then the first bytes.

Plain text: the HTTP/2 preface or anything else (spec/wire-api.md §3.4). TLS: the protocol of ALPN,
and the first bytes where the client named none. Handshake and preface each have a deadline, and
only so many handshakes run at once.

TLS starts once its first bytes are here, and those are then handed to the loop's TLS layer: a
transport of uvloop cannot be stopped from reading inside `connection_made`, so that bytes of the
handshake may always come before `start_tls`. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from kvserver.transport import frames
from kvserver.transport.connection import Http2Connection
from kvserver.transport.endpoint import Endpoint
from kvserver.transport.http1 import Http1Connection
from kvserver.transport.peer import address_of, host_of
from kvserver.transport.tls import TlsRefused, TlsSource, server_name_of

_TLS_HANDSHAKE = 0x16
_ENDED = "EOF"


class Handshakes:
    """How many TLS handshakes of a listener are in progress."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0


class Accepted(asyncio.Protocol):
    def __init__(self, endpoint: Endpoint, tls: TlsSource | None, handshakes: Handshakes) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._handshakes = handshakes
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._counted = False
        self._pending = False
        self._rejected = False
        self._address = ""
        self._server_name = ""
        self._secured = tls is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._address = address_of(transport)
        endpoint = self._endpoint
        counters, limits = endpoint.counters, endpoint.limits
        counters.connections_accepted += 1
        counters.connections_pending += 1
        self._pending = True
        if counters.connections_open + counters.connections_pending > limits.connections_max:
            self._reject("too many open connections")
        elif self._tls is None:
            self._await_preface()
        elif self._handshakes.now >= limits.handshakes_max:
            self._reject("too many TLS handshakes in progress")
        else:
            self._handshakes.now += 1
            self._counted = True
            seconds = limits.handshake_seconds
            self._deadline = endpoint.loop.call_later(seconds, self._reject, "i/o timeout")

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._secured:
            self._sniff()
        elif self._task is None and self._transport is not None and self._tls is not None:
            self._transport.pause_reading()
            if data[0] != _TLS_HANDSHAKE:
                self._reject("tls: first record does not look like a TLS handshake")
                return
            self._server_name = server_name_of(data)
            self._task = self._endpoint.loop.create_task(self._handshake(self._tls))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._cancel_deadline()
        self._no_longer_pending()
        if self._counted and self._task is None:
            self._reject(_ENDED)
        self._handshake_over()

    async def _handshake(self, tls: TlsSource) -> None:
        endpoint = self._endpoint
        transport = self._transport
        self._cancel_deadline()
        if transport is None:
            return
        starting = endpoint.loop.create_task(
            endpoint.loop.start_tls(
                transport,
                self,
                tls.context(),
                server_side=True,
                ssl_handshake_timeout=endpoint.limits.handshake_seconds,
            )
        )
        hello, self._data = self._data, b""
        await asyncio.sleep(0)  # `starting` has scheduled the TLS layer's connection_made
        endpoint.loop.call_soon(_feed, transport, hello)
        try:
            secured = await starting
            if secured is None or secured.is_closing():
                self._no_longer_pending()
                return
            self._transport = secured
            await self._check(tls, secured)
        except TlsRefused as refusal:
            self._reject(str(refusal), secured)
            return
        except (OSError, ValueError) as error:
            self._reject(tls.explain(error))
            return
        finally:
            self._handshake_over()
        if secured.is_closing():
            self._no_longer_pending()
            return
        self._secured = True
        self._await_preface()
        protocol = secured.get_extra_info("ssl_object").selected_alpn_protocol()
        if protocol == "http/1.1":
            self._become_http1()
        else:
            self._sniff()

    async def _check(self, tls: TlsSource, secured: asyncio.Transport) -> None:
        """Names may have to be looked up: what arrives meanwhile stays in the socket."""
        secured.pause_reading()
        async with asyncio.timeout(self._endpoint.limits.handshake_seconds):
            await tls.check(secured.get_extra_info("ssl_object"), host_of(secured))
        if not secured.is_closing():
            secured.resume_reading()

    def _handshake_over(self) -> None:
        if self._counted:
            self._counted = False
            self._handshakes.now -= 1

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _await_preface(self) -> None:
        endpoint = self._endpoint
        self._deadline = endpoint.loop.call_later(endpoint.limits.preface_seconds, self._too_late)

    def _too_late(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reject(self, reason: str, secured: asyncio.Transport | None = None) -> None:
        self._no_longer_pending()
        if self._rejected:
            return
        self._rejected = True
        endpoint = self._endpoint
        endpoint.counters.handshakes_failed += 1
        fields: dict[str, Any] = {"remote-addr": self._address, "server-name": self._server_name}
        if secured is not None:
            fields |= _names_of(secured)
        fields["error"] = reason
        # Whoever only looks whether the port is open is not worth a warning.
        level = "debug" if reason == _ENDED else "warn"
        endpoint.log(level, f"rejected connection on {endpoint.kind} endpoint", fields)
        if self._transport is not None:
            self._transport.abort()

    def _sniff(self) -> None:
        data = self._data
        preface = frames.PREFACE
        if data.startswith(preface):
            self._become_http2()
        elif data and not preface.startswith(data):
            self._become_http1()

    def _become_http2(self) -> None:
        transport = self._handed_over()
        if not self._endpoint.serve_grpc and self._tls is None:
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
        self._cancel_deadline()
        self._no_longer_pending()
        return self._transport

    def _no_longer_pending(self) -> None:
        if self._pending:
            self._pending = False
            self._endpoint.counters.connections_pending -= 1


def _names_of(secured: asyncio.Transport) -> dict[str, list[str]]:
    """For whom the certificate is that was shown."""
    certificate = secured.get_extra_info("ssl_object").getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    return {
        "ip-addresses": [value for kind, value in names if kind == "IP Address"],
        "dns-names": [value for kind, value in names if kind == "DNS"],
    }


def _feed(transport: asyncio.Transport, data: bytes) -> None:
    """Gives the transport's new protocol what had come before it was there."""
    protocol: Any = transport.get_protocol()  # a BufferedProtocol, on either loop
    view = memoryview(data)
    while view:
        buffer = protocol.get_buffer(len(view))
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
