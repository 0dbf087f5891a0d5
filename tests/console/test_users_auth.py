"""Authentication on and off with its checks (spec/auth.md §3 "Preconditions of AuthEnable"), a
connection without root rights, and people who sign in to etcd as themselves."""

from __future__ import annotations

import re

import pytest
from django.contrib.sessions.models import Session
from django.test import Client as Browser
from django.urls import reverse

from console.clusters import secrets
from console.clusters.own import OwnSignIn, recall
from console.gateway import Reader, auth, clients
from console.live import CLOSE_SIGN_IN, admit
from console.maintenance.defragmentation import steps_of
from console.maintenance.jobs import create_for
from console.maintenance.work import execute
from console.models import AuditRow, Cluster, Job
from console.overview.health import assess
from console.roles import Role
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, browser_of, make_account
from tests.console.test_users import (  # noqa: F401
    admin,
    as_user,
    cluster,
    get,
    hands,
    key_file,
    last_row,
    member,
    plain,
    put,
    url,
)
from tests.support.auth import Hands
from tests.support.servers import Server

REASON = {"reason": "the auditors come on Monday"}


def with_root(hands: Hands, password: str = "root's") -> None:  # noqa: F811
    hands.user("root", "root", password=password)


def ticks(text: str) -> list[str]:
    return re.findall(r'<li class="(met|unmet)">', text)


def test_enabled_with_all_checks_met_the_connection_goes_on_working(
    admin: Browser,  # noqa: F811
    hands: Hands,  # noqa: F811
    member: Server,  # noqa: F811
    cluster: Cluster,  # noqa: F811
) -> None:
    with_root(hands, "another than the connection's")
    hands.role("app", (2, b"/app/", b"/app0"))
    hands.user("amy", "app")
    hands.user("idle")
    shown = admin.get(url("enable_auth"))
    assert ticks(shown.text) == ["met"] * 5
    said = plain(shown.text)
    assert "Keep everything: root ." in said
    assert "Keep what their roles allow: amy ." in said
    assert "May sign in and touch nothing: idle ." in said
    assert not auth.is_enabled(Reader(cluster))
    answer = admin.post(url("enable_auth"), {**REASON, "set_password": "on"}, follow=True)
    assert "authentication on" in plain(answer.text)
    assert auth.is_enabled(Reader(cluster))
    assert admin.get(url("keys")).status_code == 200
    assert (put(member, "amy", b"/app/x"), put(member, "amy", b"/other")) == (True, False)
    rows = [(row.action, row.outcome) for row in AuditRow.objects.all()]
    assert rows == [("enable authentication", "done"), ("set etcd password", "done")]
    assert last_row().command.endswith("auth enable")
    assert last_row().detail == "reason: the auditors come on Monday"


@pytest.mark.parametrize("missing", ["user", "role", "own"])
def test_nothing_happens_while_a_check_is_not_met(
    admin,  # noqa: F811
    hands,  # noqa: F811
    cluster: Cluster,  # noqa: F811
    missing: str,
) -> None:
    if missing == "role":
        hands.user("root")
    if missing == "own":
        with_root(hands)
        Cluster.objects.update(etcd_user="rita")
    shown = admin.get(url("enable_auth")).text
    assert "unmet" in ticks(shown)
    assert re.search(r"<button[^>]*disabled[^>]*>Enable authentication", shown)
    remedy = {
        "user": url("new_user", name="root"),
        "role": url("user_role", user="root", role="root").replace("&", "&amp;"),
        "own": url("new_user", name="rita"),
    }[missing]
    assert f'href="{remedy}"' in shown
    answer = admin.post(url("enable_auth"), REASON)
    assert answer.status_code == 422
    assert "Nothing was changed: a check is not met." in plain(answer.text)
    assert not auth.is_enabled(Reader(cluster))
    assert not AuditRow.objects.exists()


def test_it_takes_a_reason_and_on_production_the_name(
    admin,  # noqa: F811
    hands,  # noqa: F811
    cluster: Cluster,  # noqa: F811
) -> None:
    with_root(hands)
    Cluster.objects.update(environment="production")
    for form in ({}, {"reason": " "}, REASON, {**REASON, "confirm": "two"}):
        answer = admin.post(url("enable_auth"), form)
        assert answer.status_code == 422
    assert "This is not the cluster" in plain(answer.text)
    assert not auth.is_enabled(Reader(cluster))
    form = {**REASON, "confirm": "one"}
    assert admin.post(url("enable_auth"), form).status_code == 302
    assert "on already" in plain(admin.get(url("enable_auth"), follow=True).text)
    assert admin.post(url("disable_auth"), REASON).status_code == 422
    assert auth.is_enabled(Reader(cluster))
    assert admin.post(url("disable_auth"), form).status_code == 302
    assert not auth.is_enabled(Reader(cluster))
    assert last_row().command.endswith("auth disable")
    assert "off already" in plain(admin.get(url("disable_auth"), follow=True).text)


def test_a_password_that_turns_out_wrong_is_told_with_the_way_back(
    admin,  # noqa: F811
    hands,  # noqa: F811
) -> None:
    with_root(hands, "pw")
    answer = admin.post(url("enable_auth"), REASON)
    assert answer.status_code == 403
    said = plain(answer.text)
    assert "this connection is shut out" in said
    assert "invalid user ID or password" in said
    assert "etcdctl --user=root auth disable" in said
    row = last_row()
    assert (row.action, row.outcome) == ("sign in to etcd", "refused")


@pytest.fixture
def as_rita(admin: Browser, hands: Hands, cluster: Cluster) -> Browser:  # noqa: F811
    """The same pages over a connection that may read /pub/ only."""
    hands.role("reader", (0, b"/pub/", b"/pub0"), (2, b"/mine", b""))
    hands.role("other", (2, b"/secret/", b"/secret0"))
    hands.user("rita", "reader")
    hands.enable()
    cluster.etcd_user, cluster.etcd_password_encrypted = "rita", secrets.encrypt("pw")
    cluster.save()
    return admin


def test_without_root_the_admin_pages_say_why_not(as_rita: Browser) -> None:
    for page in ("users", "roles", "permissions_who", "findings", "enable_auth"):
        query = {"shape": "key", "key": "a"} if page == "permissions_who" else {}
        answer = as_rita.get(url(page, **query), follow=True)
        assert answer.status_code == 403, page
        said = plain(answer.text)
        assert "are for etcd users with the role root" in said
        assert "comes as rita" in said
        assert "PERMISSION_DENIED" in said
    answer = as_rita.post(url("new_role"), {"name": "x"})
    assert answer.status_code == 403
    assert last_row().outcome == "refused"


def test_without_root_one_sees_oneself(as_rita: Browser) -> None:
    said = plain(as_rita.get(url("own_access")).text)
    assert "This connection comes as rita with the role reader" in said
    assert "read /mine [/pub/, /pub0) write /mine" in said
    assert "also one's own password" in said
    query = {"user": "rita", "verb": "put", "shape": "key", "key": "/pub/a"}
    said = plain(as_rita.get(url("permissions", **query)).text)
    assert "no rita may not put /pub/a" in said
    own = as_rita.get(url("etcd_user", name="rita"))
    assert own.status_code == 200
    assert as_rita.get(url("etcd_user", name="root")).status_code == 403


def test_what_one_may_read_are_the_roots_of_the_key_browser(as_rita, member) -> None:  # noqa: F811
    root = as_user(member, "root", "root's")
    behind = Hands(root)
    behind.role("wide", (0, b"/deep/er/", b"/deep/er0"), (0, b"/q/a", b"/q/c"), (0, b"/r", b"/r/z"))
    behind("UserGrantRole", user="rita", role="wide")
    for key in (b"/pub/a", b"/pub/b", b"/mine", b"/deep/er/x/1"):
        root.write(lambda s: s.kv.Put, rpc_pb2.PutRequest(key=key), CALL_SECONDS_MAX)
    root.close()
    answer = as_rita.get(url("keys"))
    assert answer.status_code == 200
    table = plain(answer.text).split("From here on Range Keys")[1]
    assert "/deep/er/ [/deep/er/, /deep/er0) 1" in table
    assert "/mine one key /mine 1" in table
    assert "/pub/ [/pub/, /pub0) 2" in table
    assert "/q/a [/q/a, /q/b) 0 /q/b [/q/b, /q/c) 0" in table
    assert "a range that is no prefix: filter for one inside it [/r, /r/z) 0" in table
    assert f'href="{url("keys", prefix="/pub/").replace("%2F", "/")}"' in answer.text
    tree = plain(answer.text.split('role="tree"')[1].split("</ul>")[0])
    assert tree.endswith("/deep/er/ 1 /mine /pub/ 2 /q/a 0 /q/b 0")
    part = as_rita.get(url("keys", prefix="/deep/"))
    assert part.status_code == 403
    assert "/deep/er/ [/deep/er/, /deep/er0) 1" in plain(part.text)
    assert "/pub/ [/pub/" not in plain(part.text)
    # The folder around may not be read: its count is left out, the level is shown.
    level = as_rita.get(url("keys", prefix="/deep/er/x/"))
    assert level.status_code == 200
    assert "/deep/er/x/1" in plain(level.text)
    assert "treeitem" in level.text


def test_buttons_that_one_may_not_use_say_why(as_rita, member) -> None:  # noqa: F811
    root = as_user(member, "root", "root's")
    for key in (b"/pub/a", b"/mine"):
        root.write(lambda s: s.kv.Put, rpc_pb2.PutRequest(key=key), CALL_SECONDS_MAX)
    root.close()
    disabled = re.compile(r'disabled title="The etcd user rita may not write here">')
    closed = as_rita.get(url("key", key="/pub/a")).text
    assert len(disabled.findall(closed)) == 2
    assert url("edit_key", key="/pub/a").replace("%2F", "/") not in closed
    mine = as_rita.get(url("key", key="/mine")).text
    assert not disabled.search(mine)
    assert url("edit_key", key="/mine").replace("%2F", "/") in mine
    assert disabled.search(as_rita.get(url("keys", prefix="/pub/")).text)
    assert not disabled.search(as_rita.get(url("keys")).text)


def test_who_may_read_everything_has_no_need_of_roots(admin, hands) -> None:  # noqa: F811
    hands.enable()
    answer = admin.get(url("keys"))
    assert answer.status_code == 200
    assert "From here on" not in plain(answer.text)


def test_the_access_of_a_key_as_far_as_one_may_know(as_rita: Browser, cluster) -> None:  # noqa: F811
    said = plain(as_rita.get(url("key_access", key="/pub/a")).text)
    assert "rita may read and watch this key" in said
    assert "may not put or delete it" in said
    assert "Only etcd users with the role root may list users and roles" in said
    viewer = browser_of(make_account("vera", cluster, Role.VIEWER))
    said = plain(viewer.get(url("key_access", key="/mine")).text)
    assert "may put and delete it" in said
    assert "shown from the role operator on; yours is viewer" in said


def test_who_can_touch_a_key(admin, hands, cluster) -> None:  # noqa: F811
    hands.role("reader", (0, b"/pub/", b"/pub0"))
    hands.user("rita", "reader")
    hands.enable()
    page = admin.get(url("key_access", key="/pub/a"))
    said = plain(page.text)
    assert "root has the role root and may do everything" in said
    assert "rita user yes no reader read [/pub/, /pub0)" in said
    assert admin.get(url("key_access")).status_code == 400
    assert url("key_access", key="/pub/a") in admin.get(url("key_access", key="/pub/a")).text


# people who sign in as themselves


@pytest.fixture
def own_cluster(hands: Hands, cluster: Cluster) -> Cluster:  # noqa: F811
    """A connection that asks everybody; what it stores itself is not used."""
    hands.role("reader", (0, b"/pub/", b"/pub0"))
    hands.user("rita", "reader", password="rita's own")
    hands.enable()
    cluster.asks_sign_in = True
    cluster.save()
    return cluster


@pytest.fixture
def vera(own_cluster: Cluster) -> Browser:
    return browser_of(make_account("vera", own_cluster, Role.OPERATOR))


def sign_in(browser: Browser, user: str, password: str, **more: str):
    return browser.post(url("etcd_sign_in"), {"user": user, "password": password, **more})


def test_every_page_asks_first_and_comes_back(vera: Browser) -> None:
    page = url("keys", prefix="/pub/")
    answer = vera.get(page)
    assert answer.status_code == 302
    assert answer.headers["Location"] == url("etcd_sign_in", next=page)
    fragment = vera.get(page, headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment.headers["HX-Redirect"]) == (401, url("etcd_sign_in"))
    assert vera.get(url("etcd_sign_in")).status_code == 200
    answer = sign_in(vera, "rita", "rita's own", next=page)
    assert answer.headers["Location"] == page
    shown = vera.get(page)
    assert shown.status_code == 200
    assert "--user=rita" in shown.text
    assert vera.get(url("keys", prefix="/other")).status_code == 403
    assert "You signed in as rita with the role reader" in plain(vera.get(url("own_access")).text)
    assert (last_row().action, last_row().target) == ("sign in to etcd", "rita")
    foreign = sign_in(vera, "rita", "rita's own", next="https://elsewhere.example/")
    assert foreign.headers["Location"] == url("keys")


def test_a_wrong_password_is_refused_counted_and_slowed(vera: Browser) -> None:
    answer = sign_in(vera, "rita", "wrong")
    assert answer.status_code == 401
    assert "invalid user ID or password" in plain(answer.text)
    assert vera.get(url("keys")).status_code == 302
    assert last_row().outcome == "refused"
    for _ in range(12):
        answer = sign_in(vera, "rita", "wrong")
    assert answer.status_code == 429
    assert sign_in(vera, "rita", "rita's own").status_code == 429


def test_the_password_is_nowhere_in_clear_and_forgotten_by_signing_out(
    vera: Browser, own_cluster: Cluster
) -> None:
    sign_in(vera, "rita", "rita's own")
    vera.get(url("own_access"))
    session = Session.objects.get(session_key=vera.session.session_key)
    assert "rita" not in f"{session.get_decoded()}"
    assert recall(vera.session, own_cluster) == OwnSignIn("rita", "rita's own")
    assert "own" not in repr(OwnSignIn("rita", "rita's own"))
    assert "rita's own" not in f"{[row.__dict__ for row in AuditRow.objects.all()]}"
    held = [whose for whose in clients._clients if whose[1] and whose[1].user == "rita"]
    assert held
    vera.post(url("etcd_sign_out"))
    assert recall(vera.session, own_cluster) is None
    assert not [whose for whose in clients._clients if whose[1] and whose[1].user == "rita"]
    assert vera.get(url("keys")).status_code == 302
    sign_in(vera, "rita", "rita's own")
    vera.get(url("own_access"))
    key = vera.session.session_key
    vera.post(reverse("logout"))
    assert not Session.objects.filter(session_key=key).exists()
    assert not [whose for whose in clients._clients if whose[1] and whose[1].user == "rita"]


def test_a_changed_connection_asks_again(vera: Browser, own_cluster: Cluster) -> None:
    """A password that was given to one address is not handed to another."""
    sign_in(vera, "rita", "rita's own")
    assert vera.get(url("own_access")).status_code == 200
    own_cluster.endpoints += "\nhttp://127.0.0.1:1"
    own_cluster.save()
    assert vera.get(url("own_access")).status_code == 302


def test_a_job_goes_on_as_who_began_it(own_cluster: Cluster) -> None:
    """Credentials stand in no row: they go along with the thread."""
    boss = make_account("root")
    own_cluster.own = OwnSignIn("root", "root's")
    health = assess(*Reader(own_cluster).members())
    members = [row.member for row in health.rows]
    for own, state, step in ((OwnSignIn("root", "root's"), "done", "done"), (None, "stopped", "")):
        job = create_for(own_cluster, boss, Job.Kind.DEFRAGMENT, steps_of(members))
        execute(job.pk, own=own)
        job.refresh_from_db()
        assert job.state == state, job.detail
        assert not step or [one["state"] for one in job.steps] == [step]
        assert "root's" not in f"{job.__dict__}"


def test_two_people_are_two_users_on_one_connection(
    vera: Browser,
    admin: Browser,  # noqa: F811
) -> None:
    sign_in(vera, "rita", "rita's own")
    sign_in(admin, "root", "root's")
    assert vera.get(url("keys", prefix="/other")).status_code == 403
    assert admin.get(url("keys", prefix="/other")).status_code == 200
    assert admin.get(url("users")).status_code == 200
    assert vera.get(url("users")).status_code == 403
    assert admin.post(url("new_role"), {"name": "fresh"}).status_code == 302
    assert "--user=root" in last_row().command


def test_sockets_come_as_the_person_too(vera: Browser, own_cluster: Cluster) -> None:
    key = vera.session.session_key
    assert admit(key, "one", Role.VIEWER) == (CLOSE_SIGN_IN, None)
    sign_in(vera, "rita", "rita's own")
    refusal, found = admit(vera.session.session_key, "one", Role.VIEWER)
    assert refusal is None
    assert found is not None
    assert found.user_name == "rita"
    assert auth.user(Reader(found), "rita").roles == ("reader",)


def test_changing_ones_own_password_keeps_the_session_going(admin, own_cluster) -> None:  # noqa: F811
    sign_in(admin, "root", "root's")
    form = {"password": "new password", "again": "new password", "keep": "on"}
    assert admin.post(url("user_password", name="root"), form).status_code == 302
    assert admin.get(url("users")).status_code == 200
    own_cluster.refresh_from_db()
    assert secrets.decrypt(own_cluster.etcd_password_encrypted) == "root's"


def test_a_password_that_was_changed_elsewhere_leads_back_to_the_form(
    vera: Browser,
    hands: Hands,  # noqa: F811
    member: Server,  # noqa: F811
) -> None:
    sign_in(vera, "rita", "rita's own")
    assert vera.get(url("keys", prefix="/pub/")).status_code == 200
    root = as_user(member, "root", "root's")
    Hands(root)("UserChangePassword", name="rita", password="another")
    root.close()
    answer = vera.get(url("key", key="/pub/a"))
    assert answer.status_code == 403
    assert "Sign in to etcd again" in plain(answer.text)
    assert sign_in(vera, "rita", "another").status_code == 302
    assert vera.get(url("keys", prefix="/pub/")).status_code == 200


def test_where_authentication_is_off_everybody_is_welcome(
    admin,  # noqa: F811
    hands,  # noqa: F811
    cluster: Cluster,  # noqa: F811
) -> None:
    cluster.asks_sign_in = True
    cluster.save()
    assert sign_in(admin, "anybody", "").status_code == 302
    assert admin.get(url("keys")).status_code == 200


def test_a_connection_that_asks_nobody_has_no_such_page(admin, hands) -> None:  # noqa: F811
    assert admin.get(url("etcd_sign_in")).headers["Location"] == url("overview")
