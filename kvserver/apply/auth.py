"""Auth operations of the log, and the verdict on every operation at apply (spec/auth.md §3, §4).

Writes are judged here by the identity in the entry's header, so that every member decides the
same. What members of etcd judge before they propose (compaction, lease grants, alarms, members)
is judged there too and not here: a verdict of ours alone would part the members.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from kvserver.apply.command import Kind
from kvserver.auth import AuthStore, Checker, Identity
from kvserver.proto import internal_pb2, rpc_pb2

ADMIN_KINDS = frozenset(
    {
        Kind.AUTH_ENABLE,
        Kind.AUTH_DISABLE,
        Kind.AUTH_USER_ADD,
        Kind.AUTH_USER_DELETE,
        Kind.AUTH_USER_CHANGE_PASSWORD,
        Kind.AUTH_USER_GRANT_ROLE,
        Kind.AUTH_USER_REVOKE_ROLE,
        Kind.AUTH_USER_LIST,
        Kind.AUTH_ROLE_ADD,
        Kind.AUTH_ROLE_DELETE,
        Kind.AUTH_ROLE_LIST,
        Kind.AUTH_ROLE_GRANT_PERMISSION,
        Kind.AUTH_ROLE_REVOKE_PERMISSION,
    }
)
KEY_KINDS = frozenset({Kind.PUT, Kind.DELETE_RANGE, Kind.TXN, Kind.LEASE_REVOKE})


class AuthApplier:
    """Applies to the auth store. Owner: the loop."""

    def __init__(self, store: AuthStore, checker: Checker) -> None:
        self.store = store
        self.checker = checker
        self._handlers: dict[Kind, Callable[[Any], bytes]] = {
            Kind.AUTH_ENABLE: self._enable,
            Kind.AUTH_DISABLE: self._disable,
            Kind.AUTH_STATUS: self._status,
            Kind.AUTH_USER_ADD: self._user_add,
            Kind.AUTH_USER_DELETE: self._user_delete,
            Kind.AUTH_USER_GET: self._user_get,
            Kind.AUTH_USER_LIST: self._user_list,
            Kind.AUTH_USER_CHANGE_PASSWORD: self._user_change_password,
            Kind.AUTH_USER_GRANT_ROLE: self._user_grant_role,
            Kind.AUTH_USER_REVOKE_ROLE: self._user_revoke_role,
            Kind.AUTH_ROLE_ADD: self._role_add,
            Kind.AUTH_ROLE_DELETE: self._role_delete,
            Kind.AUTH_ROLE_GET: self._role_get,
            Kind.AUTH_ROLE_LIST: self._role_list,
            Kind.AUTH_ROLE_GRANT_PERMISSION: self._role_grant_permission,
            Kind.AUTH_ROLE_REVOKE_PERMISSION: self._role_revoke_permission,
        }

    @property
    def kinds(self) -> list[Kind]:
        """The operations that `apply` takes."""
        return [*self._handlers, Kind.AUTHENTICATE]

    def judge(self, kind: Kind, request: Any, identity: Identity) -> None:
        """Raise if the identity may not do this. Called while auth is enabled."""
        if kind in KEY_KINDS:
            self.checker.permit(identity, request)
        elif kind in ADMIN_KINDS:
            self.checker.permit_admin(identity)
        elif kind is Kind.AUTH_USER_GET:
            self.checker.permit_user_get(identity, request.name)
        elif kind is Kind.AUTH_ROLE_GET:
            self.checker.permit_role_get(identity, request.role)

    def apply(self, kind: Kind, request: Any, index: int) -> bytes:
        """The response's body. `index` is that of the entry: simple tokens carry it."""
        if kind is Kind.AUTHENTICATE:
            return self._authenticate(request, index)
        return self._handlers[kind](request)

    def answer(self, kind: Kind, request: Any, identity: Identity) -> bytes:
        """An operation that only reads, judged and carried out now, without an entry."""
        if self.store.is_enabled:
            self.judge(kind, request, identity)
        return self._handlers[kind](request)

    # -- on and off, logging in

    def _enable(self, request: rpc_pb2.AuthEnableRequest) -> bytes:
        self.store.enable()
        return b""

    def _disable(self, request: rpc_pb2.AuthDisableRequest) -> bytes:
        self.store.disable()
        return b""

    def _status(self, request: rpc_pb2.AuthStatusRequest) -> bytes:
        return rpc_pb2.AuthStatusResponse(
            enabled=self.store.is_enabled, authRevision=self.store.revision
        ).SerializeToString()

    def _authenticate(self, request: internal_pb2.InternalAuthenticateRequest, index: int) -> bytes:
        token = self.store.authenticate(request.name, request.simple_token, index)
        return rpc_pb2.AuthenticateResponse(token=token).SerializeToString()

    # -- users

    def _user_add(self, request: rpc_pb2.AuthUserAddRequest) -> bytes:
        no_password = request.options.no_password
        hashed = b"" if no_password else self._hash(request.password, request.hashedPassword)
        self.store.add_user(request.name, hashed, no_password)
        return b""

    def _user_delete(self, request: rpc_pb2.AuthUserDeleteRequest) -> bytes:
        self.store.delete_user(request.name)
        return b""

    def _user_get(self, request: rpc_pb2.AuthUserGetRequest) -> bytes:
        roles = self.store.roles_of(request.name)
        return rpc_pb2.AuthUserGetResponse(roles=roles).SerializeToString()

    def _user_list(self, request: rpc_pb2.AuthUserListRequest) -> bytes:
        return rpc_pb2.AuthUserListResponse(users=self.store.user_names()).SerializeToString()

    def _user_change_password(self, request: rpc_pb2.AuthUserChangePasswordRequest) -> bytes:
        hashed = self._hash(request.password, request.hashedPassword)
        self.store.change_password(request.name, hashed)
        return b""

    def _user_grant_role(self, request: rpc_pb2.AuthUserGrantRoleRequest) -> bytes:
        self.store.grant_role(request.user, request.role)
        return b""

    def _user_revoke_role(self, request: rpc_pb2.AuthUserRevokeRoleRequest) -> bytes:
        self.store.revoke_role(request.name, request.role)
        return b""

    def _hash(self, password: str, hashed: str) -> bytes:
        """The hash that came with the entry; only old releases leave it to apply (§1)."""
        if password and not hashed:
            return self.store.hash_password(password)
        try:
            return base64.b64decode(hashed)
        except binascii.Error:
            return b""  # nobody can log in with it

    # -- roles

    def _role_add(self, request: rpc_pb2.AuthRoleAddRequest) -> bytes:
        self.store.add_role(request.name)
        return b""

    def _role_delete(self, request: rpc_pb2.AuthRoleDeleteRequest) -> bytes:
        self.store.delete_role(request.role)
        return b""

    def _role_get(self, request: rpc_pb2.AuthRoleGetRequest) -> bytes:
        granted = self.store.permissions_of(request.role)
        return rpc_pb2.AuthRoleGetResponse(perm=granted).SerializeToString()

    def _role_list(self, request: rpc_pb2.AuthRoleListRequest) -> bytes:
        return rpc_pb2.AuthRoleListResponse(roles=self.store.role_names()).SerializeToString()

    def _role_grant_permission(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> bytes:
        given = request.perm if request.HasField("perm") else None
        self.store.grant_permission(request.name, given)
        return b""

    def _role_revoke_permission(self, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> bytes:
        self.store.revoke_permission(request.role, request.key, request.range_end)
        return b""
