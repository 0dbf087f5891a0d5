"""What the connection's own user may do: its roles, and the ranges it may read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from console.gateway import ClusterError, Denied, Reader, auth
from console.keys.byte_text import show
from console.keys.paging import KeyRange
from console.users.identity import own_name
from console.users.roots import Root, roots_of
from console.users.rules import WRITE, EtcdRole, EtcdUser, decide, readable
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


REMEMBERED_SECONDS = 5.0
REMEMBERED_MAX = 200
_remembered: dict[tuple[int, str, object], tuple[float, OwnAccess]] = {}


def recent_access(reader: Reader) -> OwnAccess:
    """The same, a few seconds old at most: for what pages about keys hint at. Whether something
    may be done is the server's to say, when it is done."""
    cluster = reader.cluster
    whose, now = (cluster.pk, own_name(cluster), cluster.changed_at), time.monotonic()
    taken_at, found = _remembered.get(whose, (float("-inf"), None))
    if found is None or now - taken_at > REMEMBERED_SECONDS:
        if len(_remembered) >= REMEMBERED_MAX:
            _remembered.clear()
        found = own_access(reader)
        _remembered[whose] = (now, found)
    return found


def write_limits(reader: Reader, span: Span, *, whole: bool = True) -> dict[str, Any]:
    """What a page about `span` says in place of its buttons when the connection's own user may
    not write there: all of it, or with `whole` False any of it."""
    if not own_name(reader.cluster):
        return {}
    try:
        found = recent_access(reader)
    except ClusterError:
        return {}
    if found.may_everything or found.user is None:
        return {}
    decision = decide(found.roles, WRITE, span)
    if decision.is_allowed or (decision.is_partly and not whole):
        return {}
    why = f"The etcd user {show(found.name.encode())} may not write here"
    return {"may_edit": False, "why_not_edit": why}


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
