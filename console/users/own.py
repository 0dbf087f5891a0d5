"""What the connection's own user may do: its roles, and the ranges it may read."""

from __future__ import annotations

from dataclasses import dataclass

from console.gateway import ClusterError, Denied, Reader, auth
from console.users.identity import own_name
from console.users.rules import EtcdRole, EtcdUser, readable
from console.users.spans import Span


@dataclass(frozen=True, slots=True)
class OwnAccess:
    """`user` None: nobody, or one the cluster does not know. `refusal`: why it cannot be told."""

    name: str
    is_enabled: bool
    user: EtcdUser | None = None
    roles: tuple[EtcdRole, ...] = ()
    refusal: ClusterError | None = None

    @property
    def may_everything(self) -> bool:
        return not self.is_enabled or bool(self.user and self.user.is_admin)


def own_access(reader: Reader) -> OwnAccess:
    """Anybody may ask for oneself and one's own roles (spec/auth.md §3, UserGet, RoleGet)."""
    name = own_name(reader.cluster)
    is_enabled = auth.is_enabled(reader)
    if not name:
        return OwnAccess(name, is_enabled)
    try:
        user = auth.user(reader, name)
        return OwnAccess(name, is_enabled, user, tuple(auth.roles(reader, user.roles)))
    except Denied as error:
        return OwnAccess(name, is_enabled, refusal=error)
    except ClusterError as error:
        if not auth.is_absent(error):
            raise
        return OwnAccess(name, is_enabled)


def readable_roots(reader: Reader) -> tuple[Span, ...] | None:
    """Where a key browser may begin for a connection that may not read everything: the union of
    its user's own ranges. None when everything may be read, or nothing can be told."""
    try:
        found = own_access(reader)
    except ClusterError:
        return None
    if found.may_everything or found.user is None:
        return None
    return readable(found.roles)
