"""The gateway on a running member: what the comparison with etcd does not show."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from kvserver.proto import rpc_pb2
from tests.services.member import SECONDS_MAX, Asker
from tests.support.gateway_client import GatewayClient, b64
from tests.support.servers_proc import keydeck_server, running, wait_until

KEY = b64(b"foo")


@pytest.fixture
def client(asker: Asker) -> GatewayClient:
    return GatewayClient(asker.server.client_port)


def handled(asker: Asker, method: str, code: str) -> int:
    """How many calls of a method ended with a code, as the metrics say."""
    text = asker.server.http_get("/metrics")
    labels = f'grpc_code="{code}",grpc_method="{method}"'
    found = re.search(rf"^grpc_server_handled_total{{{labels}.*}} (\d+)$", text, re.MULTILINE)
    assert found, labels
    return int(found[1])


def test_calls_are_counted_like_any_other(asker: Asker, client: GatewayClient) -> None:
    before = handled(asker, "Put", "OK"), handled(asker, "Range", "InvalidArgument")
    client.ask("/v3/kv/put", {"key": KEY})
    client.ask("/v3/kv/range")
    after = handled(asker, "Put", "OK"), handled(asker, "Range", "InvalidArgument")
    assert after == (before[0] + 1, before[1] + 1)


def test_a_watch_ends_when_its_client_goes(asker: Asker, client: GatewayClient) -> None:
    """Although a client that goes looks like one that has said all it wanted to say."""
    before = handled(asker, "Watch", "Canceled")
    with client.stream("/v3/watch", {"create_request": {"key": KEY}}) as lines:
        assert next(lines)["result"]["created"]
    wait_until(lambda: handled(asker, "Watch", "Canceled") > before, SECONDS_MAX, "canceled")


def test_a_waiting_lock_ends_when_its_client_goes(asker: Asker, client: GatewayClient) -> None:
    """spec/concurrency.md B5: nobody gets a lock who is not there any more."""
    asker.grant(0xABC, 0xDEF)
    held = client.ask("/v3/lock/lock", {"name": b64(b"gone"), "lease": str(0xABC)})
    assert held.json["key"] == b64(b"gone/abc")
    body = b'{"name":"%b","lease":"%d"}' % (b64(b"gone").encode(), 0xDEF)
    head = b"POST /v3/lock/lock HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", asker.server.client_port)) as waiting:
        waiting.sendall(head + body)
        asker.until_there(b"gone/def")
    asker.until_gone(b"gone/def")


def test_a_lock_with_a_deadline(asker: Asker, client: GatewayClient) -> None:
    asker.grant(0x1, 0x2)
    client.ask("/v3/lock/lock", {"name": b64(b"late"), "lease": 1})
    late = client.ask(
        "/v3/lock/lock", {"name": b64(b"late"), "lease": 2}, headers={"Grpc-Timeout": "500m"}
    )
    assert late.status == 504
    assert late.json == {"code": 4, "message": "context deadline exceeded"}
    asker.until_gone(b"late/2")


def test_requests_that_come_one_after_the_other(asker: Asker) -> None:
    """A body in chunks is a conversation: the answer begins before it ends."""
    with socket.create_connection(("127.0.0.1", asker.server.client_port)) as connection:
        connection.settimeout(SECONDS_MAX)
        received = connection.makefile("rb")

        def send(text: bytes) -> None:
            connection.sendall(b"%x\r\n%b\r\n" % (len(text), text))

        def line() -> bytes:
            while True:
                text = received.readline()
                if text.startswith(b'{"result"'):
                    return text

        connection.sendall(
            b"POST /v3/lease/keepalive HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        send(b'{"ID":')
        send(b'"5"}')
        assert b'"ID":"5"' in line()
        send(b'{"ID":"6"}\n{"ID":"7"}')
        assert b'"ID":"6"' in line()
        assert b'"ID":"7"' in line()
        send(b"")
        assert received.readline() == b"\r\n"  # behind the last line's chunk
        assert received.readline() == b"0\r\n"


def test_a_big_history_through_a_slow_reader(asker: Asker, client: GatewayClient) -> None:
    """The stream waits for its reader; nothing is lost."""
    start = asker.revision() + 1
    value = b"x" * 200_000
    for number in range(12):
        asker.kv.Put(rpc_pb2.PutRequest(key=b"big", value=b"%d-" % number + value))
    create = {"create_request": {"key": b64(b"big"), "start_revision": str(start)}}
    versions: list[int] = []
    with client.stream("/v3/watch", create) as lines:
        while len(versions) < 12:
            result = next(lines)["result"]
            versions += [int(event["kv"]["version"]) for event in result.get("events", ())]
    assert versions == list(range(1, 13))


def test_a_snapshot(client: GatewayClient) -> None:
    with client.stream("/v3/maintenance/snapshot", {}) as lines:
        results = [line["result"] for line in lines]
    assert results[-1]["blob"]
    assert len(results) > 1


def test_a_message_too_long_for_grpc(client: GatewayClient) -> None:
    """spec/wire-api.md §3.2: the limits are those of the method."""
    over = client.ask("/v3/kv/put", {"key": KEY, "value": b64(b"x" * 2_097_152)})
    assert (over.status, over.json["code"]) == (429, 8)
    assert "received message larger than max" in over.json["message"]
    request = client.ask("/v3/kv/put", {"key": KEY, "value": b64(b"x" * 1_600_000)})
    assert (request.status, request.json["message"]) == (400, "etcdserver: request is too large")


FLAGS = ("--bcrypt-cost=4", "--cors=https://good.example", "--host-whitelist=127.0.0.1")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayClient]:
    """A member with auth enabled, where root's password is "pw", and particular about hosts."""
    directory = tmp_path_factory.mktemp("guarded") / "data"
    with running(keydeck_server(directory, flags=FLAGS)) as server:
        client = GatewayClient(server.client_port)
        client.ask("/v3/kv/put", {"key": KEY})
        for path, body in (
            ("user/add", {"name": "root", "password": "pw"}),
            ("role/add", {"name": "root"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("enable", {}),
        ):
            assert client.ask("/v3/auth/" + path, body).status == 200, path
        yield client


def token(client: GatewayClient) -> str:
    login = client.ask("/v3/auth/authenticate", {"name": "root", "password": "pw"})
    return str(login.json["token"])


def test_credentials(guarded: GatewayClient) -> None:
    """spec/wire-api.md §3.1, §4.4, §4.5"""
    nobody = guarded.ask("/v3/kv/range", {"key": KEY})
    assert (nobody.status, nobody.json["message"]) == (400, "etcdserver: user name is empty")
    wrong = guarded.ask("/v3/kv/range", {"key": KEY}, headers={"Authorization": "wrong"})
    assert (wrong.status, wrong.json["code"]) == (401, 16)
    assert wrong.headers["www-authenticate"] == "etcdserver: invalid auth token"
    known = token(guarded)
    for name, value in (
        ("Authorization", known),
        ("Authorization", f"Bearer {known}"),
        ("Grpc-Metadata-Token", known),
    ):
        answer = guarded.ask("/v3/kv/range", {"key": KEY}, headers={name: value})
        assert answer.status == 200, name
        assert answer.json["count"] == "1"


def test_the_flags_reach_the_door(guarded: GatewayClient) -> None:
    """spec/wire-api.md §3.4, §4.7; the rules are in test_gateway_door.py."""
    page = {"Content-Type": "application/json", "Origin": "https://evil.example"}
    assert guarded.ask("/v3/auth/status", headers=page).status == 403
    good = page | {"Origin": "https://good.example"}
    assert guarded.ask("/v3/auth/status", headers=good).status == 200
    assert guarded.ask("/version", method="GET", headers={"Host": "evil.example"}).status == 421


def test_locks_ask_in_the_callers_name(guarded: GatewayClient) -> None:
    """spec/concurrency.md L7"""
    nobody = guarded.ask("/v3/lock/lock", {"name": KEY})
    assert (nobody.status, nobody.json["code"]) == (500, 2)
    assert nobody.json["message"] == "etcdserver: user name is empty"
    headers = {"Authorization": token(guarded)}
    assert guarded.ask("/v3/lock/lock", {"name": KEY}, headers=headers).status == 200
    assert guarded.ask("/v3/election/leader", {"name": KEY}, headers=headers).status == 200


def test_watching_without_credentials(guarded: GatewayClient) -> None:
    """spec/wire-api.md §5.4: refused in-band, and that is what the gateway shows."""
    with guarded.stream("/v3/watch", {"create_request": {"key": KEY}}) as lines:
        result = next(lines)["result"]
    assert result["canceled"] is True
    assert result["watch_id"] == "-1"
