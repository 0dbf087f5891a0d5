"""The etcdctl commands for users, roles and authentication. No Django in here.

A password never stands in one: etcdctl asks for it.
"""

from __future__ import annotations

from console.etcdctl import Etcdctl, shell_word
from console.keys.paging import FROM_NUL
from console.users.rules import Permission
from console.users.spans import shape_of

NO_SHELL_WORD = "# a NUL byte cannot stand in a command line: etcdctl cannot say this"


def user(ctl: Etcdctl, verb: str, *names: str, flags: tuple[str, ...] = ()) -> str:
    return _line(ctl, "user", verb, flags, [name.encode() for name in names])


def add_user(ctl: Etcdctl, name: str, *, has_password: bool) -> str:
    flags: tuple[str, ...] = () if has_password else ("--no-password",)
    if has_password and ":" in name:  # which etcdctl would take for name:password
        flags = ('--new-user-password="$PASSWORD"',)
    return user(ctl, "add", name, flags=flags)


def role(ctl: Etcdctl, verb: str, name: str) -> str:
    return _line(ctl, "role", verb, (), [name.encode()])


def grant_permission(ctl: Etcdctl, name: str, permission: Permission) -> str:
    flags, operands = _operands(permission)
    words = [name.encode(), permission.kind.encode(), *operands]
    return _line(ctl, "role", "grant-permission", flags, words)


def revoke_permission(ctl: Etcdctl, name: str, permission: Permission) -> str:
    flags, operands = _operands(permission)
    return _line(ctl, "role", "revoke-permission", flags, [name.encode(), *operands])


def _operands(permission: Permission) -> tuple[tuple[str, ...], list[bytes]]:
    shape = shape_of(permission.key, permission.range_end)
    if permission.key == FROM_NUL and shape == "all":
        return ("--prefix",), [b""]  # etcdctl takes "" for the first key there can be
    if shape in {"from", "prefix"}:
        return (f"--{shape}-key" if shape == "from" else "--prefix",), [permission.key]
    return (), [permission.key, permission.range_end] if permission.range_end else [permission.key]


def _line(ctl: Etcdctl, noun: str, verb: str, flags: tuple[str, ...], operands: list[bytes]) -> str:
    if any(b"\0" in word for word in operands):
        return NO_SHELL_WORD
    dashes = ["--"] if any(word.startswith(b"-") for word in operands) else []
    return ctl.line(noun, verb, *flags, *dashes, *map(shell_word, operands))
