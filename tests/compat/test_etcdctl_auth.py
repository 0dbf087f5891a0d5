"""etcdctl's commands of users, roles and auth, against etcd and against Keydeck (spec/tools.md
§2.4).

Left out is what etcd 3.5.1 still allowed and newer releases, ours with them, refuse: a range that
ends before it begins, maintenance by a user without role root, leases and members without a token
(spec/auth.md §3); and what role root shows (§4).
"""

from __future__ import annotations

import pytest

from tests.compat.etcdctl import Twins

pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]

ROOT = "--user root:pw"


def test_roles(fresh: Twins) -> None:
    fresh.run(
        "role list",
        "role add r1",
        "role add r1",
        "role add ''",
        "role grant-permission r1 read a b",
        "role grant-permission r1 write a b",
        "role grant-permission r1 readwrite --prefix p/",
        "role grant-permission r1 write --from-key k",
        "role grant-permission r1 read single",
        "role grant-permission r1 bogus single",
        "role grant-permission nobody read x",
        "role get r1",
        "role get r1 -w json",
        "role get r1 -w fields",
        "role get r1 -w table",
        "role revoke-permission r1 a b",
        "role revoke-permission r1 a b",
        "role revoke-permission r1 single",
        "role revoke-permission r1 --prefix p/",
        "role revoke-permission r1 --from-key k",
        "role get r1",
        "role add root",
        "role delete root",
        "role list -w json",
        "role delete r1",
        "role delete r1",
        "role get r1",
    )


def test_users(fresh: Twins) -> None:
    fresh.run(
        "user list",
        "user add u1:pw",
        "user add u1:pw",
        "user add :pw",
        "user add u2 --no-password",
        "user list",
        "user list -w json",
        "user get u1",
        "user get u1 -w json",
        "user get u1 --detail",
        "user get nobody",
        "role add r1",
        "role grant-permission r1 read a",
        "user grant-role u1 r1",
        "user grant-role u1 r1",
        "user grant-role u1 nothing",
        "user grant-role nobody r1",
        "user get u1",
        "user get u1 --detail",
        "user revoke-role u1 r1",
        "user revoke-role u1 r1",
        "user grant-role u2 r1",
        "role delete r1",
        "user get u2",
        "user delete u1",
        "user delete u1",
    )
    fresh.run(
        "user add u3 --interactive=false", "user passwd u3 --interactive=false", stdin=b"pw\n"
    )
    fresh.run("user passwd nobody --interactive=false", stdin=b"pw\n")


def test_auth_on_and_off(fresh: Twins) -> None:
    """Who is told what, with right and wrong credentials and none."""
    fresh.run(
        "auth enable",  # no root user yet
        "user add root:pw",
        "user add u1:pw1",
        "role add r1",
        "role grant-permission r1 readwrite --prefix p/",
        "role grant-permission r1 read a",
        "user grant-role u1 r1",
        "put a 1",
        "put p/1 x",
        "put secret y",
        "auth enable",
        "auth enable",
        "get a",
        "put a 2",
        "--user nobody:pw get a",
        "--user root:wrong get a",
        f"{ROOT} get --prefix ''",
        f"{ROOT} auth enable",
        "--user u1:pw1 get a",
        "--user u1:pw1 put a 2",
        "--user u1:pw1 get p/ --prefix",
        "--user u1:pw1 put p/2 z --prev-kv",
        "--user u1:pw1 get secret",
        "--user u1:pw1 get --prefix ''",
        "--user u1:pw1 del p/ --prefix",
        "--user u1:pw1 user list",
        "--user u1:pw1 user get u1",
        "--user u1:pw1 user get root",
        "--user u1:pw1 role get r1",
        "--user u1:pw1 role list",
        "--user u1:pw1 role add r2",
        "--user u1:pw1 auth disable",
        "user list",
        f"{ROOT} user list",
        f"{ROOT} member list",
        f"{ROOT} endpoint health",
        f"{ROOT} user delete root",
        f"{ROOT} user revoke-role root root",
        f"{ROOT} role delete root",
        f"{ROOT} user get u1",
    )
    script = b'value("a") = "1"\n\nput p/3 1\nget a\n\nget secret\n\n'
    fresh.run("--user u1:pw1 txn", f"{ROOT} txn", "txn", stdin=script)
    fresh.run("--user u1:pw1 txn", stdin=b"\nget secret\n\n\n")
    fresh.run(f"{ROOT} user passwd u1 --interactive=false", stdin=b"pw2\n")
    fresh.run(
        "--user u1:pw1 get a",
        "--user u1:pw2 get a",
        f"{ROOT} user revoke-role u1 r1",
        "--user u1:pw2 get a",
        f"{ROOT} auth disable",
        f"{ROOT} auth disable",
        "get a",
    )
