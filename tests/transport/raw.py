"""A client that sends exactly the bytes it is told to, and reads frames."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import hpack

from kvserver.transport import frames
from tests.transport.running import WAIT_SECONDS

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/pkg.Svc/Echo"),
    (":authority", "test"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def block(*fields: tuple[str, str]) -> bytes:
    """Every field as a literal that is not indexed: no state anywhere."""
    encoder = hpack.Encoder()
    return encoder.encode([(name, value, True) for name, value in (fields or REQUEST)])


def replaced(**values: str) -> list[tuple[str, str]]:
    """REQUEST with pseudo field values replaced: `replaced(path="/x")`."""
    return [(name, values.get(name.strip(":"), value)) for name, value in REQUEST]


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def error_code(self) -> int:
        start = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.payload[start : start + 4], "big")


async def slow_socket(port: int) -> socket.socket:
    """Connected, and of a reader that the kernel takes next to nothing for: however large buffers
    may grow on this machine."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


class RawClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.frames: list[Frame] = []
        self._data = b""
        self.closed = False
        self._decoder = hpack.Decoder()

    @classmethod
    async def connect(
        cls, port: int, hello: bytes = frames.PREFACE + frames.settings([]), ssl: Any = None
    ) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl)
        writer.write(hello)
        return cls(reader, writer)

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def send_message(self, stream_id: int, body: bytes, end: bool = True) -> None:
        data = b"\x00" + len(body).to_bytes(4, "big") + body
        for start in range(0, len(data), 16_384):
            last = end and start + 16_384 >= len(data)
            piece = data[start : start + 16_384]
            self.send(frames.frame(frames.DATA, int(last), stream_id, piece))

    def call(self, stream_id: int, body: bytes, path: str = "/pkg.Svc/Echo") -> None:
        fields = block(*replaced(path=path))
        self.send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, fields))
        self.send_message(stream_id, body)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition(self.frames):
                assert not self.closed, f"the connection ended: {self.frames[-3:]}"
                try:
                    data = await self.reader.read(262_144)
                except ConnectionResetError:
                    data = b""
                if not data:
                    self.closed = True
                self._cut(self._data + data)

    def _cut(self, data: bytes) -> None:
        while len(data) >= 9:
            end = 9 + int.from_bytes(data[:3], "big")
            if len(data) < end:
                break
            stream_id = int.from_bytes(data[5:9], "big")
            self.frames.append(Frame(data[3], data[4], stream_id, data[9:end]))
            data = data[end:]
        self._data = data

    async def first(self, kind: int, stream_id: int | None = None, flags: int = 0) -> Frame:
        def found(seen: list[Frame]) -> bool:
            return any(self._matches(frame, kind, stream_id, flags) for frame in seen)

        await self.until(found)
        matching = [f for f in self.frames if self._matches(f, kind, stream_id, flags)]
        assert matching, f"no such frame in {self.frames}"
        return matching[0]

    @staticmethod
    def _matches(frame: Frame, kind: int, stream_id: int | None, flags: int) -> bool:
        return (
            frame.kind == kind
            and (stream_id is None or frame.stream_id == stream_id)
            and frame.flags & flags == flags
        )

    async def until_closed(self) -> None:
        await self.until(lambda _: self.closed)

    async def answered(self, stream_id: int) -> dict[str, str]:
        """The fields of the header blocks of a stream that has ended."""
        await self.first(frames.HEADERS, stream_id, frames.END_STREAM)
        fields: dict[str, str] = {}
        for frame in self.frames:
            if frame.kind == frames.HEADERS and frame.stream_id == stream_id:
                fields.update(self._decoder.decode(frame.payload))
        return fields

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
