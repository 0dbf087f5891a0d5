"""A connection whose etcd user may read only a part (console.md §2, §4: the third empty text)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import reverse

from console.clusters import secrets
from console.gateway import Reader, clients
from console.keys.paging import prefix_range
from console.models import Cluster
from console.roles import Role
from tests.console.conftest import Store, browser_of, make_account
from tests.support.auth import auth_kinds, enable_auth
from tests.support.servers import Server, running


@pytest.fixture(scope="module", params=auth_kinds())
def guarded(request, tmp_path_factory) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("denied")) as [one]:
        client = one.client()
        Store(client).put(b"/pub/a", b"v")
        enable_auth(client)
        client.close()
        yield one
        clients.close()


@pytest.fixture
def browser(db, guarded: Server, tmp_path, settings):
    settings.ENCRYPTION_KEY_FILE = tmp_path / "key"
    secrets._box.cache_clear()
    cluster = Cluster.objects.create(
        slug="g",
        name="g",
        endpoints=guarded.client_url,
        etcd_user="rita",
        etcd_password_encrypted=secrets.encrypt("pw"),
    )
    yield browser_of(make_account("eddie", cluster, Role.EDITOR))
    secrets._box.cache_clear()


def test_what_may_not_be_read_says_so_and_what_may_is_shown(browser) -> None:
    answer = browser.get(reverse("keys", args=["g"]), {"prefix": "/other/"})
    assert answer.status_code == 403
    assert "You may not read this" in answer.text
    assert "PERMISSION_DENIED" in answer.text
    assert "rita" in answer.text
    assert "/pub/a" in browser.get(reverse("keys", args=["g"]), {"prefix": "/pub/"}).text


def test_a_put_that_is_denied_keeps_what_was_typed(browser) -> None:
    answer = browser.post(reverse("new_key", args=["g"]), {"key": "/pub/b", "value": "typed"})
    assert answer.status_code == 403
    assert "The cluster refuses this connection" in answer.text
    assert "typed" in answer.text


def test_the_overview_works_for_such_a_user(browser) -> None:
    answer = browser.get(reverse("overview", args=["g"]))
    assert answer.status_code == 200
    assert "m0" in answer.text


def test_a_lost_encryption_key_is_explained(browser, settings, tmp_path) -> None:
    clients.close()
    settings.ENCRYPTION_KEY_FILE = tmp_path / "another"
    secrets._box.cache_clear()
    answer = browser.get(reverse("keys", args=["g"]))
    assert answer.status_code == 500
    assert "enter it again on the connection" in answer.text


def test_a_watch_that_is_denied_says_so(browser) -> None:
    answer = browser.get(reverse("watch", args=["g"]), {"prefix": "/secret/"})
    assert answer.status_code == 403
    assert "You may not watch this" in answer.text
    answer = browser.get(reverse("watch", args=["g"]), {"prefix": "/pub/"})
    assert answer.status_code == 200
    assert "/pub/a" in answer.text


def test_a_watch_that_is_refused_while_open_stops_and_says_why(browser) -> None:
    feed = Reader(Cluster.objects.get()).feed(
        [(prefix_range(b"/secret/"), 1)], puts=True, deletes=True, kept_max=10
    )
    feed.start()
    [part] = feed.parts
    part.thread.join(20)
    assert (part.connection.state, part.connection.why) == ("stopped", "permission denied")


def test_of_several_ranges_only_the_denied_one_is_not_watched(browser) -> None:
    path = reverse("watch", args=["g"]) + "?prefix=/secret/&prefix=/pub/"
    answer = browser.get(path)
    assert answer.status_code == 200
    assert "/pub/a" in answer.text
    assert answer.text.count("may not be watched") == 1


def test_the_history_of_what_may_be_read_needs_no_more(browser) -> None:
    """Sentinels watch the whole keyspace: without that right the replay ends all the same."""
    answer = browser.get(reverse("history", args=["g"]), {"prefix": "/pub/"})
    assert answer.status_code == 200
    assert "/pub/a" in answer.text
    assert browser.get(reverse("history", args=["g"])).status_code == 403
