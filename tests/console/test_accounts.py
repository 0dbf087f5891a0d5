"""Signing in, throttling, sessions, passwords, accounts."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client as Browser
from django.urls import reverse

from console.accounts import throttle
from console.accounts.throttle import FREE_TRIES
from console.models import Account, AuditRow, Cluster, ClusterGrant
from console.roles import Role

PASSWORD = "correct horse battery"


@pytest.fixture
def ada(db) -> Account:
    return Account.objects.create("ada", PASSWORD)


def sign_in(browser: Browser, password: str = PASSWORD, **more: str):
    return browser.post(reverse("login"), {"username": "ada", "password": password, **more})


def test_passwords_are_hashed_with_argon2(ada: Account) -> None:
    assert ada.password.startswith("argon2")


def test_signing_in_and_out(ada: Account, client: Browser) -> None:
    answer = sign_in(client)
    assert answer.headers["Location"] == "/"
    session = answer.cookies[settings.SESSION_COOKIE_NAME]
    assert session["httponly"]
    assert session["samesite"] == "Lax"
    assert settings.SESSION_COOKIE_AGE - 60 < int(session["max-age"]) <= settings.SESSION_COOKIE_AGE
    client.post(reverse("logout"))
    assert client.get("/").headers["Location"] == "/login?next=/"
    assert [row.action for row in AuditRow.objects.all()] == ["sign out", "sign in"]


def test_a_session_ends_when_it_was_to_end_however_much_it_is_used(ada, client: Browser) -> None:
    sign_in(client)
    ends = client.session.get_expiry_date()
    client.post(
        reverse("password"), {"current": PASSWORD, "new": "a new secret", "again": "a new secret"}
    )
    client.get(reverse("password"))
    assert client.session.get_expiry_date() == ends


def test_signing_out_needs_a_post(ada: Account, client: Browser) -> None:
    sign_in(client)
    assert client.get(reverse("logout")).status_code == 405


def test_a_wrong_password_is_refused_without_saying_which_part(ada, client: Browser) -> None:
    wrong = sign_in(client, "wrong")
    unknown = client.post(reverse("login"), {"username": "nobody", "password": "x"})
    assert wrong.status_code == unknown.status_code == 401
    text = "The name or the password is not right."
    assert text in wrong.text
    assert text in unknown.text
    assert AuditRow.objects.filter(outcome="refused").count() == 2


def test_too_many_tries_have_to_wait_even_with_the_right_password(
    ada, client: Browser, monkeypatch
) -> None:
    monkeypatch.setattr(throttle, "WAIT_SECONDS_FIRST", throttle.WAIT_SECONDS_MAX)
    for _ in range(FREE_TRIES):
        assert sign_in(client, "wrong").status_code == 401
    assert sign_in(client).status_code == 429
    elsewhere = Browser(REMOTE_ADDR="192.0.2.7")
    assert sign_in(elsewhere).status_code == 302  # nobody locks somebody else out


@pytest.mark.parametrize(
    "where", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"]
)
def test_signing_in_never_leads_elsewhere(ada, client: Browser, where: str) -> None:
    assert sign_in(client, next=where).headers["Location"] == "/"


def test_a_session_ends_with_a_password_change_elsewhere(ada, client: Browser) -> None:
    other = Browser()
    sign_in(client)
    sign_in(other)
    fields = {"current": PASSWORD, "new": "another good one", "again": "another good one"}
    assert client.post(reverse("password"), fields).status_code == 302
    assert client.get(reverse("password")).status_code == 200
    assert other.get(reverse("password")).status_code == 302
    assert sign_in(Browser(), "another good one").status_code == 302


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"current": "wrong", "new": "another good one", "again": "another good one"}, "present"),
        ({"current": PASSWORD, "new": "another good one", "again": "different one"}, "differ"),
        ({"current": PASSWORD, "new": "short", "again": "short"}, "too short"),
        ({"current": PASSWORD, "new": "password123", "again": "password123"}, "too common"),
    ],
)
def test_a_new_password_has_to_be_good(ada, client: Browser, fields, said: str) -> None:
    sign_in(client)
    answer = client.post(reverse("password"), fields)
    assert answer.status_code == 422
    assert said in answer.text


def test_csrf_is_demanded(ada) -> None:
    browser = Browser(enforce_csrf_checks=True)
    answer = sign_in(browser)
    assert answer.status_code == 403
    assert "no longer valid" in answer.text


def test_the_theme_is_chosen_without_scripts(client: Browser, db) -> None:
    answer = client.post(reverse("theme"), {"theme": "dark", "next": "/login"})
    assert answer.headers["Location"] == "/login"
    assert 'data-theme="dark"' in client.get("/login").text
    client.post(reverse("theme"), {"theme": 'hack"><script>'})
    assert 'data-theme="dark"' in client.get("/login").text
    client.post(reverse("theme"), {"theme": "system"})
    assert "data-theme" not in client.get("/login").text


def test_an_admin_makes_an_account_whose_password_is_shown_once(as_admin, cluster) -> None:
    fields = {"username": "grace", f"role-{cluster.pk}": int(Role.EDITOR)}
    answer = as_admin.post(reverse("new_account"), fields)
    password = re.search(r'id="password-once">([^<]+)<', answer.text)[1]
    grace = Account.objects.get(username="grace")
    assert grace.check_password(password)
    assert grace.must_change_password
    assert grace.role_on(cluster) is Role.EDITOR
    assert password not in as_admin.get(reverse("account", args=[grace.pk])).text
    assert password not in str(list(AuditRow.objects.values()))


def test_roles_are_changed_and_taken(as_admin, cluster: Cluster) -> None:
    grace = Account.objects.create("grace", PASSWORD)
    ClusterGrant.objects.create(account=grace, cluster=cluster, role=Role.OPERATOR)
    url = reverse("account", args=[grace.pk])
    as_admin.post(url, {"is_active": "1", f"role-{cluster.pk}": int(Role.VIEWER)})
    assert grace.role_on(cluster) is Role.VIEWER
    as_admin.post(url, {"is_active": "1"})
    assert grace.role_on(cluster) is None


def test_an_admin_cannot_lock_themselves_out(as_admin) -> None:
    root = Account.objects.get(username="root")
    answer = as_admin.post(reverse("account", args=[root.pk]), {"is_active": "1"})
    assert answer.status_code == 422
    root.refresh_from_db()
    assert root.is_admin


def test_a_second_account_of_the_same_name_is_refused(as_admin, ada) -> None:
    answer = as_admin.post(reverse("new_account"), {"username": "ada"})
    assert answer.status_code == 422
    assert "There is an account with this name." in answer.text
