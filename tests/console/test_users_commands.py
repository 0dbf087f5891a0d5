"""The equivalent commands of the access pages, run by bash with the real etcdctl: they do what
the page does, for every shape of range and for names and keys of any bytes a shell can carry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.etcdctl import Etcdctl
from console.users import commands
from console.users.rules import Permission
from kvserver.proto import auth_pb2, rpc_pb2
from tests.console.test_etcdctl import run
from tests.support.auth import Hands
from tests.support.servers import Server

ON_EVERY_SERVER = True

NUMBERS = {"read": 0, "write": 1, "readwrite": 2}


@pytest.fixture
def hands(server: Server) -> Iterator[Hands]:
    client = server.client()
    one = Hands(client)
    one.clear()
    yield one
    one.clear()
    client.close()


@pytest.fixture
def tool(server: Server) -> Etcdctl:
    return Etcdctl((server.client_url,))


def granted(hands: Hands, role: str) -> list[auth_pb2.Permission]:
    request = rpc_pb2.AuthRoleGetRequest(role=role)
    return list(hands.client.read(lambda s: s.auth.RoleGet, request, 5).perm)


@pytest.mark.parametrize(
    "permission",
    [
        Permission("read", b"/a", b""),
        Permission("write", b"/a/", b"/a0"),
        Permission("readwrite", b"/a", b"\x00"),
        Permission("read", b"/a", b"/c"),
        Permission("read", b"\x00", b"\x00"),
        Permission("read", b"-dash", b""),
        Permission("read", b"a 'b' \"c\" $d `e` \\", b""),
        Permission("write", b"\xff\xfe", b"\xff\xff\x01"),
        Permission("write", b"\xff", b"\x00"),
    ],
)
def test_a_permission_is_granted_and_revoked(tool, hands, permission: Permission) -> None:
    name = "it's a $role -x"
    hands("RoleAdd", name=name)
    run(commands.grant_permission(tool, name, permission))
    [found] = granted(hands, name)
    wire = (found.permType, found.key, found.range_end)
    assert wire == (NUMBERS[permission.kind], permission.key, permission.range_end)
    run(commands.revoke_permission(tool, name, permission))
    assert granted(hands, name) == []


def test_bounds_no_shell_can_carry_are_said_to_be_such(tool) -> None:
    for permission in (Permission("read", b"a\x00b", b""), Permission("read", b"a", b"b\x00")):
        assert commands.grant_permission(tool, "r", permission) == commands.NO_SHELL_WORD


@pytest.mark.parametrize("name", ["amy", "-dash", "it's $me", "größe"])
def test_users_and_roles_come_and_go(tool, hands, name: str) -> None:
    def users() -> list[str]:
        request = rpc_pb2.AuthUserListRequest()
        return list(hands.client.read(lambda s: s.auth.UserList, request, 5).users)

    def roles_of() -> list[str]:
        request = rpc_pb2.AuthUserGetRequest(name=name)
        return list(hands.client.read(lambda s: s.auth.UserGet, request, 5).roles)

    run(commands.add_user(tool, name, has_password=False))
    run(commands.role(tool, "add", name))
    assert users() == [name]
    run(commands.user(tool, "grant-role", name, name))
    assert roles_of() == [name]
    assert name in run(commands.user(tool, "get", name, flags=("--detail",)))
    run(commands.user(tool, "revoke-role", name, name))
    assert roles_of() == []
    run(commands.role(tool, "delete", name))
    run(commands.user(tool, "delete", name))
    assert users() == []


def test_a_password_is_named_and_never_written(tool, hands, monkeypatch) -> None:
    """etcdctl takes a colon in the name for the beginning of a password."""
    monkeypatch.setenv("PASSWORD", "pw")
    command = commands.add_user(tool, "a:b", has_password=True)
    assert "$PASSWORD" in command
    run(command)
    request = rpc_pb2.AuthUserListRequest()
    assert hands.client.read(lambda s: s.auth.UserList, request, 5).users == ["a:b"]
