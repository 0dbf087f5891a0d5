"""The JSON gateway beside that of a real etcd 3.5: equal status, equal JSON (spec/wire-api.md §4).

Ids and the term are left out of the comparison, and so is what 3.6 changed on purpose: the second
generation of the gateway library, which is ours to imitate, words its errors otherwise (§4.4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.compat.conftest import StartMember
from tests.support.etcd_binaries import EtcdRelease
from tests.support.gateway_client import SECONDS_MAX, Answer, GatewayClient, Refused, b64

pytestmark = [pytest.mark.compat, pytest.mark.e2e]

IDS = {"cluster_id", "member_id", "raft_term"}
TEXT_ONLY_IN_V1 = {"error"}
"""3.4 and 3.5 repeat the message under this name (§4.4)."""
NEWER_FIELDS = {
    "hash_revision",  # HashKVResponse, 3.6
}

KEY, KEY2, KEY3 = b64(b"foo"), b64(b"fop"), b64(b"fo\xff\x00")
LEASE = {"TTL": "600", "ID": 4660}
UNION = {"key": KEY, "target": "CREATE", "create_revision": "0", "result": "GREATER"}

EQUAL: list[tuple[str, Any]] = [
    ("kv/put", {"key": KEY, "value": b64(b"bar")}),
    ("kv/put", {"key": KEY, "value": b64(b"baz"), "prevKv": True}),
    ("kv/put", {"key": KEY3, "prev_kv": True, "unknown": {"x": [1, None]}}),
    ("kv/range", {"key": KEY}),
    ("kv/range", {"key": KEY, "rangeEnd": b64(b"g"), "limit": "1"}),
    ("kv/range", {"key": KEY, "range_end": b64(b"g"), "sort_order": "DESCEND", "sortTarget": 2}),
    ("kv/range", {"key": b64(b"\0"), "range_end": b64(b"\0"), "count_only": True}),
    ("kv/range", {"key": KEY, "revision": 2, "serializable": True}),
    ("kv/range", {"key": KEY, "limit": None, "range_end": None}),
    ("kv/range", {"key": KEY, "revision": "99"}),
    ("kv/range", {}),
    ("kv/range", ""),
    ("kv/range", "null"),
    ("kv/range", ' {} {"key": "Zm9v"}'),
    ("kv/txn", {"compare": [UNION], "success": [{"request_range": {"key": KEY}}]}),
    (
        "kv/txn",
        {
            "compare": [{"key": KEY, "target": 3, "value": b64(b"no")}],
            "success": [{"requestDeleteRange": {"key": KEY}}],
            "failure": [
                {"requestPut": {"key": KEY2, "lease": "0"}},
                {"request_txn": {"success": [{"requestRange": {"key": KEY2}}]}},
            ],
        },
    ),
    ("kv/txn", {"success": [{"request_put": {"key": KEY}}] * 2}),
    ("kv/deleterange", {"key": KEY2, "prev_kv": True}),
    ("kv/compaction", {"revision": "3"}),
    ("kv/compaction", {"revision": "3"}),
    ("kv/range", {"key": KEY, "revision": "2"}),
    ("lease/grant", LEASE),
    ("lease/grant", LEASE),
    ("kv/put", {"key": KEY2, "lease": "4660"}),
    ("lease/timetolive", {"ID": "4660", "keys": True}),
    ("kv/lease/timetolive", {"ID": 1}),
    ("lease/leases", {}),
    ("kv/lease/leases", {}),
    ("lease/keepalive", {"ID": 4660}),
    ("lease/keepalive", '{"ID": 1} {"ID": 2}\n{"ID": 4660}'),
    ("lease/keepalive", ""),
    ("lease/revoke", {"ID": "4660"}),
    ("kv/lease/revoke", {"ID": "4660"}),
    ("maintenance/alarm", {"action": "GET"}),
    ("maintenance/alarm", {"action": 1, "memberID": "18446744073709551615", "alarm": "NOSPACE"}),
    ("maintenance/alarm", {"action": "DEACTIVATE", "memberID": "18446744073709551615", "alarm": 1}),
    ("auth/status", {}),
    ("auth/authenticate", {"name": "root", "password": "x"}),
    ("auth/user/add", {"name": "nora", "options": {"no_password": True}}),
    ("auth/user/get", {"name": "nora"}),
    ("auth/user/get", {"name": "nobody"}),
    ("auth/user/list", {}),
    ("auth/role/add", {"name": "r"}),
    ("auth/role/grant", {"name": "r", "perm": {"permType": "READWRITE", "key": KEY}}),
    ("auth/role/get", {"role": "r"}),
    ("auth/user/grant", {"user": "nora", "role": "r"}),
    ("auth/enable", {}),
    ("lock/lock", {"name": b64(b"L"), "lease": "21845"}),
    ("lock/unlock", {"key": b64(b"L/1")}),
    ("lock/unlock", {}),
    ("election/leader", {"name": b64(b"E")}),
    ("election/resign", {}),
    ("election/proclaim", {"leader": {"name": b64(b"E"), "key": b64(b"E/1"), "rev": "7"}}),
]
"""In this order, on an empty member: one answer depends on those before it."""

BAD_JSON = [
    '{"key": "Zm9v"',
    '{"key": 5}',
    '{"key": "Zm9vY"}',
    '{"key": "Z!9v"}',
    '{"key": "Zm9v", "sort_order": "SIDEWAYS"}',
    '{"key": "Zm9v", "limit": "many"}',
    '{"key": "Zm9v", "limit": 9223372036854775808}',
    '{"key": "Zm9v", "serializable": "yes"}',
    "[]",
    '"text"',
]


@pytest.fixture
def pair(
    release35: EtcdRelease, start_etcd: StartMember, start_subject: StartMember
) -> Iterator[tuple[GatewayClient, GatewayClient]]:
    members = (start_etcd(release35), start_subject())
    yield (GatewayClient(members[0].client_port), GatewayClient(members[1].client_port))


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = IDS | TEXT_ONLY_IN_V1 | NEWER_FIELDS
        return {name: comparable(v) for name, v in value.items() if name not in left_out}
    return [comparable(v) for v in value] if isinstance(value, list) else value


def parsed(answer: Answer) -> list[Any]:
    """The body's lines, which are one for a unary call."""
    return [comparable(json.loads(line)) for line in answer.body.splitlines()]


def test_answers(pair: tuple[GatewayClient, GatewayClient]) -> None:
    different = []
    for path, body in EQUAL:
        theirs, ours = (client.ask("/v3/" + path, body) for client in pair)
        answers = [(a.status, a.headers["content-type"], parsed(a)) for a in (theirs, ours)]
        if answers[0] != answers[1]:
            different.append((path, body, *answers))
        if theirs.status == 200 and theirs.body:
            name = "grpc-metadata-content-type"
            assert ours.headers[name] == theirs.headers[name], (path, body)
    assert not different, "\n".join(map(str, different))


@pytest.mark.parametrize("path", ["maintenance/status", "maintenance/hash", "cluster/member/list"])
def test_names_of_fields(pair: tuple[GatewayClient, GatewayClient], path: str) -> None:
    """Whose values are each server's own. 3.6 and 3.7 added fields to Status (§2.8)."""
    theirs, ours = (client.ask("/v3/" + path).json for client in pair)
    added = {"storageVersion", "dbSizeQuota", "downgradeInfo"}
    assert set(ours) - added == set(theirs)
    if "members" in theirs:
        assert [set(member) for member in ours["members"]] == [
            set(member) for member in theirs["members"]
        ]


def test_bad_json(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """HTTP 400, code 3; the text is the JSON library's own (§4.1)."""
    for body in BAD_JSON:
        theirs, ours = (client.ask("/v3/kv/range", body) for client in pair)
        assert ours.status == theirs.status == 400, body
        assert ours.json["code"] == theirs.json["code"] == 3, body


def test_what_the_second_generation_changed(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """spec/wire-api.md §4.1, §4.3, §4.4: each line says what 3.5 answers and what 3.6 does."""
    theirs, ours = pair

    def statuses(path: str, body: Any, method: str = "POST") -> tuple[int, int]:
        return tuple(client.ask(path, body, method=method).status for client in pair)  # type: ignore[return-value]

    assert statuses("/v3/kv/range", {"key": "Zm9vYg"}) == (400, 200)  # unpadded base64
    assert statuses("/v3/kv/range", {"key": "-_-_"}) == (400, 200)  # URL-safe base64
    assert statuses("/v3/kv/range", None, "GET") == (405, 501)
    assert statuses("/v3/kv/range", None, "PUT") == (405, 501)
    assert statuses("/v3/nothing", None) == (404, 404)
    assert statuses("/v3alpha/kv/range", None) == (404, 404)
    assert statuses("/v3/watch", '{"create_request"') == (500, 400)
    assert statuses("/v3/maintenance/hashkv", None) == (404, 200)
    assert ours.ask("/v3/kv/range", method="GET").json == {
        "code": 12,
        "message": "Method Not Allowed",
    }
    assert ours.ask("/v3/nothing").json == {"code": 5, "message": "Not Found"}
    refused = theirs.ask("/v3/kv/range").json
    assert refused["error"] == refused["message"]
    assert ours.ask("/v3/kv/range").json == {"code": 3, "message": refused["message"]}


def test_watching(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """§4.3: several requests in one body; the end of the body does not end the watch."""
    creates = [
        {"create_request": {"key": KEY, "start_revision": "1", "watch_id": "7", "prev_kv": True}},
        {"createRequest": {"key": KEY2, "filters": ["NODELETE"]}},
        {"create_request": {"key": KEY2, "range_end": KEY}},
    ]
    told = []
    for client in pair:
        client.ask("/v3/kv/put", {"key": KEY, "value": KEY2})
        with client.stream("/v3/watch", *creates) as lines:
            seen = [next(lines) for _ in range(4)]
            client.ask("/v3/kv/put", {"key": KEY2})
            client.ask("/v3/kv/deleterange", {"key": KEY})
            seen += [next(lines) for _ in range(2)]
        by_watch = sorted(map(comparable, seen), key=lambda line: repr(line))
        told.append(by_watch)
    assert told[0] == told[1]


def test_a_stream_that_ends_with_an_error(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """§4.3: the HTTP status stays 200; the error's names are those of 3.6."""
    last = [watched_to_its_end(client, 500) for client in pair]
    # 3.5.1 sometimes lets the stream's own end win the race and says UNKNOWN with the same text.
    assert last[0]["grpc_code"] in (2, 4) and last[1]["code"] == 4
    assert "context deadline exceeded" in last[0]["message"]
    assert last[1]["message"] == "context deadline exceeded"
    assert set(last[1]) == {"code", "message"}


def watched_to_its_end(client: GatewayClient, milliseconds: int) -> Any:
    """The error of a watch whose time is up; more time where none was left to begin with."""
    create = {"create_request": {"key": KEY}}
    try:
        headers = {"Grpc-Timeout": f"{milliseconds}m"}
        with client.stream("/v3/watch", create, headers=headers) as lines:
            *_, line = lines
            return line["error"]
    except Refused as refusal:
        assert refusal.status == 504
        return watched_to_its_end(client, 4 * milliseconds)


def test_observing(pair: tuple[GatewayClient, GatewayClient]) -> None:
    told = []
    for client in pair:
        client.ask("/v3/lease/grant", LEASE)
        campaign = {"name": b64(b"E"), "lease": "4660", "value": b64(b"v1")}
        won = client.ask("/v3/election/campaign", campaign).json
        with client.stream("/v3/election/observe", {"name": b64(b"E")}) as lines:
            seen = [next(lines)]
            proclaim = {"leader": won["leader"], "value": b64(b"v2")}
            client.ask("/v3/election/proclaim", proclaim)
            seen.append(next(lines))
        told.append(comparable([won, *seen]))
    assert told[0] == told[1]


def test_cross_origin_headers(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """§4.7: on every reply of the client port; OPTIONS is answered for any path."""
    for method, path in (
        ("OPTIONS", "/v3/kv/range"),
        ("OPTIONS", "/what/ever"),
        ("GET", "/version"),
        ("GET", "/nothing"),
        ("POST", "/v3/kv/range"),
    ):
        theirs, ours = (client.ask(path, method=method) for client in pair)
        assert ours.status == theirs.status, path
        for name in ("methods", "origin", "headers"):
            header = f"access-control-allow-{name}"
            assert ours.headers[header] == theirs.headers[header], (method, path)
        if method == "OPTIONS":
            assert ours.body == theirs.body == b""


def test_a_watch_over_a_websocket(pair: tuple[GatewayClient, GatewayClient]) -> None:
    """spec/wire-api.md §4.3: a text message per request and per reply."""
    told = []
    for client in pair:
        url = f"ws://127.0.0.1:{client.port}/v3/watch"
        with connect(url, proxy=None, open_timeout=SECONDS_MAX) as socket:
            socket.send(json.dumps({"create_request": {"key": KEY}}))
            messages = [socket.recv(SECONDS_MAX)]
            for value in (b"1", b"2"):
                client.ask("/v3/kv/put", {"key": KEY, "value": b64(value)})
                messages.append(socket.recv(SECONDS_MAX))
        told.append([comparable(json.loads(message)) for message in messages])
    assert told[0] == told[1]
    assert told[0][2]["result"]["events"][0]["kv"]["value"] == b64(b"2")
