"""What has to be so before authentication is switched on or off, and who would lose access.

No Django, no gRPC in here. Switched on with credentials that do not work, a cluster shuts the
console out; switched off, it is open to whoever reaches an endpoint (spec/auth.md §3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.users.rules import Directory, EtcdUser


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be so. `remedy` names what helps when it is not."""

    is_met: bool
    words: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a connection would come: `way` is password, certificate or nothing."""

    name: str
    way: str
    user: EtcdUser | None


def before_enabling(root: EtcdUser | None, own: Identity) -> list[Check]:
    """The server's two conditions, then what keeps the console able to manage and to switch
    off again."""
    way = "its client certificate" if own.way == "certificate" else "the password it holds"
    who = f"The user {own.name}" if own.name else "The connection's user"
    return [
        Check(root is not None, "The user root exists", "create-root"),
        Check(
            bool(root and root.is_admin),
            "The user root has the role root",
            "grant-root" if root else "",
        ),
        Check(
            own.way != "nothing",
            f"This connection comes as {own.name}, by {way}"
            if own.way != "nothing"
            else "This connection has a user and a password, or a client certificate",
            "connection",
        ),
        Check(own.user is not None, f"{who} exists in etcd", "create-own"),
        Check(
            bool(own.user and own.user.is_admin),
            f"{who} has the role root, so that the console can manage users and disable "
            "authentication again",
            "grant-own" if own.user else "",
        ),
    ]


def before_disabling(own: Identity) -> list[Check]:
    who = f"The user {own.name}" if own.name else "The connection's user"
    return [Check(bool(own.user and own.user.is_admin), f"{who} has the role root")]


@dataclass(frozen=True, slots=True)
class Losses:
    """Who keeps what when nobody comes without a name any more."""

    admins: tuple[str, ...]
    limited: tuple[str, ...]
    without: tuple[str, ...]


def losses(directory: Directory) -> Losses:
    def named(users: Sequence[EtcdUser]) -> tuple[str, ...]:
        return tuple(user.name for user in users)

    users = directory.users
    limited = [one for one in users if not one.is_admin and _may_anything(directory, one)]
    without = [one for one in users if not one.is_admin and one not in limited]
    return Losses(named([one for one in users if one.is_admin]), named(limited), named(without))


def _may_anything(directory: Directory, user: EtcdUser) -> bool:
    return any(
        not permission.span.is_empty
        for role in directory.roles_of(user)
        for permission in role.permissions
    )
