"""What is odd about a cluster's users and roles, each with what to do about it. No Django, no
gRPC in here.

A finding is not a fault: somebody may have meant it. Its words say what the server makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from console.keys.byte_text import show
from console.keys.paging import FROM_NUL, prefix_end
from console.users.rules import ROOT, WRITE, Directory, EtcdRole, Permission, decide, readable
from console.users.spans import Span, shape_of

SEPARATORS = b"/:.-_|#"
GUESTS = {"guest", "anonymous", "nobody", "public", "everyone", "default"}
EVERYTHING = Span(FROM_NUL, None)

DANGER, WARN, NOTE = "danger", "warn", "note"
LEVELS = (DANGER, WARN, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """`user`, `role`, `permission`: what it is about, as far as it is about one."""

    rule: str
    level: str
    what: str
    remedy: str
    user: str = ""
    role: str = ""
    permission: Permission | None = None


def lint(directory: Directory, *, is_enabled: bool) -> list[Finding]:
    """Gravest first."""
    found = [*_of_ranges(directory), *_of_roles(directory), *_of_users(directory)]
    if not is_enabled and directory.users:
        what = "Authentication is off: whoever reaches an endpoint may do everything."
        remedy = "Enable authentication when users and roles are as they should be."
        found.append(Finding("auth-off", WARN, what, remedy))
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def _of_ranges(directory: Directory) -> Iterator[Finding]:
    for role in directory.roles:
        for permission in role.permissions:
            odd = odd_range(permission)
            if odd:
                rule, level, what, remedy = odd
                yield Finding(rule, level, what, remedy, role=role.name, permission=permission)
        yield from _redundant(role)


def odd_range(permission: Permission) -> tuple[str, str, str, str] | None:
    """Rule, level, what it does and what to do, for bounds that are seldom meant."""
    key, end = permission.key, permission.range_end
    shape = shape_of(key, end)
    if permission.span.is_empty:
        return (
            "no-range",
            DANGER,
            f"The end {show(end)} does not lie behind {show(key)}: it allows nothing.",
            "Revoke it and grant the range that was meant; newer servers refuse such bounds.",
        )
    if shape == "prefix" and key[-1:].isalnum():
        return (
            "no-separator",
            WARN,
            f"The prefix {show(key)} also covers {show(key)}2, {show(key)}-old and the like.",
            f"Where the folder is meant, grant the prefix {show(key)}/ and, if it is a key "
            f"itself, the key {show(key)}.",
        )
    return _odd_end(key, end) if shape == "range" else None


def _odd_end(key: bytes, end: bytes) -> tuple[str, str, str, str] | None:
    whole = prefix_end(key)
    remedy = f"Where everything that begins with {show(key)} is meant, the end is {show(whole)}."
    if end.startswith(key):
        what = f"The end {show(end)} lies inside the prefix {show(key)}: only a part is covered."
        return "ends-inside", WARN, what, remedy
    if key[-1] in SEPARATORS and end[-1] == key[-1]:
        what = (
            f"Two folders as bounds: it covers {show(key)} and every name up to {show(end)}, "
            f"such as {show(whole)}."
        )
        return "two-folders", WARN, what, remedy
    if len(end) == len(whole) and end[:-1] == whole[:-1] and abs(end[-1] - whole[-1]) == 1:
        what = f"The end {show(end)} is close to {show(whole)}, which ends the prefix {show(key)}."
        return "adjacent-end", NOTE, what, remedy
    return None


def _redundant(role: EtcdRole) -> Iterator[Finding]:
    """Permissions of one role that its others already give, whole or in part."""
    for permission in role.permissions:
        span = permission.span
        others = tuple(one for one in role.permissions if one is not permission)
        if span.is_empty or role.is_root:
            continue
        rest = EtcdRole(role.name, others)
        if all(decide([rest], right, span).is_allowed for right in permission.rights):
            what = "The role's other permissions cover it whole: it changes nothing."
            remedy = "Revoke it, or the others if it is the one that was meant."
            yield Finding("redundant", NOTE, what, remedy, role=role.name, permission=permission)
            continue
        across = [one for one in others if _crosses(permission, one)]
        if across:
            what = (
                f"It overlaps {show(across[0].key)} of the same role in part: what it allows "
                "there stays when this one is revoked."
            )
            remedy = "Cut the ranges so that each key is covered by one of them."
            yield Finding("overlap", NOTE, what, remedy, role=role.name, permission=permission)


def _crosses(one: Permission, other: Permission) -> bool:
    """They share keys and a right, and neither is inside the other."""
    if not set(one.rights) & set(other.rights) or not one.span.meets(other.span):
        return False
    return not one.span.covers(other.span) and not other.span.covers(one.span)


def _of_roles(directory: Directory) -> Iterator[Finding]:
    for role in directory.roles:
        name = show(role.name.encode())
        if role.is_root:
            if role.permissions and any(one.key for one in role.permissions):
                what = "Permissions of the role root change nothing: it may do everything."
                yield Finding("root-permissions", NOTE, what, "Revoke them.", role=role.name)
            continue
        if role.name.lower() in GUESTS:
            what = (
                f"Nobody is {name} without having been granted it: etcd has no role for who "
                "does not sign in, as its second version had."
            )
            remedy = "Delete it unless somebody holds it on purpose."
            yield Finding("guest", WARN, what, remedy, role=role.name)
        if decide([role], WRITE, EVERYTHING).is_allowed:
            what = "It may write every key: only managing users and members is left to root."
            remedy = "Grant the prefixes that are needed instead."
            yield Finding("writes-everything", WARN, what, remedy, role=role.name)
        elif any(one.covers(EVERYTHING) for one in readable([role])):
            what = "It may read every key, secrets of others included."
            remedy = "Grant the prefixes that are needed instead."
            yield Finding("reads-everything", NOTE, what, remedy, role=role.name)
        if not role.permissions:
            what = "It has no permissions: it allows nothing."
            remedy = "Grant it a permission, or delete it."
            yield Finding("no-permissions", NOTE, what, remedy, role=role.name)
        if not directory.users_left_out and not directory.holders_of(role.name):
            what = "Nobody holds this role."
            remedy = "Grant it to who needs it, or delete it."
            yield Finding("unused", NOTE, what, remedy, role=role.name)


def _of_users(directory: Directory) -> Iterator[Finding]:
    known = {user.name: user for user in directory.users}
    if directory.users and ROOT not in known and not directory.users_left_out:
        what = "There is no user root: authentication cannot be enabled."
        yield Finding("no-root", NOTE, what, "Create the user root with the role root.", user=ROOT)
    for user in directory.users:
        if user.name == ROOT and not user.is_admin:
            what = "The user root lacks the role root: authentication cannot be enabled."
            yield Finding("root-no-role", WARN, what, "Grant it the role root.", user=ROOT)
            continue
        if not user.roles:
            what = "This user has no role: it may sign in and touch no key."
            remedy = "Grant it a role, or delete it."
            yield Finding("no-roles", NOTE, what, remedy, user=user.name)
        if user.is_admin and len(user.roles) > 1:
            what = "Beside root, the other roles of this user change nothing."
            yield Finding("beside-root", NOTE, what, "Revoke them, or root.", user=user.name)
        if user.name.lower() in GUESTS:
            what = "A user many are meant to share: the log cannot tell who it was."
            remedy = "Give everybody a user of their own."
            yield Finding("guest", WARN, what, remedy, user=user.name)
