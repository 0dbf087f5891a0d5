"""A cluster with authentication switched on, for tests of clients that sign in."""

from __future__ import annotations

from importlib.util import find_spec

from kvserver.client import Client
from kvserver.proto import auth_pb2, rpc_pb2
from tests.support.servers import KEYDECK, kinds


def auth_kinds() -> list[str]:
    """The kinds of server that have the Auth service: Keydeck from the day it is there."""
    has_auth = find_spec("kvserver.services.auth") is not None
    return [kind for kind in kinds() if kind != KEYDECK or has_auth]


def enable_auth(client: Client) -> None:
    """root, and rita who may read /pub/ only."""

    def do(pick, request) -> None:
        client.write(pick, request, 5)

    do(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name="reader"))
    permission = auth_pb2.Permission(
        permType=auth_pb2.Permission.READ, key=b"/pub/", range_end=b"/pub0"
    )
    do(
        lambda s: s.auth.RoleGrantPermission,
        rpc_pb2.AuthRoleGrantPermissionRequest(name="reader", perm=permission),
    )
    for user, role in (("root", "root"), ("rita", "reader")):
        do(lambda s: s.auth.UserAdd, rpc_pb2.AuthUserAddRequest(name=user, password="pw"))
        if role == "root":
            do(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name="root"))
        do(lambda s: s.auth.UserGrantRole, rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role))
    do(lambda s: s.auth.AuthEnable, rpc_pb2.AuthEnableRequest())
