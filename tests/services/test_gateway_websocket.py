"""The gateway's WebSockets (spec/wire-api.md §4.3): a text message per request and per reply."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from kvserver.proto import rpc_pb2, rpc_pb2_grpc
from kvserver.transport import TransportLimits
from tests.support.gateway_client import b64
from tests.support.in_process import Member, running


def socket(member: Member, path: str, **options: Any) -> connect:
    return connect(f"ws://{member.address}{path}", proxy=None, open_timeout=60, **options)


async def told(connection: ClientConnection) -> Any:
    async with asyncio.timeout(60):
        return json.loads(await connection.recv())


async def enable_auth(member: Member) -> str:
    """Auth on, with user root; root's token."""
    auth = rpc_pb2_grpc.AuthStub(member.channel)
    await auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="x"))
    await auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    await auth.AuthEnable(rpc_pb2.AuthEnableRequest())
    answer = await auth.Authenticate(rpc_pb2.AuthenticateRequest(name="root", password="x"))
    return str(answer.token)


async def watchers(member: Member) -> int:
    _, page = await member.get("/metrics")
    name = "etcd_debugging_mvcc_watcher_total "
    (line,) = [line for line in page.splitlines() if line.startswith(name)]
    return int(line.split()[1])


CREATE = json.dumps({"create_request": {"key": b64(b"k")}})


async def test_a_watch_over_a_websocket(tmp_path: Path) -> None:
    async with running(tmp_path) as member, socket(member, "/v3/watch") as connection:
        await connection.send(CREATE)
        assert (await told(connection))["result"]["created"]
        for value in (b"1", b"2"):
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k", value=value))
            (event,) = (await told(connection))["result"]["events"]
            assert event["kv"]["value"] == b64(value)
        # Another watch on the same stream, in a message of several fragments.
        await connection.send(['{"create_request"', ': {"key": "', b64(b"k2"), '"}}'])
        assert (await told(connection))["result"]["watch_id"] == "1"


async def test_the_watch_ends_with_its_socket(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        async with socket(member, "/v3/watch") as connection:
            await connection.send(CREATE)
            await told(connection)
            assert await watchers(member) == 1
        async with asyncio.timeout(60):
            while await watchers(member):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_unary_call_is_one_message_each_way(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        async with socket(member, "/v3/kv/put") as connection:
            await connection.send(json.dumps({"key": b64(b"a"), "value": b64(b"b")}))
            assert (await told(connection))["header"]["revision"] == "2"
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
        async with socket(member, "/v3/kv/put") as connection:
            await connection.send("{nonsense")
            assert (await told(connection))["code"] == 3


async def test_only_the_gateways_paths(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        with pytest.raises(InvalidStatus) as refused:
            await socket(member, "/health")
        assert refused.value.response.status_code == 404
        async with socket(member, "/v3/nothing") as connection:
            await connection.send("{}")
            assert (await told(connection))["message"] == "Not Found"


async def test_a_foreign_page_is_refused_before_it_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path, cors=("https://console.example",)) as member:
        with pytest.raises(InvalidStatus) as refused:
            await socket(member, "/v3/watch", origin="https://evil.example")
        assert refused.value.response.status_code == 403
        async with socket(member, "/v3/watch", origin="https://console.example") as connection:
            await connection.send(CREATE)
            assert (await told(connection))["result"]["created"]


async def test_a_handshake_that_is_none(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        host, _, port = member.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /v3/watch HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 1\r\n\r\n"
        )
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 4"), answer
        writer.close()
        await writer.wait_closed()
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))  # the member goes on


async def test_garbage_and_oversize_close_the_socket(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        host, _, port = member.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /v3/watch HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            + b"\xff"
            * 100
        )
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 101")
        assert b"\x88" in answer  # a close frame
        writer.close()
        async with socket(member, "/v3/kv/put", max_size=None) as connection:
            with pytest.raises(ConnectionClosed) as closed:
                await connection.send("x" * (TransportLimits().http_body_bytes_max + 1))
                await connection.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


async def test_a_token_in_the_subprotocol_or_a_cookie(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        token = await enable_auth(member)
        for options in (
            {"subprotocols": ["Bearer", token]},
            {"additional_headers": {"Cookie": f"x=1; token={token}"}},
        ):
            async with socket(member, "/v3/kv/put", **options) as connection:
                assert connection.subprotocol == ("Bearer" if "subprotocols" in options else None)
                await connection.send(json.dumps({"key": b64(b"a")}))
                assert "header" in await told(connection)
        async with socket(member, "/v3/kv/put") as connection:
            await connection.send(json.dumps({"key": b64(b"a")}))
            assert (await told(connection))["code"] == 3
