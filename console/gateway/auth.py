"""Calls about users, roles and authentication.

What changes something takes a `Writer`, so that a page that is only opened cannot ask for it
(console.md §3 trap 12). No record here ever holds a password or a hash.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from console.gateway.clients import client_config
from console.gateway.errors import ClusterError, Denied, Unreachable, domain_error
from console.gateway.reader import READ_SECONDS, Reader
from console.gateway.writer import Writer
from console.models import Cluster
from console.users.rules import ROOT, EtcdRole, EtcdUser, Permission
from kvserver.client import CallFailed, Client
from kvserver.proto import auth_pb2, rpc_pb2

KIND_OF = {
    auth_pb2.Permission.READ: "read",
    auth_pb2.Permission.WRITE: "write",
    auth_pb2.Permission.READWRITE: "readwrite",
}
TYPE_OF = {kind: number for number, kind in KIND_OF.items()}


def is_enabled(reader: Reader) -> bool:
    """Whether the cluster asks who one is."""
    try:
        return bool(reader._read(lambda s: s.auth.AuthStatus, rpc_pb2.AuthStatusRequest()).enabled)
    except Denied:
        return True  # only a cluster that asks who one is can refuse
    except ClusterError as error:
        if error.code != "UNIMPLEMENTED":
            raise
    # Before 3.5 there is no such call (spec/auth.md §3). Signing in as nobody is refused either
    # way, with different words, and leaves nothing behind.
    try:
        reader._read(lambda s: s.auth.Authenticate, rpc_pb2.AuthenticateRequest())
    except ClusterError as error:
        return not error.message.endswith("authentication is not enabled")
    return True


def revision(reader: Reader) -> tuple[int | None, int]:
    """Differs when users and roles do: what the cluster counts (None where it tells nobody, before
    3.5), and the changes that came through here."""
    try:
        answer = reader._read(lambda s: s.auth.AuthStatus, rpc_pb2.AuthStatusRequest())
    except ClusterError as error:
        if isinstance(error, Unreachable):
            raise
        return None, _changes[reader.cluster.pk]
    return answer.authRevision, _changes[reader.cluster.pk]


_changes: Counter[int] = Counter()
"""By connection."""


def is_absent(error: ClusterError) -> bool:
    """The refusal says that there is no such user or role."""
    return error.message.endswith("name not found")


def user_names(reader: Reader) -> list[str]:
    request = rpc_pb2.AuthUserListRequest()
    return list(reader._read(lambda s: s.auth.UserList, request).users)


def role_names(reader: Reader) -> list[str]:
    request = rpc_pb2.AuthRoleListRequest()
    return list(reader._read(lambda s: s.auth.RoleList, request).roles)


def user(reader: Reader, name: str) -> EtcdUser:
    answer = reader._read(lambda s: s.auth.UserGet, rpc_pb2.AuthUserGetRequest(name=name))
    return EtcdUser(name, tuple(answer.roles))


def role(reader: Reader, name: str) -> EtcdRole:
    answer = reader._read(lambda s: s.auth.RoleGet, rpc_pb2.AuthRoleGetRequest(role=name))
    return EtcdRole(
        name,
        tuple(Permission(KIND_OF[one.permType], one.key, one.range_end) for one in answer.perm),
    )


def users(reader: Reader, names: list[str]) -> list[EtcdUser]:
    """Each of them that is still there."""
    return [one for one in (if_there(user, reader, name) for name in names) if one]


def roles(reader: Reader, names: list[str] | tuple[str, ...]) -> list[EtcdRole]:
    """Each of them that is still there. Role root may be held without ever having been added."""
    found = [if_there(role, reader, name) for name in names]
    return [
        one or EtcdRole(name) for one, name in zip(found, names, strict=True) if one or name == ROOT
    ]


def try_empty_password(writer: Writer, name: str) -> str:
    """open: somebody signs in by this name with nothing for a password. none: the user has no
    password, only certificates sign in by it (spec/auth.md §1). Else closed."""
    try:
        writer._read(lambda s: s.auth.Authenticate, rpc_pb2.AuthenticateRequest(name=name))
    except Unreachable:
        raise
    except ClusterError as error:
        return "none" if error.message.endswith("given for no password user") else "closed"
    return "open"


def if_there(get: Any, reader: Reader, name: str) -> Any:
    """What `get` says, None when there is nothing of this name."""
    try:
        return get(reader, name)
    except ClusterError as error:
        if is_absent(error):
            return None
        raise


def add_user(writer: Writer, name: str, password: str | None) -> None:
    """Without a password nobody signs in as this user but by a certificate."""
    options = auth_pb2.UserAddOptions(no_password=password is None)
    request = rpc_pb2.AuthUserAddRequest(name=name, password=password or "", options=options)
    _change(writer, lambda s: s.auth.UserAdd, request)


def delete_user(writer: Writer, name: str) -> None:
    _change(writer, lambda s: s.auth.UserDelete, rpc_pb2.AuthUserDeleteRequest(name=name))


def change_password(writer: Writer, name: str, password: str) -> None:
    request = rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password)
    _change(writer, lambda s: s.auth.UserChangePassword, request)


def grant_role(writer: Writer, user: str, role: str) -> None:
    request = rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role)
    _change(writer, lambda s: s.auth.UserGrantRole, request)


def revoke_role(writer: Writer, user: str, role: str) -> None:
    request = rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role)
    _change(writer, lambda s: s.auth.UserRevokeRole, request)


def add_role(writer: Writer, name: str) -> None:
    _change(writer, lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=name))


def delete_role(writer: Writer, name: str) -> None:
    _change(writer, lambda s: s.auth.RoleDelete, rpc_pb2.AuthRoleDeleteRequest(role=name))


def grant_permission(writer: Writer, role: str, permission: Permission) -> None:
    perm = auth_pb2.Permission(
        permType=TYPE_OF[permission.kind], key=permission.key, range_end=permission.range_end
    )
    request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=perm)
    _change(writer, lambda s: s.auth.RoleGrantPermission, request)


def revoke_permission(writer: Writer, role: str, permission: Permission) -> None:
    request = rpc_pb2.AuthRoleRevokePermissionRequest(
        role=role, key=permission.key, range_end=permission.range_end
    )
    _change(writer, lambda s: s.auth.RoleRevokePermission, request)


def enable(writer: Writer) -> None:
    _change(writer, lambda s: s.auth.AuthEnable, rpc_pb2.AuthEnableRequest())


def disable(writer: Writer) -> None:
    _change(writer, lambda s: s.auth.AuthDisable, rpc_pb2.AuthDisableRequest())


def _change(writer: Writer, pick: Any, request: Any) -> None:
    try:
        writer._write(pick, request)
    finally:
        _changes[writer.cluster.pk] += 1
        # Each change makes older signed tokens worthless (spec/auth.md §2), and a changed
        # password or a switched-off authentication the simple ones.
        writer._client.forget_token()


def try_sign_in(cluster: Cluster) -> None:
    """Signs in as `cluster.user_name` and looks at a member; raises what the cluster says to it.
    Where authentication is off everybody is welcome."""
    client = Client(client_config(cluster))
    try:
        client.read(lambda s: s.maintenance.Status, rpc_pb2.StatusRequest(), READ_SECONDS)
    except CallFailed as error:
        raise domain_error(error) from None
    finally:
        client.close()
