"""Users, roles and permissions by point and click, against real servers (spec/auth.md §3, §4),
and what stands in the audit afterwards."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.clusters import secrets
from console.gateway import Reader, auth, clients
from console.models import AuditRow, Cluster
from console.roles import Role
from console.users.rules import Permission
from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.errors import Code
from kvserver.proto import auth_pb2, rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, browser_of, make_account
from tests.support.auth import Hands
from tests.support.servers import Server, newest_kinds, running

HOSTILE = "<script>\u202e'\"&/x"


@pytest.fixture(scope="module", params=newest_kinds())
def member(request, tmp_path_factory) -> Iterator[Server]:
    """A member whose users and roles are this module's."""
    directory = tmp_path_factory.mktemp("users")
    with running(request.param, directory, flags=["--bcrypt-cost=4"]) as [one]:
        yield one
        clients.close()


@pytest.fixture
def key_file(tmp_path, settings) -> Iterator[None]:
    settings.ENCRYPTION_KEY_FILE = tmp_path / "key"
    secrets._box.cache_clear()
    yield
    secrets._box.cache_clear()


def as_user(member: Server, name: str, password: str = "pw") -> Client:
    return Client(ClientConfig((member.endpoint,), user=name, password=password))


def disable(member: Server) -> None:
    """However the test left it."""
    for password in ("root's", "pw", "new password"):
        client = as_user(member, "root", password)
        try:
            client.write(
                lambda s: s.auth.AuthDisable, rpc_pb2.AuthDisableRequest(), CALL_SECONDS_MAX
            )
            return
        except CallFailed:
            continue
        finally:
            client.close()
    raise AssertionError("nobody can disable authentication")


@pytest.fixture
def hands(member: Server) -> Iterator[Hands]:
    client = member.client()
    one = Hands(client)
    one.clear()
    yield one
    disable(member)
    client.close()


@pytest.fixture
def cluster(db: None, member: Server, hands: Hands, key_file: None) -> Cluster:
    clients.close()  # ids of connections come again when a test is rolled back
    return Cluster.objects.create(
        slug="one",
        name="one",
        endpoints=member.client_url,
        etcd_user="root",
        etcd_password_encrypted=secrets.encrypt("root's"),
    )


@pytest.fixture
def admin(cluster: Cluster) -> Browser:
    return browser_of(make_account("ada", cluster, Role.ADMIN))


def url(page: str, /, **query: str) -> str:
    return reverse(page, args=["one"]) + ("?" + urlencode(query) if query else "")


def plain(text: str) -> str:
    """What a page says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def last_row() -> AuditRow:
    row = AuditRow.objects.first()
    assert row is not None
    return row


def may(member: Server, name: str, password: str, pick, request) -> bool:
    """What the server says to this user, signed in for real."""
    client = as_user(member, name, password)
    try:
        client.write(pick, request, CALL_SECONDS_MAX)
    except CallFailed as error:
        assert error.code is Code.PERMISSION_DENIED
        return False
    finally:
        client.close()
    return True


def put(member: Server, name: str, key: bytes, password: str = "pw") -> bool:
    return may(member, name, password, lambda s: s.kv.Put, rpc_pb2.PutRequest(key=key))


def get(member: Server, name: str, key: bytes, password: str = "pw") -> bool:
    return may(member, name, password, lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=key))


def test_a_role_is_made_tested_and_proven_by_a_real_login(
    admin: Browser, hands: Hands, member: Server, cluster: Cluster
) -> None:
    hands.enable()
    admin.post(url("new_role"), {"name": "app"})
    assert last_row().command.endswith("--user=root role add app")
    shown = admin.get(
        url("grant_permission", name="app", kind="readwrite", shape="prefix", key="/app/")
    )
    assert "[/app/, /app0)" in plain(shown.text)
    assert auth.role(Reader(cluster), "app").permissions == ()  # a look changes nothing
    form = {"kind": "readwrite", "key": "/app/", "range_end": "/app0"}
    assert admin.post(url("grant_permission", name="app"), form).status_code == 302
    assert last_row().command.endswith("role grant-permission --prefix app readwrite /app/")
    form = {"name": "amy", "with": "password", "password": "s3cret!", "again": "s3cret!"}
    assert admin.post(url("new_user"), form).status_code == 302
    assert admin.post(url("user_role", user="amy", role="app"), {"do": "grant"}).status_code == 302
    assert last_row().command.endswith("user grant-role amy app")
    for key, verb, expected in (
        ("/app/x", "read", True),
        ("/app/x", "put", True),
        ("/apple", "put", False),
        ("/apple", "read", False),
    ):
        query = {"user": "amy", "verb": verb, "shape": "key", "key": key}
        answer = plain(admin.get(url("permissions", **query)).text)
        assert (f"yes amy may {verb}" in answer) == expected
        assert (f"no amy may not {verb}" in answer) != expected
        does = put if verb == "put" else get
        assert does(member, "amy", key.encode(), "s3cret!") == expected
    outcomes = AuditRow.objects.values_list("action", "outcome")
    assert ("create etcd user", "done") in outcomes
    assert not any("s3cret" in f"{row.__dict__}" for row in AuditRow.objects.all())


def test_the_matrix_shows_who_has_what_and_links_to_the_change(admin: Browser, hands) -> None:
    hands.role("reader", (0, b"/a/", b"/a0"))
    hands.role("writer", (1, b"/a/", b"/a0"))
    hands.user("amy", "reader")
    hands.user(HOSTILE, "reader", "writer")
    answer = admin.get(url("users"))
    assert answer.status_code == 200
    said = html.unescape(answer.text)
    assert 'aria-label="Revoke reader from amy"' in said
    assert 'aria-label="Grant writer to amy"' in said
    assert "<script>" not in answer.text.split("<main")[1]
    assert r"\xe2\x80\xae" in said
    assert "Authentication is off" in plain(answer.text)
    assert "amy" not in plain(admin.get(url("users", q="no such")).text).split("Show")[1]
    only = html.unescape(admin.get(url("users", role="writ")).text)
    assert "Grant writer to amy" in only
    assert "reader from amy" not in only


def test_a_page_of_many_users(admin: Browser, hands) -> None:
    for number in range(52):
        hands("UserAdd", name=f"u{number:02}", password="pw")
    first = plain(admin.get(url("users")).text)
    assert "1 – 50 of 52" in first
    second = plain(admin.get(url("users", skip="50")).text)
    assert "51 – 52 of 52" in second
    assert "u51" in second
    assert "u49" not in second


def test_a_cluster_of_many_is_read_in_parts_that_say_how_far_they_are(
    admin: Browser, hands, monkeypatch
) -> None:
    """etcd tells of one user or role a call: a page reads so many, the next one reads on."""
    monkeypatch.setattr("console.gateway.directory.CALLS_MAX", 5)
    hands.role("app", (0, b"/a/", b"/a0"))
    for number in range(11):
        hands.user(f"u{number:02}", "app")
    first = admin.get(url("roles")).text
    assert "Read so far: 4 of 11 users, 1 of 1 roles." in plain(first)
    assert 'hx-select="#part"' in first and "u03" in first and "u04" not in first
    # A plan does not say "nobody" while somebody is left to be asked.
    plan = plain(admin.get(url("delete_role", name="app")).text)
    assert "Everybody who holds it loses it at once." in plan
    last = admin.get(url("roles"), HTTP_HX_REQUEST="true", HTTP_HX_TARGET="part").text
    assert "All 11 users and 1 role are read." in plain(last)
    whole = admin.get(url("findings")).text
    assert "Read so far" not in plain(whole) and "in 11 users and 1 role" in plain(whole)
    hands.user("u99", "app")  # somebody changes something: it is read anew
    assert "Read so far: 4 of 12 users" in plain(admin.get(url("findings")).text)


def test_revoking_a_role_takes_a_dialog_and_says_what_is_lost(
    admin: Browser, hands, member: Server
) -> None:
    hands.role("app", (2, b"/lost/", b"/lost0"))
    hands.user("amy", "app")
    hands.client.write(lambda s: s.kv.Put, rpc_pb2.PutRequest(key=b"/lost/1"), CALL_SECONDS_MAX)
    hands.enable()
    at = url("user_role", user="amy", role="app")
    dialog = admin.get(at, headers={"HX-Target": "dialog"}).text
    assert "<html" not in dialog
    assert "read and write [/lost/, /lost0) , 1 key now" in plain(dialog)
    assert put(member, "amy", b"/lost/x")
    assert admin.post(at, {"do": "revoke", "back": "matrix"}).headers["Location"] == url("users")
    assert not put(member, "amy", b"/lost/x")
    again = admin.post(at, {"do": "revoke"})
    assert again.status_code == 409
    assert "somebody else did meanwhile" in plain(again.text)
    assert [row.action for row in AuditRow.objects.all()] == ["revoke etcd role"]


def test_a_password_is_set_and_no_trace_of_it_is_left(admin, hands, member: Server) -> None:
    hands.role("app", (2, b"/app/", b"/app0"))
    hands.user("amy", "app")
    hands.enable()
    form = {"password": "brand-new", "again": "brand-new"}
    assert admin.post(url("user_password", name="amy"), form).status_code == 302
    assert put(member, "amy", b"/app/x", "brand-new")
    row = last_row()
    assert (row.action, row.target, row.outcome) == ("set etcd password", "amy", "done")
    assert row.command.endswith("user passwd amy")
    assert "brand-new" not in f"{row.__dict__}"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "A password is needed."),
        ({"password": "a", "again": "b"}, "The two passwords are not the same."),
        ({"password": "x" * 73, "again": "x" * 73}, "At most 72 bytes"),
    ],
)
def test_passwords_that_will_not_do(admin, hands, form, said: str) -> None:
    hands.user("amy")
    for address in (url("user_password", name="amy"), url("new_user")):
        answer = admin.post(address, {"name": "bob", **form})
        assert answer.status_code == 422
        assert said in plain(answer.text)
    assert not AuditRow.objects.exists()


def test_the_connections_own_password_is_kept_so_that_it_goes_on_working(
    admin, hands, cluster: Cluster, member: Server
) -> None:
    hands.enable()
    form = {"password": "new password", "again": "new password", "keep": "on"}
    assert admin.post(url("user_password", name="root"), form).status_code == 302
    assert admin.get(url("users")).status_code == 200
    cluster.refresh_from_db()
    assert secrets.decrypt(cluster.etcd_password_encrypted) == "new password"
    assert "new password" not in cluster.etcd_password_encrypted


def test_a_user_with_a_certificate_only(admin, hands, cluster, member: Server) -> None:
    hands.role("app", (2, b"/app/", b"/app0"))
    assert admin.post(url("new_user"), {"name": "certy", "with": "nothing"}).status_code == 302
    assert last_row().command.endswith("user add --no-password certy")
    hands.enable()
    client = as_user(member, "certy", "")
    with pytest.raises(CallFailed, match="no password user"):
        client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"k"), CALL_SECONDS_MAX)
    client.close()


def test_names_that_are_there_already_or_no_names(admin, hands) -> None:
    hands.role("app")
    hands.user("amy")
    form = {"name": "amy", "with": "nothing"}
    assert "user name already exists" in plain(admin.post(url("new_user"), form).text)
    assert last_row().outcome == "refused"
    answer = admin.post(url("new_role"), {"name": "app"})
    assert answer.status_code == 422
    assert "role name already exists" in plain(answer.text)
    for name in ("", "\\", r"\xff", "x" * 201):
        assert admin.post(url("new_role"), {"name": name}).status_code == 422
        assert admin.post(url("new_user"), {"name": name, "with": "nothing"}).status_code == 422


@pytest.mark.parametrize("page", ["etcd_user", "delete_user", "user_password"])
def test_a_user_that_is_not_there(admin, hands, page: str) -> None:
    answer = admin.get(url(page, name="ghost"))
    assert answer.status_code == 404
    assert "user name not found" in plain(answer.text)
    assert admin.get(url(page)).status_code == 400
    assert admin.get(url(page, name=r"\xff")).status_code == 400


def test_deleting_on_production_takes_the_clusters_name(admin, hands, cluster: Cluster) -> None:
    cluster.environment = "production"
    cluster.save()
    hands.role("app", (0, b"/a/", b"/a0"))
    hands.user("amy", "app")
    for page, name in (("delete_user", "amy"), ("delete_role", "app")):
        shown = admin.get(url(page, name=name)).text
        assert "autofocus>Cancel" in shown
        assert admin.post(url(page, name=name), {"confirm": "two"}).status_code == 422
    form = {"password": "a", "again": "a", "confirm": ""}
    assert admin.post(url("user_password", name="amy"), form).status_code == 422
    assert not AuditRow.objects.exists()
    assert admin.post(url("delete_role", name="app"), {"confirm": "one"}).status_code == 302
    assert last_row().detail == "with read [/a/, /a0)"
    assert admin.post(url("delete_user", name="amy"), {"confirm": "one"}).status_code == 302
    assert auth.user_names(Reader(cluster)) == []


def test_what_the_server_refuses_is_shown_as_a_refusal(admin, hands, cluster) -> None:
    """spec/auth.md §3 "Root protection"."""
    hands.enable()
    answer = admin.post(url("delete_user", name="root"))
    assert answer.status_code == 502
    assert "invalid auth management" in plain(answer.text)
    row = last_row()
    assert row.outcome == "refused"
    assert row.detail.startswith("held root · INVALID_ARGUMENT")
    assert auth.user_names(Reader(cluster)) == ["root"]


@pytest.mark.parametrize(
    ("query", "bounds", "wire"),
    [
        ({"shape": "key", "key": "/a"}, "/a", (b"/a", b"")),
        ({"shape": "prefix", "key": "/a/"}, "[/a/, /a0)", (b"/a/", b"/a0")),
        ({"shape": "from", "key": "/a"}, "[/a, ∞)", (b"/a", b"\x00")),
        ({"shape": "range", "key": "/a", "end": "/c"}, "[/a, /c)", (b"/a", b"/c")),
        ({"shape": "all"}, r"[\x00, ∞)", (b"\x00", b"\x00")),
        ({"shape": "prefix", "key": r"\xff\x00"}, r"[\xff\x00, \xff\x01)", (b"\xff\0", b"\xff\1")),
    ],
)
def test_any_range_is_shown_as_its_bounds_granted_and_revoked(
    admin, hands, cluster, query, bounds: str, wire
) -> None:
    hands.role("r")
    shown = admin.get(url("grant_permission", name="r", kind="read", **query)).text
    assert bounds in plain(shown)
    live = admin.get(url("permission_range", **query)).text
    assert bounds in plain(live)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown))
    fields = {name: html.unescape(value) for name, value in fields.items()}
    assert admin.post(url("grant_permission", name="r"), fields).status_code == 302
    granted = Permission("read", *wire)
    assert auth.role(Reader(cluster), "r").permissions == (granted,)
    page = admin.get(url("etcd_role", name="r"))
    assert bounds in plain(page.text)
    [revoke] = set(re.findall(r'href="([^"]*/role/revoke[^"]*)"', page.text))
    revoke = html.unescape(revoke)
    assert bounds in plain(admin.get(revoke).text)
    assert auth.role(Reader(cluster), "r").permissions == (granted,)
    assert admin.post(revoke).status_code == 302
    assert auth.role(Reader(cluster), "r").permissions == ()
    assert {row.action for row in AuditRow.objects.all()} == {
        "grant permission",
        "revoke permission",
    }


@pytest.mark.parametrize(
    "query",
    [
        {"shape": "key", "key": ""},
        {"shape": "range", "key": "b", "end": "a"},
        {"shape": "prefix", "key": "\\"},
        {"shape": "frob", "key": "a"},
        {"shape": "key", "key": "a", "kind": "frob"},
    ],
)
def test_bounds_that_mean_nothing_are_not_offered(admin, hands, query) -> None:
    hands.role("r")
    shown = admin.get(url("grant_permission", name="r", **{"kind": "read", **query}))
    assert "Grant permission</button>" not in shown.text
    for form in ({"kind": "read", "key": ""}, {"kind": "read", "key": "b", "range_end": "a"}, {}):
        assert admin.post(url("grant_permission", name="r"), form).status_code == 400
    assert not AuditRow.objects.exists()


def test_a_grant_on_the_same_range_replaces_and_says_so(admin, hands) -> None:
    hands.role("r", (0, b"/app", b"/apq"))
    query = {"name": "r", "shape": "prefix", "key": "/app"}
    shown = plain(admin.get(url("grant_permission", kind="write", **query)).text)
    assert "It replaces read on the same range." in shown
    assert "also covers /app2" in shown
    same = plain(admin.get(url("grant_permission", kind="read", **query)).text)
    assert "nothing would change" in same


def test_the_tester_names_the_grant_the_gap_and_what_would_help(admin, hands) -> None:
    hands.role("one", (0, b"a", b"c"))
    hands.role("two", (0, b"d", b"f"))
    hands.role("gap", (0, b"c", b"d"))
    hands.user("amy", "one", "two")
    query = {"user": "amy", "verb": "read", "shape": "range", "key": "a", "end": "f"}
    said = plain(admin.get(url("permissions", **query)).text)
    assert "no amy may not read [a, f)" in said
    assert "read on [c, d) , the nearest interval that is missing" in said
    assert "or one of these roles beside those the user has: gap" in said
    assert "Authentication is off: as long as it is, everybody may." in said
    hands("UserGrantRole", user="amy", role="gap")
    said = plain(admin.get(url("permissions", **query)).text)
    assert "yes amy may read [a, f)" in said
    assert [f"{role} read" in said for role in ("one", "two", "gap")] == [True] * 3
    prev = {"user": "amy", "verb": "put", "shape": "key", "key": "a", "prev": "on"}
    said = plain(admin.get(url("permissions", **prev)).text)
    assert "no amy may not put a" in said
    assert "one gives only read there" in said


def test_the_tester_counts_the_keys_of_a_lease(admin, hands) -> None:
    hands.role("app", (1, b"mine", b""))
    hands.user("amy", "app")
    hands.client.write(
        lambda s: s.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(ID=0xABC, TTL=900), 5
    )
    hands.client.write(
        lambda s: s.kv.Put, rpc_pb2.PutRequest(key=b"theirs", lease=0xABC), CALL_SECONDS_MAX
    )
    query = {"user": "amy", "verb": "attach", "shape": "key", "key": "mine", "lease": "abc"}
    said = plain(admin.get(url("permissions", **query)).text)
    assert "no amy may not attach a lease to mine" in said
    assert "write on theirs" in said
    hands.client.write(
        lambda s: s.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=0xABC), CALL_SECONDS_MAX
    )
    said = plain(admin.get(url("permissions", **query)).text)
    assert "yes amy may attach" in said
    bad = plain(admin.get(url("permissions", **{**query, "lease": "zz"})).text)
    assert "hexadecimal" in bad


def test_a_transaction_is_judged_by_both_branches(admin, hands) -> None:
    hands.role("app", (2, b"a", b"b"))
    hands.user("amy", "app")
    ask = {"user": "amy", "txn": "compare a1\nput a2\ndel z"}
    said = plain(admin.get(url("permissions_txn", **ask)).text)
    assert "no amy may not run this transaction" in said
    assert "line 3, a delete" in said
    said = plain(admin.get(url("permissions_txn", **{**ask, "txn": "put a1"})).text)
    assert "yes amy may run this transaction" in said
    said = plain(admin.get(url("permissions_txn", **{**ask, "txn": "frob a1"})).text)
    assert "Line 1: frob is none of" in said


def test_a_question_without_a_user_or_about_nobody(admin, hands) -> None:
    said = admin.get(url("permissions", shape="key", key="a", verb="read"))
    assert "Choose whose permission it is about." in plain(said.text)
    said = admin.get(url("permissions", user="ghost", shape="key", key="a", verb="read"))
    assert said.status_code == 404


def test_who_can_touch_a_range(admin, hands) -> None:
    hands.role("reader", (0, b"/app/", b"/app0"))
    hands.role("one-key", (2, b"/app/x", b""))
    hands.user("amy", "reader")
    hands.user("bob", "one-key")
    hands.user("eve")
    hands.user("root", "root")
    said = plain(admin.get(url("permissions_who", shape="prefix", key="/app/")).text)
    table = said.split("Who Read, watch")[1]
    assert "amy user yes no reader read [/app/, /app0)" in table
    assert "bob user a part a part one-key" in table
    assert "root user yes yes role root" in table
    assert "eve" not in table
    assert "reader role yes no" in table
    nobody = plain(admin.get(url("permissions_who", shape="key", key="zzz")).text)
    assert "root user yes yes" in nobody


def test_findings_with_their_remedies(admin, hands) -> None:
    hands.role("app", (0, b"/app", b"/apq"))
    hands.user("guest")
    said = plain(admin.get(url("findings")).text)
    assert "The prefix /app also covers /app2" in said
    assert "Nobody holds this role." in said
    assert "This user has no role" in said
    assert "There is no user root" in said
    assert "Authentication is off: whoever reaches an endpoint may do everything." in said


def test_users_that_let_anybody_in_are_found_by_trying(admin, hands) -> None:
    hands.user("wide", password="")
    hands.user("closed", password="pw")
    no_password = auth_pb2.UserAddOptions(no_password=True)
    hands("UserAdd", name="certified", options=no_password)
    hands.enable()
    answer = admin.post(url("try_passwords"))
    said = plain(answer.text)
    assert "Anybody signs in without a password as wide ." in said
    assert "Without a password, by certificate only: certified" in said
    assert "root is among them" not in said
    row = last_row()
    assert (row.action, row.detail) == ("try empty passwords", "open: wide")
