"""What a member that takes nothing may hold of our memory, over a real socket (limits.py)."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kvserver.limits import APPEND_BYTES_MAX, PEER_STREAM_BYTES_MAX
from kvserver.membership import Member as ClusterMember
from kvserver.peers.client import request_head
from kvserver.raft import Entry, EntryType, Message, MessageType
from tests.peers.test_peer_port import STRANGER, Port
from tests.support.in_process import running

PATHS = {
    "msgapp": f"/raft/stream/msgapp/{STRANGER:x}",
    "message": f"/raft/stream/message/{STRANGER:x}",
}
SLACK_BYTES = 8 * APPEND_BYTES_MAX
"""Beside the queue: the append that fills it, the one last encoded (both streams share it), and
what the kernel left to the transport, which hangs on the buffers that it gave the socket."""
APPENDS = 3 * PEER_STREAM_BYTES_MAX // APPEND_BYTES_MAX


@pytest.mark.parametrize("kind", PATHS)
async def test_a_reader_that_stopped_holds_a_bounded_queue(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path) as member:
        port = Port(member)
        network = member.server._cluster._network
        stranger = ClusterMember(STRANGER, ("http://127.0.0.1:1",))
        network.reconcile([*member.server._cluster.known_members(), stranger], lambda _: False)
        peer = network.peer(STRANGER)
        assert peer is not None
        address = urlsplit(port.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=4096)
        writer.write(request_head(port.url, "GET", PATHS[kind], port.headers))
        assert (await reader.readline()).split()[1] == b"200"
        entry = Entry(8, 5, EntryType.NORMAL, bytes(APPEND_BYTES_MAX))
        append = Message(
            MessageType.APPEND, STRANGER, port.member_id, 5, log_term=5, index=7, entries=(entry,)
        )
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(APPENDS):
                network.send([append])
                await asyncio.sleep(0)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            writer.transport.abort()
        assert PEER_STREAM_BYTES_MAX / 2 < after - before < PEER_STREAM_BYTES_MAX + SLACK_BYTES
