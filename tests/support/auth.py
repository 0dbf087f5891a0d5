"""A cluster with authentication switched on, for tests of clients that sign in."""

from __future__ import annotations

from importlib.util import find_spec

from kvserver.client import Client
from kvserver.proto import auth_pb2, rpc_pb2
from tests.support.servers import KEYDECK, kinds

CALL_SECONDS_MAX = 60.0
"""Only an upper bound for a test that hangs."""


def auth_kinds() -> list[str]:
    """The kinds of server that have the Auth service: Keydeck from the day it is there."""
    has_auth = find_spec("kvserver.services.auth") is not None
    return [kind for kind in kinds() if kind != KEYDECK or has_auth]


def enable_auth(client: Client) -> None:
    """root, and rita who may read /pub/ only."""

    def do(pick, request) -> None:
        client.write(pick, request, CALL_SECONDS_MAX)

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


class Hands:
    """Users and roles behind the console's back."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, method: str, **fields: object) -> None:
        request = getattr(rpc_pb2, f"Auth{method}Request")(**fields)
        self.client.write(lambda s: getattr(s.auth, method), request, CALL_SECONDS_MAX)

    def role(self, name: str, *grants: tuple[int, bytes, bytes]) -> None:
        self("RoleAdd", name=name)
        for kind, key, end in grants:
            perm = auth_pb2.Permission(permType=kind, key=key, range_end=end)
            self("RoleGrantPermission", name=name, perm=perm)

    def user(self, name: str, *roles: str, password: str = "pw") -> None:
        self("UserAdd", name=name, password=password)
        for role in roles:
            self("UserGrantRole", user=name, role=role)

    def clear(self) -> None:
        for name in self.client.read(
            lambda s: s.auth.UserList, rpc_pb2.AuthUserListRequest(), CALL_SECONDS_MAX
        ).users:
            self("UserDelete", name=name)
        for name in self.client.read(
            lambda s: s.auth.RoleList, rpc_pb2.AuthRoleListRequest(), CALL_SECONDS_MAX
        ).roles:
            self("RoleDelete", role=name)

    def enable(self) -> None:
        self.user("root", password="root's")
        self("RoleAdd", name="root")
        self("UserGrantRole", user="root", role="root")
        self.client.write(
            lambda s: s.auth.AuthEnable, rpc_pb2.AuthEnableRequest(), CALL_SECONDS_MAX
        )
