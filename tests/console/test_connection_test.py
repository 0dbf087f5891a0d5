"""A connection tried before it is kept: what works, and what does not with why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.clusters import secrets
from console.models import AuditRow, Cluster
from tests.console.conftest import browser_of, make_account
from tests.console.test_overview import plain
from tests.support.servers import Server, free_ports

ON_EVERY_SERVER = True


@pytest.fixture
def own_key(settings, tmp_path) -> Iterator[None]:
    settings.ENCRYPTION_KEY_FILE = tmp_path / "key"
    secrets._box.cache_clear()
    yield
    secrets._box.cache_clear()


@pytest.fixture
def as_root(db) -> Browser:
    return browser_of(make_account("root"))


def tried(browser: Browser, endpoints: str, *, in_page: bool = False, **fields: str) -> str:
    data = {"name": "new one", "environment": "staging", "colour": "teal", "test": "1"}
    headers = {} if in_page else {"HX-Request": "true"}
    answer = browser.post(
        reverse("new_cluster"), {**data, "endpoints": endpoints, **fields}, headers=headers
    )
    assert answer.status_code in (200, 422)
    return plain(answer.text)


def test_what_works_is_said_and_nothing_is_stored(as_root, server: Server) -> None:
    text = tried(as_root, server.client_url)
    assert "works Connection test" in text and "the cluster has 1 member" in text
    assert "answers" in text and "Nothing was saved" in text
    assert not Cluster.objects.exists() and not AuditRow.objects.exists()


def test_a_dead_endpoint_beside_a_good_one(as_root, server: Server) -> None:
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    text = tried(as_root, f"{server.client_url}\n{dead}")
    assert "does not work yet" in text and "Nothing listens there" in text
    assert "the cluster has 1 member" in text


def test_tls_where_there_is_none_is_explained(as_root, server: Server) -> None:
    text = tried(as_root, server.client_url.replace("http://", "https://"))
    assert "does not work yet" in text
    assert "This endpoint does not speak TLS" in text or "cut" in text or "handshake" in text


def test_bad_material_is_told_before_anything_is_dialled(as_root, server: Server) -> None:
    text = tried(as_root, server.client_url, tls_certificate="no certificate")
    assert "A client certificate and its key go together" in text
    assert "works" not in text
    text = tried(as_root, "nonsense://x")
    assert "cannot be tried" in text


def test_without_scripts_the_form_comes_back_with_the_result(
    as_root, server: Server, own_key: None
) -> None:
    text = tried(as_root, server.client_url, in_page=True, etcd_password="sesame")
    assert "New connection" in text and "works Connection test" in text
    assert "is not shown again" in text and "sesame" not in text


def test_a_stored_connection_is_tried_with_its_stored_secrets(as_root, server: Server) -> None:
    cluster = Cluster.objects.create(slug="one", name="one", endpoints="http://127.0.0.1:1")
    answer = as_root.post(
        reverse("edit_cluster", args=["one"]),
        {
            "name": "one",
            "environment": "production",
            "colour": "teal",
            "endpoints": server.client_url,
            "test": "1",
        },
        headers={"HX-Request": "true"},
    )
    assert "works Connection test" in plain(answer.text)
    cluster.refresh_from_db()
    assert (cluster.endpoints, cluster.environment) == ("http://127.0.0.1:1", "development")


def test_only_admins_of_the_console_make_it_dial(cluster, server) -> None:
    """No request goes where a user pointed it (console.md §7)."""
    from console.roles import Role

    olga = browser_of(make_account("olga", cluster, Role.ADMIN))
    answer = olga.post(reverse("new_cluster"), {"endpoints": server.client_url, "test": "1"})
    assert answer.status_code == 403
