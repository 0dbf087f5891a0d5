"""The palette: what can be reached from where, by whom (console.md §4 Keyboard)."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.models import Account, Cluster
from console.palette.places import groups
from console.roles import Role
from tests.console.conftest import Store, browser_of, make_account
from tests.console.test_keys import HOSTILE

pytestmark = pytest.mark.django_db


def options(browser: Browser, query: str = "", name: str = "palette") -> dict[str, str]:
    """Label and address of each option, in order."""
    args = ["one"] if name == "palette_keys" else []
    answer = browser.get(reverse(name, args=args), {"q": query}, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    found = re.findall(r'role="option"[^>]*href="([^"]*)".*?<span[^>]*>(.*?)</span>', answer.text)
    return {html.unescape(label): html.unescape(url) for url, label in found}


def test_without_a_word_it_lists_the_pages_one_may_open(as_viewer, cluster) -> None:
    other = Cluster.objects.create(slug="two", name="two", endpoints="http://127.0.0.1:1")
    found = options(as_viewer)
    assert found["Keys"] == reverse("keys", args=["one"])
    assert found["Watch"] == reverse("watch", args=["one"])
    assert not {"Maintenance", "Accounts", "New key", other.name} & found.keys()


def test_it_offers_what_the_role_allows(as_editor, as_admin) -> None:
    assert "New key" in options(as_editor)
    assert {"Maintenance", "Accounts", "New connection"} <= options(as_admin).keys()
    Cluster.objects.update(is_read_only=True)
    assert "New key" not in options(as_editor)


def test_every_word_has_to_match(as_admin) -> None:
    assert list(options(as_admin, "new lease")) == []
    assert list(options(as_admin, "lea gr")) == ["Grant lease"]


@pytest.mark.parametrize(
    ("query", "label", "route", "number"),
    [
        ("42", "Revision 42", "revision", 42),
        ("rev 42", "Revision 42", "revision", 42),
        ("revision 007", "Revision 7", "revision", 7),
        ("694d71ddacfda227", "Lease 694d71ddacfda227", "lease", "694d71ddacfda227"),
        ("lease 1F", "Lease 1f", "lease", "1f"),
        ("9223372036854775807", "Revision 9223372036854775807", "revision", 2**63 - 1),
    ],
)
def test_numbers_lead_to_revisions_and_leases(as_viewer, query, label, route, number) -> None:
    assert options(as_viewer, query)[label] == reverse(route, args=["one", number])


@pytest.mark.parametrize("query", ["0", "9223372036854775808", "beef", "lease 0", "r", "1" * 30])
def test_what_is_no_number_leads_nowhere(as_viewer, query) -> None:
    assert not [label for label in options(as_viewer, query) if label.startswith(("Rev", "Lease "))]


def test_other_clusters_are_a_word_away(as_admin, cluster) -> None:
    Cluster.objects.create(slug="two", name="second", endpoints="http://127.0.0.1:1")
    assert options(as_admin, "second") == {"second": reverse("overview", args=["two"])}
    assert "one" not in options(as_admin, "switch")


def test_keys_by_exact_name_and_by_prefix(as_viewer, store: Store, prefix: bytes) -> None:
    text = prefix.decode()
    for key in (b"a", b"a/1", b"a/2", b"b"):
        store.put(prefix + key, b"v")
    found = options(as_viewer, text + "a", "palette_keys")
    assert list(found) == [
        text + "a",
        text + "a/1",
        text + "a/2",
        f"All 3 keys that begin with {text}a",
    ]
    assert found[text + "a"].startswith(reverse("key", args=["one"]))
    assert options(as_viewer, text + "zzz", "palette_keys") == {}


@pytest.mark.parametrize(("key", "value"), HOSTILE.items())
def test_hostile_keys_are_only_text(as_viewer, store, prefix, key, value) -> None:
    store.put(prefix + key, value)
    answer = as_viewer.get(reverse("palette_keys", args=["one"]), {"q": prefix.decode()})
    for bad in ("<script>alert", "<img src=x", "\u202e", "\x00"):
        assert bad not in answer.text
    page = as_viewer.get(reverse("palette"), {"q": "<script>alert(1)</script>"})
    assert "<script>alert" not in page.text


def test_a_cluster_that_is_gone_keeps_nobody_from_going_elsewhere(as_admin, cluster) -> None:
    Cluster.objects.update(endpoints="http://127.0.0.1:1")
    assert "Audit" in options(as_admin, "audit")
    answer = as_admin.get(reverse("palette_keys", args=["one"]), {"q": "a"})
    assert "UNAVAILABLE" in answer.text
    page = as_admin.get(reverse("palette"), {"q": "a"})
    assert page.status_code == 200
    assert "UNAVAILABLE" in page.text
    assert "Retry" in page.text


def test_what_cannot_be_a_key_is_explained(as_viewer) -> None:
    answer = as_viewer.get(reverse("palette_keys", args=["one"]), {"q": "\\"})
    assert "a backslash is written" in html.unescape(answer.text)


def test_without_scripts_it_is_a_page(as_viewer, store: Store, prefix: bytes) -> None:
    store.put(prefix + b"a", b"v")
    text = as_viewer.get(reverse("palette"), {"q": prefix.decode()}).text
    assert "<h1>Go to</h1>" in text
    assert f"{prefix.decode()}a</a>" in text
    assert "Nothing matches" not in text
    assert (
        "Nothing matches" in as_viewer.get(reverse("palette"), {"q": prefix.decode() + "zz"}).text
    )


def test_somebody_without_a_cluster_finds_little(db) -> None:
    account = make_account("nobody")
    assert [group.label for group in groups(account, [], None, "")] == ["Pages"]
    assert list(options(browser_of(account))) == ["Change password"]


def test_a_cluster_one_has_no_role_on_is_not_asked(as_viewer, cluster) -> None:
    Cluster.objects.create(slug="two", name="two", endpoints="http://127.0.0.1:1")
    answer = as_viewer.get(reverse("palette_keys", args=["two"]), {"q": "a"})
    assert answer.status_code == 404
    found = as_viewer.get(reverse("palette"), {"cluster": "two"}, headers={"HX-Request": "1"})
    assert reverse("keys", args=["one"]) in found.text
    assert Account.objects.get(username="vera").role_on(cluster) is Role.VIEWER
