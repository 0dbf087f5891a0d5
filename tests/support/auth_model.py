"""The auth rules of spec/auth.md as plainly as they can be written: no intervals, no caches.

Rights are judged key by key. A range is allowed when each of its witnesses is: its first key, and
every place inside it where a grant begins or ends. Between two such places nothing can change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

Place = tuple[bytes, bytes]
READ, WRITE, READWRITE = 0, 1, 2
OPEN_END = b"\x00"
LAST = b"\xff" * 8
"""Stands for the keys beyond every bound."""


class Refused(Exception):
    """One of the texts of spec/auth.md §8, without its prefix."""


@dataclass
class AuthModel:
    """Users and roles as dicts; the revision counts the changes."""

    enabled: bool = False
    revision: int = 1
    passwords: dict[str, bytes] = field(default_factory=dict)
    no_password: dict[str, bool] = field(default_factory=dict)
    users: dict[str, set[str]] = field(default_factory=dict)
    roles: dict[str, dict[Place, int]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    # §4

    def enable(self) -> None:
        if not self.enabled:
            refuse("root" not in self.users, "root user does not exist")
            refuse("root" not in self.users["root"], "root user does not have root role")
            self.enabled = True
            self.tokens.clear()

    def disable(self) -> None:
        if self.enabled:
            self.enabled = False
            self.tokens.clear()
            self.revision += 1

    def add_user(self, name: str, password: bytes, no_password: bool) -> None:
        refuse(not name, "user name is empty")
        refuse(name in self.users, "user name already exists")
        self.users[name] = set()
        self.passwords[name] = b"" if no_password else password
        self.no_password[name] = no_password
        self.revision += 1

    def delete_user(self, name: str) -> None:
        refuse(self.enabled and name == "root", "invalid auth management")
        refuse(name not in self.users, "user name not found")
        del self.users[name], self.passwords[name], self.no_password[name]
        self._forget_tokens(name)
        self.revision += 1

    def change_password(self, name: str, password: bytes) -> None:
        refuse(name not in self.users, "user name not found")
        self.passwords[name] = password
        self._forget_tokens(name)
        self.revision += 1

    def _forget_tokens(self, name: str) -> None:
        self.tokens = {token: user for token, user in self.tokens.items() if user != name}

    def grant_role(self, name: str, role: str) -> None:
        refuse(name not in self.users, "user name not found")
        refuse(role != "root" and role not in self.roles, "role name not found")
        if role not in self.users[name]:
            self.users[name].add(role)
            self.revision += 1

    def revoke_role(self, name: str, role: str) -> None:
        protected = self.enabled and (name, role) == ("root", "root")
        refuse(protected, "invalid auth management")
        refuse(name not in self.users, "user name not found")
        refuse(role not in self.users[name], "role is not granted to the user")
        self.users[name].remove(role)
        self.revision += 1

    def add_role(self, name: str) -> None:
        refuse(not name, "role name is empty")
        refuse(name in self.roles, "role name already exists")
        self.roles[name] = {}
        self.revision += 1

    def delete_role(self, name: str) -> None:
        refuse(self.enabled and name == "root", "invalid auth management")
        refuse(name not in self.roles, "role name not found")
        del self.roles[name]
        for granted in self.users.values():
            granted.discard(name)
        self.revision += 1

    def grant_permission(self, name: str, kind: int, key: bytes, end: bytes) -> None:
        refuse(name not in self.roles, "role name not found")
        inverted = bool(end) and end != OPEN_END and end <= key
        refuse(not key or inverted, "invalid auth management")
        self.roles[name][key, end] = kind
        self.revision += 1

    def revoke_permission(self, name: str, key: bytes, end: bytes) -> None:
        refuse(name not in self.roles, "role name not found")
        refuse((key, end) not in self.roles[name], "permission is not granted to the role")
        del self.roles[name][key, end]
        self.revision += 1

    # verdicts

    def may(self, name: str, is_write: bool, key: bytes, end: bytes) -> bool:
        """Of an existing user. `end` is no inverted one."""
        if "root" in self.users[name]:
            return True
        grants = list(self._grants(name, is_write))
        bounds = {key, LAST} | {edge for grant in grants for edge in edges(*grant)}
        witnesses = [bound for bound in bounds if within(bound, key, end)]
        return all(any(within(w, *grant) for grant in grants) for w in witnesses)

    def _grants(self, name: str, is_write: bool) -> Iterator[Place]:
        for role in self.users[name]:
            for place, kind in self.roles.get(role, {}).items():
                if kind in (READWRITE, WRITE if is_write else READ):
                    yield place


def refuse(when: bool, text: str) -> None:
    if when:
        raise Refused("etcdserver: " + text)


def edges(key: bytes, end: bytes) -> tuple[bytes, ...]:
    return (key,) if end == OPEN_END else (key, end or key + b"\x00")


def within(key: bytes, first: bytes, end: bytes) -> bool:
    """The range notation of spec/auth.md §1."""
    if not end:
        return key == first
    return key >= first and (end == OPEN_END or key < end)
