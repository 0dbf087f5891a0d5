"""Every method of the API against every identity: nobody, a user, root (spec/auth.md §3).

The table is written from the spec, not from the server's own rules, and must be complete: a method
of the interface definitions that is not in it fails the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kvserver.auth import RULES
from kvserver.errors import FatalError
from kvserver.proto import auth_pb2, election_pb2, rpc_pb2
from kvserver.services.access import Access
from kvserver.transport import Method
from tests.auth.rig import Rig
from tests.support.auth_session import METHODS, SHORT, AuthSession, Caller
from tests.support.servers_proc import ServerProcess

pytestmark = pytest.mark.e2e

OK, EMPTY, DENIED = "ok", "user name is empty", "permission denied"
AUTH_TEXTS = {EMPTY, DENIED, "invalid auth token", "revision of auth store is old"}
MINE, FOREIGN = b"a1", b"zz"
LEASE_OF_MINE, LEASE_OF_FOREIGN = 7001, 7002


@dataclass(frozen=True)
class Row:
    """What a method answers to nobody and to user u. Root may do everything: what it hears is no
    verdict of auth."""

    nobody: str
    user: str
    request: dict[str, Any]
    note: str = ""


def watch(key: bytes) -> dict[str, Any]:
    return {"create_request": rpc_pb2.WatchCreateRequest(key=key)}


def put_op(key: bytes) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key))


PERMISSION = auth_pb2.Permission(key=b"x")
LEADER = election_pb2.LeaderKey(name=b"zz", key=b"zz/1", rev=1, lease=1)
TABLE: dict[str, list[Row]] = {
    "KV/Range": [Row(EMPTY, OK, {"key": MINE}), Row(EMPTY, DENIED, {"key": FOREIGN})],
    "KV/RangeStream": [Row(EMPTY, OK, {"key": MINE}), Row(EMPTY, DENIED, {"key": FOREIGN})],
    "KV/Put": [
        Row(EMPTY, OK, {"key": MINE}),
        Row(EMPTY, DENIED, {"key": FOREIGN}),
        Row(EMPTY, DENIED, {"key": MINE, "lease": LEASE_OF_FOREIGN}),
    ],
    "KV/DeleteRange": [Row(EMPTY, OK, {"key": MINE}), Row(EMPTY, DENIED, {"key": FOREIGN})],
    "KV/Txn": [
        Row(EMPTY, OK, {"success": [put_op(MINE)]}),
        Row(EMPTY, DENIED, {"success": [put_op(MINE)], "failure": [put_op(FOREIGN)]}),
        Row(EMPTY, OK, {}),
    ],
    "KV/Compact": [Row(EMPTY, DENIED, {"revision": 1})],
    "Watch/Watch": [],  # refused in-band: test_auth_cases
    "Lease/LeaseGrant": [Row(EMPTY, OK, {"TTL": 60})],
    "Lease/LeaseRevoke": [
        Row(EMPTY, OK, {"ID": LEASE_OF_MINE}),
        Row(EMPTY, DENIED, {"ID": LEASE_OF_FOREIGN}),
    ],
    "Lease/LeaseKeepAlive": [
        Row(EMPTY, OK, {"ID": LEASE_OF_MINE}),
        Row(EMPTY, DENIED, {"ID": LEASE_OF_FOREIGN}),
        Row(EMPTY, OK, {"ID": 1}, "no such lease"),
    ],
    "Lease/LeaseTimeToLive": [
        Row(EMPTY, OK, {"ID": LEASE_OF_FOREIGN}),
        Row(EMPTY, OK, {"ID": LEASE_OF_MINE, "keys": True}),
        Row(EMPTY, DENIED, {"ID": LEASE_OF_FOREIGN, "keys": True}),
    ],
    "Lease/LeaseLeases": [Row(EMPTY, DENIED, {})],
    "Cluster/MemberList": [Row(EMPTY, OK, {})],
    "Cluster/MemberAdd": [Row(EMPTY, DENIED, {"peerURLs": ["nonsense"]})],
    "Cluster/MemberRemove": [Row(EMPTY, DENIED, {"ID": 1})],
    "Cluster/MemberUpdate": [Row(EMPTY, DENIED, {"ID": 1, "peerURLs": ["nonsense"]})],
    "Cluster/MemberPromote": [Row(EMPTY, DENIED, {"ID": 1})],
    "Maintenance/Status": [Row(EMPTY, OK, {})],
    "Maintenance/Alarm": [
        Row(EMPTY, OK, {"action": "GET"}),
        Row(EMPTY, DENIED, {"action": "DEACTIVATE", "memberID": 1, "alarm": "NOSPACE"}),
        Row(EMPTY, DENIED, {"action": "ACTIVATE", "memberID": 1, "alarm": "NONE"}),
    ],
    "Maintenance/Defragment": [Row(EMPTY, DENIED, {})],
    "Maintenance/Hash": [Row(EMPTY, DENIED, {})],
    "Maintenance/HashKV": [Row(EMPTY, DENIED, {})],
    "Maintenance/Snapshot": [Row(EMPTY, DENIED, {})],
    "Maintenance/MoveLeader": [Row(EMPTY, DENIED, {"targetID": 1})],
    "Maintenance/Downgrade": [Row(EMPTY, DENIED, {"action": "VALIDATE", "version": "3.6.0"})],
    "Auth/AuthEnable": [Row(EMPTY, DENIED, {})],
    "Auth/AuthDisable": [Row(EMPTY, DENIED, {})],
    "Auth/AuthStatus": [Row(OK, OK, {})],
    "Auth/Authenticate": [Row(OK, OK, {"name": "u", "password": "up"})],
    "Auth/UserAdd": [Row(EMPTY, DENIED, {"name": "new", "password": "p"})],
    "Auth/UserGet": [
        Row(EMPTY, OK, {"name": "u"}),
        Row(EMPTY, DENIED, {"name": "root"}),
        Row(EMPTY, DENIED, {"name": "nobody"}),
    ],
    "Auth/UserList": [Row(EMPTY, DENIED, {})],
    "Auth/UserDelete": [Row(EMPTY, DENIED, {"name": "u"})],
    "Auth/UserChangePassword": [
        Row(EMPTY, DENIED, {"name": "u", "password": "new"}),
        Row(EMPTY, DENIED, {"name": "u", "password": ""}),
    ],
    "Auth/UserGrantRole": [Row(EMPTY, DENIED, {"user": "u", "role": "root"})],
    "Auth/UserRevokeRole": [Row(EMPTY, DENIED, {"name": "u", "role": "r"})],
    "Auth/RoleAdd": [Row(EMPTY, DENIED, {"name": "new"})],
    "Auth/RoleGet": [
        Row(EMPTY, OK, {"role": "r"}),
        Row(EMPTY, DENIED, {"role": "root"}),
        Row(EMPTY, DENIED, {"role": "nothing"}),
    ],
    "Auth/RoleList": [Row(EMPTY, DENIED, {})],
    "Auth/RoleDelete": [Row(EMPTY, DENIED, {"role": "r"})],
    "Auth/RoleGrantPermission": [Row(EMPTY, DENIED, {"name": "r", "perm": PERMISSION})],
    "Auth/RoleRevokePermission": [
        Row(EMPTY, DENIED, {"role": "r", "key": b"a", "range_end": b"b"})
    ],
    "Lock/Lock": [Row(EMPTY, DENIED, {"name": FOREIGN, "lease": LEASE_OF_MINE})],
    "Lock/Unlock": [Row(EMPTY, DENIED, {"key": FOREIGN})],
    "Election/Campaign": [Row(EMPTY, DENIED, {"name": FOREIGN, "lease": LEASE_OF_MINE})],
    "Election/Proclaim": [Row(EMPTY, DENIED, {"leader": LEADER, "value": b"v"})],
    "Election/Leader": [Row(EMPTY, DENIED, {"name": FOREIGN})],
    "Election/Observe": [Row(EMPTY, DENIED, {"name": FOREIGN})],
    "Election/Resign": [Row(EMPTY, DENIED, {"leader": LEADER})],
}
ROWS = [(name, row) for name, rows in TABLE.items() for row in rows]
SLOW_FOR_ROOT = {"Election/Observe"}
"""Answers root only when there is something to observe."""


def test_the_table_names_every_method_there_is() -> None:
    assert set(TABLE) == set(SHORT)


def test_every_method_has_a_rule_of_its_own() -> None:
    assert set(METHODS) <= set(RULES)


def test_a_method_without_a_rule_cannot_be_registered() -> None:
    """Default deny (verification.md: RPCs without an auth rule)."""
    access = Access(Rig().checker, None, False, None)  # type: ignore[arg-type]
    methods = [Method(path, "unary", lambda call, body: b"", 1) for path in METHODS]
    access.require_rules(methods)
    methods.append(Method("/etcdserverpb.KV/Peek", "unary", lambda call, body: b"", 1))
    with pytest.raises(FatalError, match=r"without an auth rule: /etcdserverpb\.KV/Peek"):
        access.require_rules(methods)


@pytest.fixture
def callers(session: AuthSession) -> tuple[Caller, Caller, Caller]:
    for lease, key in ((LEASE_OF_MINE, MINE), (LEASE_OF_FOREIGN, FOREIGN)):
        session.nobody("Lease/LeaseGrant", ID=lease, TTL=600)
        session.nobody("KV/Put", key=key, lease=lease)
    root, user = session.enable()
    return session.nobody, user, root


@pytest.mark.parametrize(
    ("name", "row"), ROWS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ROWS)]
)
def test_who_may_call(
    callers: tuple[Caller, Caller, Caller], member: ServerProcess, name: str, row: Row
) -> None:
    nobody, user, root = callers
    first = nobody.outcome(name, **row.request)
    if first.startswith(("unknown method", "unknown service")):
        pytest.skip(f"{name} is not served yet")
    assert first == row.nobody
    assert user.outcome(name, **row.request) == row.user
    if name not in SLOW_FOR_ROOT:
        assert root.outcome(name, **row.request) not in AUTH_TEXTS


@pytest.mark.parametrize(
    ("name", "row"), ROWS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ROWS)]
)
def test_a_bad_token_opens_only_what_is_open(
    callers: tuple[Caller, Caller, Caller], session: AuthSession, name: str, row: Row
) -> None:
    stranger = session.with_token("QwErTyUiOpAsDfGh.1")
    outcome = stranger.outcome(name, **row.request)
    if outcome.startswith(("unknown method", "unknown service")):
        pytest.skip(f"{name} is not served yet")
    assert outcome == (OK if row.nobody == OK else "invalid auth token")
