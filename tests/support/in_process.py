"""A whole member inside the test's own event loop: real files, real sockets, no process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio

from kvserver.config import Config, complete
from kvserver.logs import Level, Logger
from kvserver.proto import rpc_pb2_grpc
from kvserver.server import MemberServer


class Lines:
    """A log sink that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: str) -> None:
        self.lines.append(json.loads(line))

    def close(self) -> None:
        """Nothing to close."""

    def find(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["msg"] == message]


def config(data_dir: Path, **flags: Any) -> Config:
    """A member on ports that the system picks."""
    given = {
        "data-dir": str(data_dir),
        "listen-client-urls": ("http://127.0.0.1:0",),
        "advertise-client-urls": ("http://127.0.0.1:0",),
        "listen-peer-urls": ("http://127.0.0.1:0",),
        **{name.replace("_", "-"): value for name, value in flags.items()},
    }
    return complete(given)


class Member:
    """A started member and a client of it."""

    def __init__(self, server: MemberServer, log: Lines) -> None:
        self.server = server
        self.log = log
        serving = [
            line["address"]
            for line in log.lines
            if line["msg"].startswith(("serving client traffic", "serving metrics traffic"))
        ]
        self.address = serving[0]
        self.addresses = serving
        self.channel = grpc.aio.insecure_channel(self.address)
        self.kv = rpc_pb2_grpc.KVStub(self.channel)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.watch = rpc_pb2_grpc.WatchStub(self.channel)
        self.maintenance = rpc_pb2_grpc.MaintenanceStub(self.channel)
        self.cluster = rpc_pb2_grpc.ClusterStub(self.channel)

    async def get(self, path: str, method: str = "GET", address: str = "") -> tuple[int, str]:
        """Status and body of a plain HTTP request."""
        host, _, port = (address or self.address).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()


@asynccontextmanager
async def running(data_dir: Path, **flags: Any) -> AsyncIterator[Member]:
    """Start a member, and stop it as SIGTERM would."""
    log = Lines()
    logger = Logger((log,), Level.DEBUG)
    server = MemberServer(config(data_dir, **flags), logger, asyncio.get_running_loop())
    try:
        await server.start()
        member = Member(server, log)
        try:
            yield member
        finally:
            await member.channel.close()
    finally:
        await server.stop()
