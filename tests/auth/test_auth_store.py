"""Users, roles, permissions and the auth revision (spec/auth.md §1, §2, §4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvserver import errors
from kvserver.auth import AuthStore, Identity
from kvserver.auth.store import NoPasswordUser
from kvserver.proto import auth_pb2
from tests.auth.rig import DictTables, Now, Rig, SimpleTokens, make_store, permission

READ, WRITE, READWRITE = 0, 1, 2


@pytest.fixture
def store() -> AuthStore:
    return Rig().store


def test_a_fresh_store_is_at_revision_one() -> None:
    tables = DictTables()
    assert make_store(tables).revision == 1
    assert tables.tables["auth"] == {b"authRevision": b"\0\0\0\0\0\0\0\x01"}


def test_enabling_wants_a_root_with_the_role() -> None:
    """Case 1; §3 "Preconditions of AuthEnable"."""
    store = make_store()
    with pytest.raises(errors.RootUserNotExist):
        store.enable()
    store.add_user("root", b"", True)  # a root without a password will do
    with pytest.raises(errors.RootRoleNotExist):
        store.enable()
    store.grant_role("root", "root")  # the role need not exist
    store.enable()
    assert store.is_enabled


Change = Callable[[AuthStore], None]
CHANGES: dict[str, tuple[Change, int]] = {
    "UserAdd": (lambda s: s.add_user("new", b"", False), 1),
    "UserDelete": (lambda s: s.delete_user("u"), 1),
    "UserChangePassword": (lambda s: s.change_password("u", b"h"), 1),
    "UserGrantRole": (lambda s: s.grant_role("u", "root"), 1),
    "UserGrantRole again": (lambda s: s.grant_role("u", "r"), 0),
    "UserRevokeRole": (lambda s: s.revoke_role("u", "r"), 1),
    "RoleAdd": (lambda s: s.add_role("new"), 1),
    "RoleDelete": (lambda s: s.delete_role("r"), 1),
    "RoleGrantPermission": (lambda s: s.grant_permission("r", permission(READ, b"x")), 1),
    "RoleRevokePermission": (lambda s: s.revoke_permission("r", b"a", b"b"), 1),
    "AuthEnable again": (lambda s: s.enable(), 0),
    "AuthDisable": (lambda s: s.disable(), 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_moves_the_revision(store: AuthStore, name: str) -> None:
    """§2; case 20, trap 4."""
    change, growth = CHANGES[name]
    before = store.revision
    change(store)
    assert store.revision - before == growth


def test_enabling_and_disabling_what_is_so_already_moves_nothing() -> None:
    store = Rig().store
    revision = store.revision
    store.disable()
    assert store.revision == revision + 1
    store.disable()
    store.enable()
    assert store.revision == revision + 1


REFUSALS: dict[str, tuple[Change, type[errors.RequestError]]] = {
    "add a user without a name": (lambda s: s.add_user("", b"", False), errors.UserEmpty),
    "add a user twice": (lambda s: s.add_user("u", b"", False), errors.UserAlreadyExist),
    "delete nobody": (lambda s: s.delete_user("x"), errors.UserNotFound),
    "delete root": (lambda s: s.delete_user("root"), errors.InvalidAuthMgmt),
    "nobody's password": (lambda s: s.change_password("x", b""), errors.UserNotFound),
    "grant to nobody": (lambda s: s.grant_role("x", "y"), errors.UserNotFound),
    "grant no role": (lambda s: s.grant_role("u", "y"), errors.RoleNotFound),
    "revoke from nobody": (lambda s: s.revoke_role("x", "r"), errors.UserNotFound),
    "revoke what is not granted": (lambda s: s.revoke_role("u", "y"), errors.RoleNotGranted),
    "revoke root from root": (lambda s: s.revoke_role("root", "root"), errors.InvalidAuthMgmt),
    "add a role without a name": (lambda s: s.add_role(""), errors.RoleEmpty),
    "add a role twice": (lambda s: s.add_role("r"), errors.RoleAlreadyExist),
    "delete no role": (lambda s: s.delete_role("y"), errors.RoleNotFound),
    "delete role root": (lambda s: s.delete_role("root"), errors.InvalidAuthMgmt),
    "roles of nobody": (lambda s: s.roles_of("x"), errors.UserNotFound),
    "permissions of no role": (lambda s: s.permissions_of("y"), errors.RoleNotFound),
    "no permission": (lambda s: s.grant_permission("y", None), errors.PermissionNotGiven),
    "permission for no role": (
        lambda s: s.grant_permission("y", permission(READ, b"")),
        errors.RoleNotFound,
    ),
    "permission on no key": (
        lambda s: s.grant_permission("r", permission(READ, b"")),
        errors.InvalidAuthMgmt,
    ),
    "permission on an inverted range": (
        lambda s: s.grant_permission("r", permission(READ, b"b", b"a")),
        errors.InvalidAuthMgmt,
    ),
    "take from no role": (lambda s: s.revoke_permission("y", b"a", b""), errors.RoleNotFound),
    "take half a permission": (  # case 24
        lambda s: s.revoke_permission("r", b"a", b""),
        errors.PermissionNotGranted,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_change_nothing(name: str) -> None:
    """§4; case 23, 24."""
    change, error = REFUSALS[name]
    rig = Rig()
    tables = rig.store._tables
    before = {name: dict(rows) for name, rows in tables.tables.items()}  # type: ignore[attr-defined]
    revision = rig.store.revision
    with pytest.raises(error) as refused:
        change(rig.store)
    assert type(refused.value) is error
    assert rig.store.revision == revision
    assert tables.tables == before  # type: ignore[attr-defined]


def test_root_is_protected_only_while_auth_is_enabled(store: AuthStore) -> None:
    """§3 "Root protection"; case 14."""
    store.add_role("root")
    store.disable()
    store.revoke_role("root", "root")
    store.delete_role("root")
    store.delete_user("root")


def test_names_come_in_byte_order() -> None:
    store = make_store()
    for name in ("b", "é", "a", "Z", "\U0001f511", "￿"):
        store.add_user(name, b"", False)
        store.add_role(name)
    ordered = sorted(("b", "é", "a", "Z", "\U0001f511", "￿"), key=str.encode)
    assert store.user_names() == store.role_names() == ordered


def test_roles_of_a_user_are_sorted(store: AuthStore) -> None:
    for name in ("z", "a"):
        store.add_role(name)
        store.grant_role("u", name)
    assert store.roles_of("u") == ["a", "r", "z"]


def test_a_grant_on_the_same_range_is_replaced(store: AuthStore) -> None:
    store.grant_permission("r", permission(WRITE, b"a", b"b"))
    store.grant_permission("r", permission(READ, b"a"))
    assert store.permissions_of("r") == [
        permission(READ, b"a"),
        permission(WRITE, b"a", b"b"),
        permission(READ, b"c", b"d"),
    ]


def test_revoking_a_permission_asks_for_no_type(store: AuthStore) -> None:
    store.revoke_permission("r", b"a", b"b")
    assert store.permissions_of("r") == [permission(READ, b"c", b"d")]


def test_a_deleted_role_is_gone_from_every_user(store: AuthStore) -> None:
    """Case 16."""
    store.add_user("v", b"", False)
    store.grant_role("v", "r")
    store.delete_role("r")
    assert store.roles_of("u") == store.roles_of("v") == []
    store.add_role("r")  # a new role of that name is nobody's
    assert store.roles_of("u") == []


def test_role_root_is_said_to_have_everything(store: AuthStore) -> None:
    with pytest.raises(errors.RoleNotFound):
        store.permissions_of("root")
    store.add_role("root")
    store.grant_permission("root", permission(READ, b"x"))
    assert store.permissions_of("root") == [permission(READWRITE, b"", b"\x00")]


def test_records_are_etcds() -> None:
    """§1: the tables hold authpb messages under the names; options are present even when empty."""
    tables = DictTables()
    store = make_store(tables)
    store.add_user("u", b"hash", False)
    store.add_user("n", b"ignored", True)
    store.add_role("r")
    store.grant_permission("r", permission(WRITE, b"k", b"l"))
    assert tables.tables["authUsers"][b"u"] == b"\x0a\x01u\x12\x04hash\x22\x00"
    assert tables.tables["authUsers"][b"n"] == b"\x0a\x01n\x22\x02\x08\x01"
    assert tables.tables["authRoles"][b"r"] == b"\x0a\x01r\x12\x08\x08\x01\x12\x01k\x1a\x01l"
    assert tables.tables["auth"] == {b"authRevision": (5).to_bytes(8, "big")}


def test_everything_survives_a_restart(store: AuthStore) -> None:
    """The same verdicts from the tables alone: nothing derived is kept beside them."""
    again = make_store(store._tables)  # type: ignore[arg-type]
    assert (again.is_enabled, again.revision) == (True, store.revision)
    assert again.user_names() == store.user_names() and again.role_names() == store.role_names()
    rights = again.rights(Identity("u", again.revision))
    assert rights.allow(True, b"a1", b"") and not rights.allow(True, b"c1", b"")


def test_names_that_are_no_text_survive() -> None:
    """Releases up to 3.6 took any bytes."""
    tables = DictTables()
    user = auth_pb2.User(name=b"\xff\xfe")
    tables.put("authUsers", b"\xff\xfe", user.SerializeToString())
    store = make_store(tables)
    (name,) = store.user_names()
    store.change_password(name, b"h")
    assert list(tables.tables["authUsers"]) == [b"\xff\xfe"]


def test_a_password_change_leaves_a_no_password_user_what_it_is() -> None:
    """§1, "No-password users"; case 18."""
    store = Rig().store
    store.add_user("cert", b"", True)
    store.change_password("cert", b"hash")
    with pytest.raises(NoPasswordUser) as refused:
        store.authenticate("cert", "p", 1)
    assert refused.value.code == errors.Code.UNKNOWN


def test_tokens_fall_with_their_user() -> None:
    """§4: case 15, 17, 19."""
    tokens = SimpleTokens(300, Now())
    rig = Rig()
    store = rig.store
    store.tokens = tokens
    token = {name: store.authenticate(name, name, 7) for name in ("u", "root")}
    assert token["u"] == "u.7"
    store.change_password("u", b"new")
    with pytest.raises(errors.InvalidAuthToken):
        tokens.resolve("u.7", store.revision, 9)
    assert tokens.resolve("root.7", store.revision, 9) == Identity("root", store.revision)
    store.authenticate("u", "u", 8)
    store.delete_user("u")
    with pytest.raises(errors.InvalidAuthToken):
        tokens.resolve("u.8", store.revision, 9)
    store.disable()
    store.enable()
    with pytest.raises(errors.InvalidAuthToken):
        tokens.resolve("root.7", store.revision, 9)


def test_nobody_logs_in_while_auth_is_off() -> None:
    """Case 2."""
    store = make_store()
    store.add_user("u", b"", False)
    with pytest.raises(errors.AuthNotEnabled):
        store.authenticate("u", "p", 1)
    with pytest.raises(errors.AuthFailed):
        Rig().store.authenticate("x", "p", 1)


def test_a_received_state_ends_tokens_if_users_or_roles_are_others_in_it() -> None:
    """The entry that ended one of them was never seen here (§7.1); without news nobody is put
    out."""
    tables, tokens = DictTables(), SimpleTokens(300, Now())
    store = make_store(tables, tokens)
    store.add_user("root", b"", False)
    store.grant_role("root", "root")
    store.add_user("u", b"old", False)
    store.enable()
    store.authenticate("u", "u", 8)
    store.restore()
    assert tokens.resolve("u.8", store.revision, 9).username == "u"
    make_store(tables).change_password("u", b"new")  # elsewhere
    store.restore()
    with pytest.raises(errors.InvalidAuthToken):
        tokens.resolve("u.8", store.revision, 9)
