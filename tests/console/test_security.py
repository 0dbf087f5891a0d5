"""What every response carries, and where secrets are (console.md §2 and §7)."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client as Browser
from django.urls import reverse

from console.clusters import secrets
from console.models import Cluster

ROOT = Path(settings.BASE_DIR)
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def test_the_policy_allows_only_what_is_ours(client: Browser, db) -> None:
    answer = client.get(reverse("login"))
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_has_inline_script_or_style(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert "|safe" not in text.replace("{{ decoded.html|safe }}", "")


def test_everything_comes_from_this_host(client: Browser, db) -> None:
    text = client.get(reverse("login")).text
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', text)
    assert addresses
    assert all(address.startswith("/") and not address.startswith("//") for address in addresses)


def test_static_files_are_served_with_the_headers(client: Browser, db) -> None:
    text = client.get(reverse("login")).text
    for address in re.findall(r'(?:src|href)="(/static/[^"]*)"', text):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer
        assert "?v=" in address


def test_the_stylesheet_stays_small() -> None:
    assert (ROOT / "static" / "console.css").stat().st_size < 40_000


def test_errors_are_pages_that_tell_nothing(client: Browser, as_viewer) -> None:
    for path in ("/nothing", "/c/other/keys"):
        answer = as_viewer.get(path)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.text
        assert "urlpatterns" not in answer.text


def test_secrets_of_a_connection_are_encrypted_and_never_shown(
    as_admin, tmp_path, settings, monkeypatch
) -> None:
    settings.ENCRYPTION_KEY_FILE = tmp_path / "encryption-key"
    secrets._box.cache_clear()
    fields = {
        "name": "vault",
        "environment": "production",
        "colour": "red",
        "endpoints": "https://db.internal:2379",
        "etcd_user": "rita",
        "etcd_password": "hunter2hunter2",
    }
    assert as_admin.post(reverse("new_cluster"), fields).status_code == 302
    stored = Cluster.objects.get(slug="vault")
    assert "hunter2" not in str(Cluster.objects.filter(slug="vault").values())
    assert secrets.decrypt(stored.etcd_password_encrypted) == "hunter2hunter2"
    assert stat.S_IMODE(settings.ENCRYPTION_KEY_FILE.stat().st_mode) == 0o600
    url = reverse("edit_cluster", args=["vault"])
    assert "hunter2" not in as_admin.get(url).text
    del fields["etcd_password"]
    as_admin.post(url, fields)
    stored.refresh_from_db()
    assert secrets.decrypt(stored.etcd_password_encrypted) == "hunter2hunter2"
    as_admin.post(url, fields | {"forget_secrets": "on"})
    stored.refresh_from_db()
    assert stored.etcd_password_encrypted == ""
    secrets._box.cache_clear()


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ("ftp://h:1", "use http:// or https://"),
        ("http://", "no host"),
        ("http://h:99999", "the port is not a number"),
        ("http://h:1/path", "only scheme, host and port"),
        ("http://u:p@h:1", "only scheme, host and port"),
        ("http://h:1 https://h:2", "Either all endpoints are https"),
        ("", "required"),
    ],
)
def test_endpoints_are_checked(as_admin, endpoints: str, said: str) -> None:
    fields = {"name": "x", "environment": "staging", "colour": "red", "endpoints": endpoints}
    answer = as_admin.post(reverse("new_cluster"), fields)
    assert answer.status_code == 422
    assert said in answer.text


def test_the_audit_page_finds_rows(as_admin, cluster, prefix, store) -> None:
    as_admin.post(reverse("new_key", args=["one"]), {"key": prefix.decode(), "value": "v"})
    found = as_admin.get(reverse("audit"), {"q": prefix.decode()}).text
    assert prefix.decode() in found
    assert "etcdctl" in found
    assert "Nothing matches" in as_admin.get(reverse("audit"), {"q": "zzz"}).text
    assert "Nothing matches" in as_admin.get(reverse("audit"), {"outcome": "failed"}).text
