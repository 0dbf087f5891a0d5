"""The auth store: users, roles, the enabled flag and the auth revision (spec/auth.md §1, §2, §4).

Changed only by entries of the log, kept in the backend's tables as etcd keeps them. Every change
is checked before its first effect. What is derived (each user's rights) is dropped as a whole
whenever the revision moves, so it is the same on every member and after every restart.

Owner: the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kvserver import errors
from kvserver.auth.identity import NOBODY, ROOT, Identity
from kvserver.auth.intervals import OPEN_END, is_valid_grant
from kvserver.auth.rights import READWRITE, Rights
from kvserver.auth.tokens import Tokens
from kvserver.limits import AUTH_NAME_BYTES_MAX
from kvserver.proto import auth_pb2

FLAGS, USERS, ROLES = "auth", "authUsers", "authRoles"
ENABLED, REVISION = b"authEnabled", b"authRevision"
FIRST_REVISION = 1


class NoPasswordUser(errors.RequestError):
    message = "auth: authentication failed, password was given for no password user"


class NameTooLong(errors.RequestError):
    """Of a user or a role. etcd has no word for it: it stops."""

    code = errors.Code.INVALID_ARGUMENT
    message = f"auth: a name has at most {AUTH_NAME_BYTES_MAX} bytes"


class Tables(Protocol):
    """The small tables of the backend."""

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...

    def items(self, table: str) -> list[tuple[bytes, bytes]]: ...


class AuthStore:
    """`is_enabled` is a plain attribute: on the put path it is all that auth costs when off."""

    def __init__(
        self, tables: Tables, tokens: Tokens, hash_password: Callable[[str], bytes]
    ) -> None:
        self.is_enabled = False
        self.revision = FIRST_REVISION
        self.tokens = tokens
        self.hash_password = hash_password
        """For entries of releases that let the log carry passwords; nothing else hashes here."""
        self._tables = tables
        self._users: dict[str, auth_pb2.User] = {}
        self._roles: dict[str, auth_pb2.Role] = {}
        self._rights: dict[str, Rights] = {}

    def restore(self) -> None:
        """Take over what the tables hold, instead of what was here.

        A member that lagged has not seen the entries in between, which may have ended tokens
        (a changed password, a deleted user): as after a restart, it knows none then (§7.1).
        """
        before = self.revision
        flags = dict(self._tables.items(FLAGS))
        self.is_enabled = flags.get(ENABLED) == b"\x01"
        users = (auth_pb2.User.FromString(value) for _, value in self._tables.items(USERS))
        self._users = {_text(user.name): user for user in users}
        roles = (auth_pb2.Role.FromString(value) for _, value in self._tables.items(ROLES))
        self._roles = {_text(role.name): role for role in roles}
        self._rights.clear()
        if REVISION in flags:
            self.revision = int.from_bytes(flags[REVISION], "big")
        else:
            self._set_revision(FIRST_REVISION)
        if self.revision != before:
            self.tokens.clear()

    # -- questions

    @property
    def internal_root(self) -> Identity:
        """The identity of what the server does by itself, such as revoking expired leases."""
        return Identity(ROOT, self.revision) if self.is_enabled else NOBODY

    def has_user(self, name: str) -> bool:
        return name in self._users

    def is_admin(self, name: str) -> bool:
        return self.has_role(name, ROOT)

    def has_role(self, name: str, role: str) -> bool:
        user = self._users.get(name)
        return user is not None and role in user.roles

    def user(self, name: str) -> auth_pb2.User | None:
        """Not to be changed."""
        return self._users.get(name)

    def check_revision(self, identity: Identity) -> None:
        if not identity.revision or not identity.username:
            raise errors.UserEmpty
        if identity.revision < self.revision:
            raise errors.AuthOldRevision

    def rights(self, identity: Identity) -> Rights:
        """The rights of a user whose credentials are not outdated."""
        self.check_revision(identity)
        found = self._rights.get(identity.username)
        if found is None:
            found = self._rights[identity.username] = self._rights_of(identity.username)
        return found

    def _rights_of(self, name: str) -> Rights:
        user = self._users.get(name)
        if user is None:
            raise errors.PermissionDenied
        granted = [self._roles[role] for role in user.roles if role in self._roles]
        permissions = (p for role in granted for p in role.keyPermission)
        return Rights(ROOT in user.roles, permissions)

    # -- on and off

    def enable(self) -> None:
        """The revision stays (spec/auth.md §2)."""
        if self.is_enabled:
            return
        if ROOT not in self._users:
            raise errors.RootUserNotExist
        if not self.is_admin(ROOT):
            raise errors.RootRoleNotExist
        self.is_enabled = True
        self.tokens.clear()
        self._tables.put(FLAGS, ENABLED, b"\x01")

    def disable(self) -> None:
        if not self.is_enabled:
            return
        self.is_enabled = False
        self.tokens.clear()
        self._tables.put(FLAGS, ENABLED, b"\x00")
        self._bump()

    def authenticate(self, name: str, prefix: str, index: int) -> str:
        """The token of a user whose password the proposing member has checked."""
        if not self.is_enabled:
            raise errors.AuthNotEnabled
        user = self._users.get(name)
        if user is None:
            raise errors.AuthFailed
        if user.options.no_password:
            raise NoPasswordUser
        return self.tokens.assign(name, prefix, index)

    # -- users

    def add_user(self, name: str, password_hash: bytes, no_password: bool) -> None:
        if not name:
            raise errors.UserEmpty
        if name in self._users:
            raise errors.UserAlreadyExist
        _refuse_long(name)
        user = auth_pb2.User(name=_bytes(name))
        user.options.no_password = no_password  # set even when false, as etcd stores it
        if not no_password:
            user.password = password_hash
        self._save_user(name, user)
        self._bump()

    def delete_user(self, name: str) -> None:
        if self.is_enabled and name == ROOT:
            raise errors.InvalidAuthMgmt
        self._existing_user(name)
        del self._users[name]
        self._tables.delete(USERS, _bytes(name))
        self.tokens.drop_user(name)
        self._bump()

    def change_password(self, name: str, password_hash: bytes) -> None:
        """A no-password user gets the hash but keeps its option (§1)."""
        user = self._existing_user(name)
        user.password = password_hash
        self._save_user(name, user)
        self.tokens.drop_user(name)
        self._bump()

    def grant_role(self, name: str, role: str) -> None:
        user = self._existing_user(name)
        if role != ROOT and role not in self._roles:
            raise errors.RoleNotFound
        if role in user.roles:
            return  # no news, no revision
        user.roles[:] = sorted([*user.roles, role])
        self._save_user(name, user)
        self._bump()

    def revoke_role(self, name: str, role: str) -> None:
        if self.is_enabled and name == ROOT and role == ROOT:
            raise errors.InvalidAuthMgmt
        user = self._existing_user(name)
        if role not in user.roles:
            raise errors.RoleNotGranted
        user.roles.remove(role)
        self._save_user(name, user)
        self._bump()

    def roles_of(self, name: str) -> list[str]:
        return list(self._existing_user(name).roles)

    def user_names(self) -> list[str]:
        """In byte order, which is that of code points."""
        return sorted(self._users)

    # -- roles

    def add_role(self, name: str) -> None:
        if not name:
            raise errors.RoleEmpty
        if name in self._roles:
            raise errors.RoleAlreadyExist
        _refuse_long(name)
        self._save_role(name, auth_pb2.Role(name=_bytes(name)))
        self._bump()

    def delete_role(self, name: str) -> None:
        """Also from every user that has it."""
        if self.is_enabled and name == ROOT:
            raise errors.InvalidAuthMgmt
        self._existing_role(name)
        del self._roles[name]
        self._tables.delete(ROLES, _bytes(name))
        for holder, user in self._users.items():
            if name in user.roles:
                user.roles.remove(name)
                self._save_user(holder, user)
        self._bump()

    def grant_permission(self, name: str, permission: auth_pb2.Permission | None) -> None:
        """On exactly this range: a grant there is replaced (spec/auth.md §4)."""
        if permission is None:
            raise errors.PermissionNotGiven
        role = self._existing_role(name)
        if not is_valid_grant(permission.key, permission.range_end):
            raise errors.InvalidAuthMgmt
        others = [p for p in role.keyPermission if _place(p) != _place(permission)]
        granted = sorted([*others, permission], key=_place)
        changed = auth_pb2.Role(name=role.name, keyPermission=granted)
        self._save_role(name, changed)
        self._bump()

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """The type is no part of the match: the entry goes whole."""
        role = self._existing_role(name)
        kept = [p for p in role.keyPermission if _place(p) != (key, range_end)]
        if len(kept) == len(role.keyPermission):
            raise errors.PermissionNotGranted
        self._save_role(name, auth_pb2.Role(name=role.name, keyPermission=kept))
        self._bump()

    def permissions_of(self, name: str) -> list[auth_pb2.Permission]:
        """Role root is said to have everything, whatever was granted to it."""
        role = self._existing_role(name)
        if name == ROOT:
            return [auth_pb2.Permission(permType=READWRITE, range_end=OPEN_END)]  # type: ignore[arg-type]
        return list(role.keyPermission)

    def role_names(self) -> list[str]:
        return sorted(self._roles)

    # -- the rest

    def _existing_user(self, name: str) -> auth_pb2.User:
        user = self._users.get(name)
        if user is None:
            raise errors.UserNotFound
        return user

    def _existing_role(self, name: str) -> auth_pb2.Role:
        role = self._roles.get(name)
        if role is None:
            raise errors.RoleNotFound
        return role

    def _save_user(self, name: str, user: auth_pb2.User) -> None:
        self._users[name] = user
        self._tables.put(USERS, _bytes(name), user.SerializeToString(deterministic=True))

    def _save_role(self, name: str, role: auth_pb2.Role) -> None:
        self._roles[name] = role
        self._tables.put(ROLES, _bytes(name), role.SerializeToString(deterministic=True))

    def _bump(self) -> None:
        self._rights.clear()
        self._set_revision(self.revision + 1)

    def _set_revision(self, revision: int) -> None:
        self.revision = revision
        self._tables.put(FLAGS, REVISION, revision.to_bytes(8, "big"))


def _refuse_long(name: str) -> None:
    if len(_bytes(name)) > AUTH_NAME_BYTES_MAX:
        raise NameTooLong


def _place(permission: auth_pb2.Permission) -> tuple[bytes, bytes]:
    return permission.key, permission.range_end


def _text(name: bytes) -> str:
    """Releases before 3.7 took names that are no UTF-8; they must survive a restart."""
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
