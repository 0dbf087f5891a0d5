"""Findings about users and roles, each from a directory that has it and not from one that has
not; what the checks before auth enable and disable say."""

from __future__ import annotations

import pytest

from console.users.lint import lint, odd_range
from console.users.preflight import Identity, before_disabling, before_enabling, losses
from console.users.rules import Directory, EtcdRole, EtcdUser, Permission

ROOT_USER = EtcdUser("root", ("root",))


def permission(key: bytes, end: bytes = b"", kind: str = "read") -> Permission:
    return Permission(kind, key, end)


def rules(directory: Directory, is_enabled: bool = True) -> set[str]:
    return {finding.rule for finding in lint(directory, is_enabled=is_enabled)}


def of_role(*permissions: Permission, name: str = "r", held: bool = True) -> set[str]:
    users = (ROOT_USER, EtcdUser("u", (name,) if held else ("other",)))
    roles = (EtcdRole(name, permissions), EtcdRole("other", (permission(b"/o/", b"/o0"),)))
    known = {"unused"} if held else set()  # the other role is then held by nobody
    return rules(Directory(users, roles)) - known


@pytest.mark.parametrize(
    ("key", "end", "rule"),
    [
        (b"/app/", b"/app0", None),
        (b"/app/x", b"", None),
        (b"/app/", b"\x00", None),
        (b"\x00", b"\x00", None),
        (b"/app/a", b"/app/q", None),
        (b"b", b"a", "no-range"),
        (b"b", b"b", "no-range"),
        (b"/app", b"/apq", "no-separator"),
        (b"\xff\x00", b"\xff\x01", None),
        (b"/app/", b"/app/z", "ends-inside"),
        (b"/app/", b"/apps/", "two-folders"),
        (b"/app/", b"/app1", "adjacent-end"),
    ],
)
def test_bounds_that_are_seldom_meant(key: bytes, end: bytes, rule: str | None) -> None:
    found = odd_range(permission(key, end))
    assert (found and found[0]) == rule


def test_a_prefix_without_a_separator_names_what_else_it_covers() -> None:
    found = odd_range(permission(b"/app", b"/apq"))
    assert found is not None
    assert "/app2, /app-old" in found[2]
    assert "the prefix /app/" in found[3]


def test_a_role_in_order_is_not_mentioned() -> None:
    assert of_role(permission(b"/a/", b"/a0"), permission(b"/b/", b"/b0", "readwrite")) == set()


def test_permissions_that_change_nothing_or_cross() -> None:
    whole, inside = permission(b"/a/", b"/a0"), permission(b"/a/x", b"")
    assert of_role(whole, inside) == {"redundant"}
    assert of_role(whole, permission(b"/a/x", b"", "write")) == set()
    assert of_role(permission(b"a", b"f"), permission(b"d", b"k")) == {"overlap"}
    # Covered by two others together, and by none alone.
    assert "redundant" in of_role(
        permission(b"a", b"e"), permission(b"e", b"k"), permission(b"c", b"g")
    )


def test_roles() -> None:
    assert of_role() == {"no-permissions"}
    assert of_role(permission(b"/a/", b"/a0"), held=False) == {"unused"}
    assert of_role(permission(b"\x00", b"\x00")) == {"reads-everything"}
    assert of_role(permission(b"\x00", b"\x00", "readwrite")) == {"writes-everything"}
    assert of_role(permission(b"/a/", b"/a0"), name="guest") == {"guest"}


def test_what_role_root_is_granted_changes_nothing() -> None:
    """spec/auth.md §3 "Role name root": newer servers list one permission with an empty key."""
    users = (ROOT_USER,)
    granted = EtcdRole("root", (permission(b"/a", b""),))
    listed = EtcdRole("root", (permission(b"", b"\x00", "readwrite"),))
    assert rules(Directory(users, (granted,))) == {"root-permissions"}
    assert rules(Directory(users, (listed,))) == set()


def test_users() -> None:
    reader = EtcdRole("r", (permission(b"/a/", b"/a0"),))

    def of(*users: EtcdUser) -> set[str]:
        return rules(Directory((*users, EtcdUser("u", ("r",))), (reader,)))

    assert of(ROOT_USER) == set()
    assert of() == {"no-root"}
    assert of(EtcdUser("root", ("r",))) == {"root-no-role"}
    assert of(ROOT_USER, EtcdUser("idle")) == {"no-roles"}
    assert of(ROOT_USER, EtcdUser("boss", ("r", "root"))) == {"beside-root"}
    assert of(ROOT_USER, EtcdUser("guest", ("r",))) == {"guest"}


def test_authentication_that_is_off_and_the_order_by_gravity() -> None:
    roles = (EtcdRole("r", (permission(b"b", b"a"),)),)
    directory = Directory((ROOT_USER, EtcdUser("u", ("r",))), roles)
    found = lint(directory, is_enabled=False)
    assert {"auth-off", "no-range"} <= {one.rule for one in found}
    assert [one.level for one in found] == sorted(
        (one.level for one in found), key=["danger", "warn", "note"].index
    )
    assert rules(Directory((), ()), is_enabled=False) == set()


def test_of_more_users_than_were_read_nothing_is_claimed() -> None:
    directory = Directory((EtcdUser("u"),), (EtcdRole("r", (permission(b"/a/", b"/a0"),)),), 5)
    assert rules(directory) == {"no-roles"}


def met(checks) -> list[bool]:
    return [check.is_met for check in checks]


def test_checks_before_enabling() -> None:
    boss = Identity("root", "password", ROOT_USER)
    assert met(before_enabling(ROOT_USER, boss)) == [True] * 5
    assert met(before_enabling(None, Identity("", "nothing", None))) == [False] * 5
    assert met(before_enabling(EtcdUser("root"), boss)) == [True, False, True, True, True]
    rita = Identity("rita", "password", EtcdUser("rita", ("reader",)))
    assert met(before_enabling(ROOT_USER, rita)) == [True, True, True, True, False]
    ghost = Identity("ghost", "certificate", None)
    assert met(before_enabling(ROOT_USER, ghost)) == [True, True, True, False, False]
    nobody = Identity("root", "nothing", ROOT_USER)
    assert met(before_enabling(ROOT_USER, nobody)) == [True, True, False, True, True]


def test_checks_before_disabling() -> None:
    assert met(before_disabling(Identity("root", "password", ROOT_USER))) == [True]
    assert met(before_disabling(Identity("u", "password", EtcdUser("u")))) == [False]
    assert met(before_disabling(Identity("", "nothing", None))) == [False]


def test_who_loses_access() -> None:
    directory = Directory(
        (
            ROOT_USER,
            EtcdUser("rita", ("r",)),
            EtcdUser("idle"),
            EtcdUser("void", ("none", "empty")),
        ),
        (
            EtcdRole("r", (permission(b"/a/", b"/a0"),)),
            EtcdRole("none"),
            EtcdRole("empty", (permission(b"b", b"a"),)),
        ),
    )
    found = losses(directory)
    assert (found.admins, found.limited, found.without) == (("root",), ("rita",), ("idle", "void"))
