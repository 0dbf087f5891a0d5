"""What the peer port answers to hand-made requests (spec/peer.md §2, cases 1, 16, 17 and 20)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvserver.peers.client import Answer, Exchange, HttpClient, close, request_head
from kvserver.peers.frames import LENGTH
from kvserver.peers.identity import Identity
from kvserver.proto import rpc_pb2
from kvserver.raft import Message, MessageType
from kvserver.raft.codec import encode_message
from tests.support.in_process import Member, running

STRANGER = 0x1234


class Port:
    """The peer port of a member alone, and a stranger's headers that it would accept."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.url = "http://" + member.log.find("serving peer traffic")[0]["address"]
        self.client = HttpClient(asyncio.get_running_loop())
        (known,) = member.server._cluster.known_members()
        self.member_id = known.id
        self.cluster_id = member.server._recovered.cluster_id
        self.headers = Identity(STRANGER, self.cluster_id, ("http://127.0.0.1:1",)).request_headers(
            self.member_id
        )

    async def ask(
        self, method: str, path: str, body: bytes = b"", **changed: str | None
    ) -> tuple[int, str]:
        answer = await self.full(method, path, body, **changed)
        return answer.status, answer.body.decode()

    async def full(
        self, method: str, path: str, body: bytes = b"", **changed: str | None
    ) -> Answer:
        headers = dict(self.headers)
        for name, value in changed.items():
            headers[name.replace("_", "-")] = value  # type: ignore[assignment]
        kept = {name: value for name, value in headers.items() if value is not None}
        return await self.client.request(self.url, method, path, kept, body)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    async with running(tmp_path) as member:
        yield Port(member)


STREAM = f"/raft/stream/message/{STRANGER:x}"


async def test_streams_are_refused_in_etcds_order(port: Port) -> None:
    assert await port.ask("POST", STREAM) == (405, "Method Not Allowed\n")
    old = {"X_Server_Version": "2.3.0"}
    assert await port.ask("GET", STREAM, **old) == (412, "incompatible version\n")
    new = {"X_Min_Cluster_Version": "9.0.0"}
    assert await port.ask("GET", STREAM, **new) == (412, "incompatible version\n")
    none: dict[str, str | None] = {"X_Server_Version": None}
    assert await port.ask("GET", STREAM, **none) == (412, "incompatible version\n")
    other = {"X_Etcd_Cluster_ID": "abc"}
    assert await port.ask("GET", STREAM, **other) == (412, "cluster ID mismatch\n")
    padded = {"X_Etcd_Cluster_ID": f"0{port.cluster_id:x}"}
    assert await port.ask("GET", STREAM, **padded) == (412, "cluster ID mismatch\n")
    assert await port.ask("GET", "/raft/stream/msgappv2/1") == (404, "invalid path\n")
    assert await port.ask("GET", "/raft/stream/message/xyz") == (404, "invalid from\n")
    assert await port.ask("GET", STREAM) == (404, "error sender not found\n")
    assert await port.ask("GET", "/raft/unknown") == (404, "404 page not found\n")
    assert await port.ask("GET", "/health") == (404, "404 page not found\n")


async def test_posts(port: Port) -> None:
    """Case 16."""
    assert (await port.ask("GET", "/raft"))[0] == 405
    assert await port.ask("POST", "/raft", b"\xff\xff") == (
        400,
        "error unmarshalling raft message\n",
    )
    assert await port.ask("POST", "/raft", b"") == (204, "")
    wrong = encode_message(Message(MessageType.HEARTBEAT, to=7, from_=STRANGER, term=1))
    assert (await port.ask("POST", "/raft", wrong))[0] == 500
    other = {"X_Etcd_Cluster_ID": "abc"}
    assert await port.ask("POST", "/raft", b"", **other) == (412, "cluster ID mismatch\n")
    put = await port.member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=b"v"))
    assert put.header.revision == 2, "none of it has disturbed the member"


async def test_snapshots_that_are_none(port: Port, tmp_path: Path) -> None:
    """Case 17."""
    path = "/raft/snapshot"
    status, text = await port.ask("POST", path, b"\0\0")
    assert (status, text.partition(" (")[0]) == (400, "failed to decode raft message")
    status, _ = await port.ask("POST", path, LENGTH.pack(1 << 40) + b"x")
    assert status == 400
    body = encode_message(Message(MessageType.HEARTBEAT, to=port.member_id, from_=STRANGER, term=1))
    assert await port.ask("POST", path, LENGTH.pack(len(body)) + body) == (
        400,
        "wrong raft message type\n",
    )
    names = [file.name for file in (tmp_path / "member" / "snap").iterdir()]
    assert not [name for name in names if "snap.db" in name or name.startswith("tmp")]


async def test_side_endpoints(port: Port) -> None:
    status, text = await port.ask("GET", "/raft/probing")
    assert (status, json.loads(text)["OK"]) == (200, True)
    answer = await port.full("GET", "/members")
    (shown,) = json.loads(answer.body)
    assert (shown["id"], shown["name"]) == (port.member_id, "default")
    assert answer.headers["x-etcd-cluster-id"] == f"{port.cluster_id:x}"
    assert await port.ask("GET", "/downgrade/enabled") == (200, "false")
    hashed = await port.ask("GET", "/members/hashkv", b'{"revision":0}')
    assert json.loads(hashed[1])["compact_revision"] == -1
    text = "mvcc: required revision is a future revision\n"
    assert await port.ask("GET", "/members/hashkv", b'{"revision":99}') == (400, text)
    bad = (400, "error unmarshalling request\n")
    assert await port.ask("GET", "/members/hashkv", b'{"revision":"0"}') == bad
    assert await port.ask("GET", "/members/hashkv", b"") == bad
    other = {"X_Etcd_Cluster_ID": "abc"}
    found = await port.ask("GET", "/members/hashkv", b'{"revision":0}', **other)
    assert found == (412, "cluster ID mismatch\n")


async def test_leases_and_promotions(port: Port) -> None:
    """Cases 18 and 19."""
    await port.member.lease.LeaseGrant(rpc_pb2.LeaseGrantRequest(ID=1234, TTL=60))
    answer = await port.full("POST", "/leases", bytes.fromhex("08d209"))
    assert (answer.status, answer.body.hex()) == (200, "10d209183c")
    answer = await port.full("POST", "/leases/internal", bytes.fromhex("0a0308d209"))
    # 59 s are left, and less on a machine that had something else to do.
    told = re.fullmatch("0a090a0010d20918(..)203c", answer.body.hex())
    assert answer.status == 200 and told is not None
    assert 0 < int(told[1], 16) <= 59
    assert await port.ask("POST", "/leases", b"\x08\x05") == (404, "lease not found\n")
    assert await port.ask("POST", "/leases/internal", b"") == (
        400,
        "error unmarshalling request\n",
    )
    assert (await port.ask("GET", "/leases"))[0] == 405
    promote = "/members/promote/"
    assert await port.ask("POST", promote + "abc") == (404, "member abc not found in cluster\n")
    assert await port.ask("POST", promote + "12") == (404, "membership: ID not found\n")
    status, text = await port.ask("POST", f"{promote}{port.member_id}")
    assert (status, text) == (412, "etcdserver: can only promote a learner member\n")


async def test_a_member_that_was_added_gets_its_streams(port: Port) -> None:
    """A stream's head comes at once, with the version that etcd demands, and then heartbeats."""
    added = await port.member.cluster.MemberAdd(
        rpc_pb2.MemberAddRequest(peerURLs=["http://127.0.0.1:1"], isLearner=True)
    )
    number = added.member.ID
    identity = Identity(number, port.cluster_id, ("http://127.0.0.1:1",))
    to_other = dict(identity.request_headers(7))
    refused = await port.client.request(
        port.url, "GET", f"/raft/stream/msgapp/{number:x}", to_other
    )
    assert (refused.status, refused.body) == (412, b"to field mismatch\n")
    heads: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    def on_head(status: int, headers: object) -> object:
        heads.put_nowait({"status": str(status), **headers})  # type: ignore[dict-item]
        return pieces.put_nowait

    async def dial() -> Exchange:
        exchange = await port.client.open(port.url, on_head)  # type: ignore[arg-type]
        head = request_head(
            port.url,
            "GET",
            f"/raft/stream/msgapp/{number:x}",
            identity.request_headers(port.member_id),
        )
        assert exchange.transport is not None
        exchange.transport.write(head)
        return exchange

    async with asyncio.timeout(60):
        first = await dial()
        head = await heads.get()
        assert (head["status"], head["x-server-version"]) == ("200", "3.7.1")
        assert head["transfer-encoding"] == "chunked"
        assert "content-type" not in head
        assert (await pieces.get())[0] == 0, "a link heartbeat"
        second = await dial()
        await heads.get()
        await first.answer
        assert first.is_ended_well, "case 8: the newer stream has replaced it"
        await port.member.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=number))
        await second.answer
        gone = await port.client.request(
            port.url,
            "GET",
            STREAM.replace(f"{STRANGER:x}", f"{number:x}"),
            second_headers(identity, port),
        )
        assert (gone.status, gone.body) == (410, b"removed member\n"), "case 14"
        message = Message(MessageType.HEARTBEAT, to=port.member_id, from_=number, term=9)
        answer = await port.client.request(
            port.url, "POST", "/raft", identity.request_headers(), encode_message(message)
        )
        assert answer.status == 403, "case 16"
        for exchange in (first, second):
            close(exchange)


def second_headers(identity: Identity, port: Port) -> dict[str, str]:
    return identity.request_headers(port.member_id)
