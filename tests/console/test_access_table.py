"""Role × route, generated from the URLconf (console.md §2).

A route without a rule fails, a route missing from RULES fails, and so does any answer that the
rule does not say.
"""

from __future__ import annotations

import pytest
from django.test import Client as Browser
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from console.access import Rule, Who
from console.maintenance import work
from console.models import Account, Cluster
from console.roles import Role
from tests.console.conftest import browser_of, make_account

# Written by hand on purpose: a rule that is loosened has to be loosened here too.
RULES: dict[str, tuple[Who | Role, bool]] = {
    "home": (Who.SIGNED_IN, False),
    "login": (Who.ANYONE, False),
    "logout": (Who.SIGNED_IN, False),
    "password": (Who.SIGNED_IN, False),
    "theme": (Who.ANYONE, False),
    "overview": (Role.VIEWER, False),
    "overview_live": (Role.VIEWER, False),
    "keys": (Role.VIEWER, False),
    "key_tree": (Role.VIEWER, False),
    "key_search": (Role.VIEWER, False),
    "new_key": (Role.EDITOR, True),
    "key": (Role.VIEWER, False),
    "key_raw": (Role.VIEWER, False),
    "edit_key": (Role.EDITOR, True),
    "delete_key": (Role.EDITOR, True),
    "rename_key": (Role.EDITOR, True),
    "duplicate_key": (Role.EDITOR, True),
    "export_keys": (Role.VIEWER, False),
    "import_keys": (Role.EDITOR, True),
    "build_txn": (Role.EDITOR, True),
    "delete_range": (Role.EDITOR, True),
    "rewind": (Role.EDITOR, True),
    "undo_put": (Role.EDITOR, True),
    "key_job": (Role.EDITOR, False),
    "key_job_live": (Role.EDITOR, False),
    "stop_key_job": (Role.EDITOR, False),
    "key_history": (Role.VIEWER, False),
    "restore_key": (Role.EDITOR, True),
    "history": (Role.VIEWER, False),
    "at_moment": (Role.VIEWER, False),
    "revision": (Role.VIEWER, False),
    "palette": (Who.SIGNED_IN, False),
    "palette_keys": (Role.VIEWER, False),
    "watch": (Role.VIEWER, False),
    "watch_export": (Role.VIEWER, False),
    "leases": (Role.VIEWER, False),
    "grant_lease": (Role.EDITOR, True),
    "lease": (Role.VIEWER, False),
    "keep_alive": (Role.EDITOR, True),
    "revoke_lease": (Role.EDITOR, True),
    "over_time": (Role.VIEWER, False),
    "over_time_live": (Role.VIEWER, False),
    "members": (Role.VIEWER, False),
    "members_live": (Role.VIEWER, False),
    "start_member": (Role.VIEWER, False),
    "replace_member": (Role.OPERATOR, False),
    "replace_live": (Role.OPERATOR, False),
    "add_member": (Role.OPERATOR, True),
    "promote_member": (Role.OPERATOR, True),
    "update_member": (Role.OPERATOR, True),
    "remove_member": (Role.OPERATOR, True),
    "move_leader": (Role.OPERATOR, True),
    "maintenance": (Role.OPERATOR, False),
    "maintenance_live": (Role.OPERATOR, False),
    "defragment": (Role.OPERATOR, True),
    "defragment_all": (Role.OPERATOR, True),
    "compact": (Role.OPERATOR, True),
    "disarm": (Role.OPERATOR, True),
    "hashes": (Role.OPERATOR, False),
    "lens": (Role.OPERATOR, False),
    "sizes": (Role.OPERATOR, False),
    "snapshots": (Role.OPERATOR, False),
    "save_snapshot": (Role.OPERATOR, False),
    "schedule_snapshots": (Role.OPERATOR, False),
    "download_snapshot": (Role.OPERATOR, False),
    "download_saved": (Role.OPERATOR, False),
    "browse_snapshot": (Role.OPERATOR, False),
    "upload_snapshot": (Role.OPERATOR, False),
    "remove_upload": (Role.OPERATOR, False),
    "snapshot_key": (Role.OPERATOR, True),
    "job": (Role.OPERATOR, False),
    "job_live": (Role.OPERATOR, False),
    "abort_job": (Role.OPERATOR, False),
    "users": (Role.OPERATOR, False),
    "new_user": (Role.ADMIN, True),
    "etcd_user": (Role.OPERATOR, False),
    "delete_user": (Role.ADMIN, True),
    "user_password": (Role.ADMIN, True),
    "user_role": (Role.ADMIN, True),
    "roles": (Role.OPERATOR, False),
    "new_role": (Role.ADMIN, True),
    "etcd_role": (Role.OPERATOR, False),
    "delete_role": (Role.ADMIN, True),
    "grant_permission": (Role.ADMIN, True),
    "permission_range": (Role.OPERATOR, False),
    "revoke_permission": (Role.ADMIN, True),
    "permissions": (Role.OPERATOR, False),
    "permissions_txn": (Role.OPERATOR, False),
    "permissions_who": (Role.OPERATOR, False),
    "findings": (Role.OPERATOR, False),
    "try_passwords": (Role.ADMIN, True),
    "own_access": (Role.VIEWER, False),
    "key_access": (Role.VIEWER, False),
    "enable_auth": (Role.ADMIN, True),
    "disable_auth": (Role.ADMIN, True),
    "etcd_sign_in": (Role.VIEWER, False),
    "etcd_sign_out": (Role.VIEWER, False),
    "audit": (Who.CONSOLE_ADMIN, False),
    "audit_export": (Who.CONSOLE_ADMIN, False),
    "clusters": (Who.CONSOLE_ADMIN, False),
    "new_cluster": (Who.CONSOLE_ADMIN, False),
    "edit_cluster": (Who.CONSOLE_ADMIN, False),
    "remove_cluster": (Who.CONSOLE_ADMIN, False),
    "accounts": (Who.CONSOLE_ADMIN, False),
    "new_account": (Who.CONSOLE_ADMIN, False),
    "account": (Who.CONSOLE_ADMIN, False),
    "reset_password": (Who.CONSOLE_ADMIN, False),
}


@pytest.fixture(autouse=True)
def jobs_stay_rows(monkeypatch) -> None:
    """Who may begin one is asked here, not what it does."""
    monkeypatch.setattr(work, "launch", lambda job: None)


PEOPLE = ["anonymous", "no role", *(role.label for role in Role), "root"]


def patterns(resolver: URLResolver) -> list[URLPattern]:
    found: list[URLPattern] = []
    for pattern in resolver.url_patterns:
        found += patterns(pattern) if isinstance(pattern, URLResolver) else [pattern]
    return found


ROUTES = {pattern.name: pattern for pattern in patterns(get_resolver())}


def rule_of(name: str) -> Rule:
    return ROUTES[name].callback.access_rule


@pytest.mark.parametrize("name", ROUTES)
def test_every_route_declares_the_rule_it_should(name: str) -> None:
    assert hasattr(ROUTES[name].callback, "access_rule"), f"{name} has no access rule"
    rule = rule_of(name)
    assert (rule.who, rule.writes) == RULES[name]


def test_the_table_names_no_route_that_is_gone() -> None:
    assert RULES.keys() == ROUTES.keys()


@pytest.fixture
def people(cluster: Cluster) -> dict[str, Account | None]:
    roles = {role.label: make_account(role.label, cluster, role) for role in Role}
    nobody = Account(username="nobody")
    nobody.save()
    return {"anonymous": None, "no role": nobody, "root": make_account("root"), **roles}


def may(who: str, rule: Rule) -> bool:
    if rule.who is Who.ANYONE or who == "root":
        return True
    if who == "anonymous":
        return False
    if rule.who is Who.SIGNED_IN:
        return True
    if rule.who is Who.CONSOLE_ADMIN or who == "no role":
        return False
    return Role[who.upper()] >= rule.who


def address(name: str, cluster: Cluster, account: Account) -> str:
    """A URL of the route; key pages are about a key that does not exist."""
    if name in {"edit_cluster", "remove_cluster"}:
        return reverse(name, args=[cluster.slug])
    if name in {"account", "reset_password"}:
        return reverse(name, args=[account.pk])
    if name == "revision":
        return reverse(name, args=[cluster.slug, 2])
    if name in {"lease", "keep_alive", "revoke_lease"}:
        return reverse(name, args=[cluster.slug, "7abc"])
    if name in {"job", "job_live", "abort_job", "download_saved"} or "key_job" in name:
        return reverse(name, args=[cluster.slug, 1])
    if isinstance(RULES[name][0], Role):
        return reverse(name, args=[cluster.slug]) + "?key=/t/access-table"
    return reverse(name)


def send(browser: Browser, method: str, url: str) -> tuple[int, str]:
    answer = browser.generic(method, url)
    return answer.status_code, answer.headers.get("Location", "")


@pytest.mark.parametrize("name", ROUTES)
def test_each_role_gets_what_the_rule_says(name: str, cluster: Cluster, people) -> None:
    rule = rule_of(name)
    for who in PEOPLE:
        account = people[who]
        browser = browser_of(account)
        url = address(name, cluster, people["viewer"])
        for method in rule.methods:  # what changes the session comes last
            status, location = send(browser, method, url)
            to_login = status == 302 and location.startswith("/login?")
            if may(who, rule):
                assert status != 403, (who, method)
                assert not to_login, (who, method)
            elif who == "anonymous":
                assert to_login, (who, method, status)
            elif who == "no role" and isinstance(rule.who, Role):
                assert status == 404, (who, method, status)  # not even that it exists
            else:
                assert status == 403, (who, method, status)


@pytest.mark.parametrize("name", [name for name, (_, writes) in RULES.items() if writes])
def test_read_only_covers_every_write(name: str, cluster: Cluster, people) -> None:
    cluster.is_read_only = True
    cluster.save()
    url = address(name, cluster, people["viewer"])
    answer = browser_of(people["root"]).post(url)
    assert answer.status_code == 403
    assert "read-only" in answer.text


@pytest.mark.parametrize("name", ROUTES)
def test_other_methods_are_refused(name: str, cluster: Cluster, people) -> None:
    url = address(name, cluster, people["viewer"])
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - set(rule_of(name).methods):
        assert send(browser_of(people["root"]), method, url)[0] == 405, method


def test_a_view_without_a_rule_is_not_served(rf) -> None:
    from django.core.exceptions import ImproperlyConfigured

    from console.middleware import AccessMiddleware

    middleware = AccessMiddleware(lambda request: None)
    with pytest.raises(ImproperlyConfigured, match="no access rule"):
        middleware.process_view(rf.get("/"), lambda request: None, (), {})


def test_an_account_that_lost_its_right_is_out_at_once(as_editor, cluster: Cluster) -> None:
    assert as_editor.get(reverse("keys", args=[cluster.slug])).status_code == 200
    Account.objects.filter(username="eddie").update(is_active=False)
    assert as_editor.get(reverse("keys", args=[cluster.slug])).status_code == 302


def test_a_given_password_has_to_be_changed_first(as_editor, cluster: Cluster) -> None:
    Account.objects.filter(username="eddie").update(must_change_password=True)
    answer = as_editor.get(reverse("keys", args=[cluster.slug]))
    assert answer.headers["Location"] == reverse("password")
