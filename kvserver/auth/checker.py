"""The verdict: may this identity do that? (spec/auth.md §3, "Order of checks")"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvserver import errors
from kvserver.auth.demands import READ, LeaseKeys, demands
from kvserver.auth.identity import Identity
from kvserver.auth.rights import Rights
from kvserver.auth.store import AuthStore
from kvserver.proto import rpc_pb2


class Checker:
    """Judges while auth is enabled; everything is allowed while it is not. Owner: the loop."""

    def __init__(self, store: AuthStore, lease_keys: LeaseKeys) -> None:
        self.store = store
        self._lease_keys = lease_keys

    def permit(self, identity: Identity, request: Any) -> None:
        """Raise unless every range that the request demands is granted.

        Any valid credentials may send a request that demands nothing. A lease's revocation is
        judged as members of etcd judge it at apply: a user with role root passes whatever its
        revision, and a lease without keys asks for nobody.
        """
        store = self.store
        if not store.is_enabled:
            return
        kind = type(request)
        rights: Rights | None
        if kind is rpc_pb2.RangeRequest:  # hot: what it demands is one thing
            rights = store.rights(identity)
            if not rights.is_root and not rights.allow(READ, request.key, request.range_end):
                raise errors.PermissionDenied
            return
        is_revocation = kind is rpc_pb2.LeaseRevokeRequest
        if is_revocation and store.is_admin(identity.username):
            return
        rights = None
        for is_write, key, range_end in demands(request, self._lease_keys):
            if rights is None:
                rights = store.rights(identity)
                if rights.is_root:
                    return
            if not rights.allow(is_write, key, range_end):
                raise errors.PermissionDenied
        if rights is None and not is_revocation:
            store.check_revision(identity)

    def permit_keys(self, identity: Identity, is_write: bool, keys: Iterable[bytes]) -> None:
        """Raise unless the identity is a user that may read or write each of these keys."""
        if not self.store.is_enabled:
            return
        rights = self.store.rights(identity)
        if rights.is_root:
            return
        for key in keys:
            if not rights.allow(is_write, key, b""):
                raise errors.PermissionDenied

    def permit_user(self, identity: Identity) -> None:
        """Raise unless the identity is a user."""
        if self.store.is_enabled:
            self.store.rights(identity)

    def permit_admin(self, identity: Identity) -> None:
        """Raise unless the identity has role root."""
        if not self.store.is_enabled:
            return
        if not identity.username:
            raise errors.UserEmpty
        if not self.store.has_user(identity.username):
            raise errors.UserNotFound
        if not self.store.is_admin(identity.username):
            raise errors.PermissionDenied

    def permit_user_get(self, identity: Identity, name: str) -> None:
        """An admin or the user itself; others do not even learn who exists (trap 8)."""
        if not identity.username or name != identity.username:
            self.permit_admin(identity)

    def permit_role_get(self, identity: Identity, role: str) -> None:
        """An admin or a user that has the role."""
        if not self.store.has_role(identity.username, role):
            self.permit_admin(identity)
