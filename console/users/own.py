"""What the connection's own user may do: its roles, and the ranges it may read."""

from __future__ import annotations

import time
from dataclasses import dataclass

from console.gateway import ClusterError, Denied, Reader, auth
from console.keys.paging import KeyRange
from console.users.identity import own_name
from console.users.roots import Root, roots_of
from console.users.rules import EtcdRole, EtcdUser, readable
from console.users.spans import Span, span_of, wire_of


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


COUNT_SECONDS_MAX = 2.0


def roots_within(reader: Reader, keys: KeyRange) -> list[tuple[Root, int | None]]:
    """Where a key browser may begin for a connection that may not read all of `keys`: the union
    of its user's own ranges there, each with its number of keys as far as there is time."""
    try:
        found = own_access(reader)
    except ClusterError:
        return []
    if found.may_everything:
        return []
    deadline = time.monotonic() + COUNT_SECONDS_MAX
    roots = roots_of(readable(found.roles), span_of(keys.start, keys.end))
    return [(root, _count(reader, root.span, deadline)) for root in roots]


def _count(reader: Reader, span: Span, deadline: float) -> int | None:
    if time.monotonic() > deadline:
        return None
    key, range_end = wire_of(span)
    try:
        if span.is_one_key:
            return int(reader.key(key)[0] is not None)
        return reader.count(KeyRange(key, range_end))
    except ClusterError:
        return None
