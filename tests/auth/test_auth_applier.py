"""Every auth operation of the log, from request to response body (spec/raft-wire.md §3)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver import errors
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth import NOBODY, Identity
from kvserver.proto import internal_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.auth.rig import Rig, permission

STEPS: list[tuple[Kind, Any, Any]] = [
    (Kind.AUTH_USER_ADD, rpc.AuthUserAddRequest(name="n", hashedPassword="aGFzaA=="), None),
    (Kind.AUTH_USER_LIST, rpc.AuthUserListRequest(), rpc.AuthUserListResponse(users=["n"])),
    (Kind.AUTH_ROLE_ADD, rpc.AuthRoleAddRequest(name="s"), None),
    (Kind.AUTH_ROLE_LIST, rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse(roles=["s"])),
    (Kind.AUTH_USER_GRANT_ROLE, rpc.AuthUserGrantRoleRequest(user="n", role="s"), None),
    (
        Kind.AUTH_USER_GET,
        rpc.AuthUserGetRequest(name="n"),
        rpc.AuthUserGetResponse(roles=["s"]),
    ),
    (
        Kind.AUTH_ROLE_GRANT_PERMISSION,
        rpc.AuthRoleGrantPermissionRequest(name="s", perm=permission(2, b"k", b"l")),
        None,
    ),
    (
        Kind.AUTH_ROLE_GET,
        rpc.AuthRoleGetRequest(role="s"),
        rpc.AuthRoleGetResponse(perm=[permission(2, b"k", b"l")]),
    ),
    (
        Kind.AUTH_ROLE_REVOKE_PERMISSION,
        rpc.AuthRoleRevokePermissionRequest(role="s", key=b"k", range_end=b"l"),
        None,
    ),
    (Kind.AUTH_ROLE_GET, rpc.AuthRoleGetRequest(role="s"), rpc.AuthRoleGetResponse()),
    (
        Kind.AUTH_USER_CHANGE_PASSWORD,
        rpc.AuthUserChangePasswordRequest(name="n", hashedPassword="bmV1"),
        None,
    ),
    (Kind.AUTH_USER_ADD, rpc.AuthUserAddRequest(name="root"), None),
    (Kind.AUTH_USER_GRANT_ROLE, rpc.AuthUserGrantRoleRequest(user="root", role="root"), None),
    (Kind.AUTH_ENABLE, rpc.AuthEnableRequest(), None),
    (
        Kind.AUTH_STATUS,
        rpc.AuthStatusRequest(),
        rpc.AuthStatusResponse(enabled=True, authRevision=9),
    ),
    (
        Kind.AUTHENTICATE,
        internal_pb2.InternalAuthenticateRequest(name="n", simple_token="letters"),
        rpc.AuthenticateResponse(token="letters.77"),
    ),
    (Kind.AUTH_USER_REVOKE_ROLE, rpc.AuthUserRevokeRoleRequest(name="n", role="s"), None),
    (Kind.AUTH_ROLE_DELETE, rpc.AuthRoleDeleteRequest(role="s"), None),
    (Kind.AUTH_USER_DELETE, rpc.AuthUserDeleteRequest(name="n"), None),
    (Kind.AUTH_DISABLE, rpc.AuthDisableRequest(), None),
    (
        Kind.AUTH_STATUS,
        rpc.AuthStatusRequest(),
        rpc.AuthStatusResponse(authRevision=13),
    ),
]


def empty_applier() -> AuthApplier:
    rig = Rig()
    store = rig.store
    store.disable()
    for name in store.user_names():
        store.delete_user(name)
    store.delete_role("r")
    store._set_revision(1)
    return AuthApplier(store, rig.checker)


def test_a_life_of_the_store_in_log_entries() -> None:
    applier = empty_applier()
    for kind, request, response in STEPS:
        body = applier.apply(kind, request, 77)
        assert body == (b"" if response is None else response.SerializeToString()), kind
    assert {kind for kind, _, _ in STEPS} == set(applier.kinds)
    assert {kind for kind in Kind if 1000 <= kind < 1300} == set(applier.kinds)


def test_operations_that_only_read_are_judged_when_answered() -> None:
    rig = Rig()
    applier = AuthApplier(rig.store, rig.checker)
    request = rpc.AuthUserGetRequest(name="u")
    assert applier.answer(Kind.AUTH_USER_GET, request, rig.who("u"))
    with pytest.raises(errors.UserEmpty):
        applier.answer(Kind.AUTH_USER_GET, request, NOBODY)
    with pytest.raises(errors.PermissionDenied):
        applier.answer(Kind.AUTH_USER_LIST, rpc.AuthUserListRequest(), Identity("u", 99))
    rig.store.disable()
    assert applier.answer(Kind.AUTH_USER_LIST, rpc.AuthUserListRequest(), NOBODY)
