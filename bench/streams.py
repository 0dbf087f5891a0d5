"""Long-lived streams of the generator: watchers on one key, and lease keep-alives.

Watch deliveries are counted without parsing: every value put carries a marker, and counting the
marker in what the sockets give is one C call per chunk, so the generator is never what is measured.
"""

from __future__ import annotations

import select
import struct
import time

from hpack import Encoder

from bench import requests
from bench.connection import Address, Connection, ReplyFailed
from bench.frames import (
    ACK,
    DATA,
    END_HEADERS,
    FRAME,
    HEADERS,
    MESSAGE,
    SETTINGS,
    WINDOW_DEFAULT,
    WINDOW_UPDATE,
    frame,
    headers_of,
    initial_window,
)
from bench.load import STALL_SECONDS_MAX, Result, Swarm
from kvserver.proto import rpc_pb2 as rpc

WATCH = "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
KEY = b"/bench/watched"
MARKER = b"<#@keydeck@#>"
WINDOW_OF_PUTS = 4
"""Puts outstanding while deliveries are counted: the server may batch, but not without bound."""


def message(body: bytes) -> bytes:
    return MESSAGE.pack(0, len(body)) + body


class _Ears:
    """One connection full of watch streams that only counts."""

    __slots__ = ("connection", "received", "tail", "unrenewed")

    def __init__(self, address: Address, streams: int, each: int) -> None:
        self.connection = Connection(*address[:3])
        self.tail = b""
        self.unrenewed = 0
        self.received = 0
        encoder = Encoder()
        create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=KEY))
        ask = message(create.SerializeToString()) * each
        for number in range(streams):
            block = encoder.encode(headers_of(WATCH, f"{address[0]}:{address[1]}", address.token))
            stream_id = 2 * number + 1
            self.connection.send_raw(
                frame(HEADERS, END_HEADERS, stream_id, block) + frame(DATA, 0, stream_id, ask)
            )

    def count(self, marker: bytes) -> int:
        """Read once; how many markers that completed."""
        data = self.connection.read()
        self.unrenewed += len(data)
        if self.unrenewed > 1 << 29:
            opened = struct.pack(">I", self.unrenewed)
            self.connection.send_raw(frame(WINDOW_UPDATE, 0, 0, opened))
            self.unrenewed = 0
        data = self.tail + data
        # Shorter than the marker, so nothing is counted twice.
        self.tail = data[-(len(marker) - 1) :]
        found = data.count(marker)
        self.received += found
        return found


def _wait_created(ears: list[_Ears], streams: int, each: int) -> None:
    """All watchers exist when each stream has answered `created` for all of its own."""
    created = b"\x18\x01"
    for ear in ears:
        data = b""
        ear.connection.socket.settimeout(30)
        # A created reply ends in the field `created: true`; headers cannot contain its bytes often
        # enough to matter, and the deliveries are counted exactly afterwards.
        while data.count(created) < streams * each:
            data += ear.connection.read()


def fan_out(address: Address, *, puts: int, connections: int, streams: int, each: int) -> Result:
    """Put the watched key `puts` times; seconds until the last watcher has the last event."""
    watchers = connections * streams * each
    ears = [_Ears(address, streams, each) for _ in range(connections)]
    try:
        _wait_created(ears, streams, each)
        value = MARKER + requests.VALUE[len(MARKER) :]
        body = rpc.PutRequest(key=KEY, value=value).SerializeToString()
        with Swarm(address, requests.PUT, 1) as swarm:
            swarm.prepare([body] * puts)
            return _deliver(ears, swarm.connections[0], puts, watchers)
    finally:
        for ear in ears:
            ear.connection.close()


def _deliver(ears: list[_Ears], putter: Connection, puts: int, watchers: int) -> Result:
    poll = select.epoll()
    by_descriptor = {ear.connection.socket.fileno(): ear for ear in ears}
    for connection in (putter, *(ear.connection for ear in ears)):
        connection.socket.setblocking(False)
        poll.register(connection.socket, select.EPOLLIN)
    cpu, started = time.process_time(), time.perf_counter()
    putter.send_calls(WINDOW_OF_PUTS)
    acknowledged, missing = 0, puts * watchers
    while missing > 0 or acknowledged < puts:
        ready = poll.poll(STALL_SECONDS_MAX)
        if not ready:
            raise ReplyFailed(f"{missing} deliveries missing after {STALL_SECONDS_MAX} s")
        for descriptor, _ in ready:
            ear = by_descriptor.get(descriptor)
            if ear is not None:
                missing -= ear.count(MARKER)
            else:
                acknowledged += putter.receive()
        # The slowest watcher paces the puts, so that the figure is sustained delivery.
        behind = acknowledged - (puts * watchers - missing) // watchers
        room = WINDOW_OF_PUTS - putter.outstanding - behind
        if room > 0:
            putter.send_calls(room)
    seconds = time.perf_counter() - started
    poll.close()
    if missing:
        raise ReplyFailed(f"{-missing} deliveries too many")
    return Result(puts * watchers, seconds, (time.process_time() - cpu) / seconds)


class _Pulse:
    """One keep-alive stream: requests as one DATA frame per burst, replies counted by message."""

    __slots__ = (
        "bodies",
        "connection",
        "initial_window",
        "outstanding",
        "partial",
        "rest",
        "sent",
        "stream_window",
    )

    def __init__(self, address: Address, bodies: list[bytes]) -> None:
        self.connection = Connection(*address[:3])
        self.bodies = bodies
        self.sent = self.outstanding = 0
        self.rest = self.partial = b""
        self.initial_window = self.stream_window = WINDOW_DEFAULT
        block = Encoder().encode(
            headers_of(KEEP_ALIVE, f"{address[0]}:{address[1]}", address.token)
        )
        self.connection.send_raw(frame(HEADERS, END_HEADERS, 1, block))

    def send(self, window: int) -> None:
        """Fill up to `window` outstanding keep-alives."""
        count = min(window - self.outstanding, len(self.bodies) - self.sent)
        burst = b"".join(self.bodies[self.sent : self.sent + max(count, 0)])
        if not burst or len(burst) > min(self.stream_window, self.connection.window):
            return
        self.stream_window -= len(burst)
        self.connection.window -= len(burst)
        self.sent += count
        self.outstanding += count
        self.connection.send_raw(frame(DATA, 0, 1, burst))

    def receive(self) -> int:
        data = self.rest + self.connection.read()
        position, done = 0, 0
        while len(data) - position >= 9:
            high, low, kind, flags, stream_id = FRAME.unpack_from(data, position)
            end = position + 9 + (high << 8 | low)
            if end > len(data):
                break
            payload = data[position + 9 : end]
            if kind == DATA:
                done += self._messages(payload)
            elif kind == WINDOW_UPDATE and stream_id == 1:
                self.stream_window += int.from_bytes(payload, "big")
            elif kind == SETTINGS and not flags & ACK:
                before, self.initial_window = (
                    self.initial_window,
                    initial_window(payload, self.initial_window),
                )
                self.stream_window += self.initial_window - before
                self.connection._control(kind, flags, stream_id, payload)
            elif kind == HEADERS and flags & 1:
                raise ReplyFailed("the server ended the keep-alive stream")
            elif kind != HEADERS:
                self.connection._control(kind, flags, stream_id, payload)
            position = end
        self.rest = data[position:]
        self.outstanding -= done
        return done

    def _messages(self, payload: bytes) -> int:
        data = self.partial + payload
        position, done = 0, 0
        while len(data) - position >= 5:
            size = int.from_bytes(data[position + 1 : position + 5], "big")
            end = position + 5 + size
            if end > len(data):
                break
            # Field 3 is the TTL; a dead lease would answer without it (spec/lease.md K3).
            if data[end - 3 : end] != b"\x18\xd8\x04":
                raise ReplyFailed("a keep-alive was not answered with its TTL of 600 s")
            position = end
            done += 1
        self.partial = data[position:]
        return done


def keep_alive(
    address: Address, leases: list[int], count: int, *, connections: int, window: int
) -> Result:
    """`count` keep-alives over all streams; each stream goes round its own share of the leases."""
    share = count // connections
    pulses = []
    for number in range(connections):
        own = [
            message(rpc.LeaseKeepAliveRequest(ID=lease).SerializeToString())
            for lease in leases[number::connections]
        ]
        pulses.append(_Pulse(address, (own * (share // len(own) + 1))[:share]))
    poll = select.epoll()
    by_descriptor = {pulse.connection.socket.fileno(): pulse for pulse in pulses}
    for pulse in pulses:
        pulse.connection.socket.setblocking(False)
        poll.register(pulse.connection.socket, select.EPOLLIN)
    cpu, started = time.process_time(), time.perf_counter()
    remaining = share * connections
    for pulse in pulses:
        pulse.send(window)
    while remaining:
        ready = poll.poll(STALL_SECONDS_MAX)
        if not ready:
            raise ReplyFailed(f"{remaining} keep-alives unanswered")
        for descriptor, _ in ready:
            pulse = by_descriptor[descriptor]
            remaining -= pulse.receive()
            pulse.send(window)
    seconds = time.perf_counter() - started
    poll.close()
    for pulse in pulses:
        pulse.connection.close()
    return Result(share * connections, seconds, (time.process_time() - cpu) / seconds)
