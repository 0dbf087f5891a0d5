"""The danger ladder (console.md §5), action by action, and what becomes of each in the audit.

The table is generated from the routes: whatever can be posted has a level here, or the test fails.
A page of level 3 says what would happen, offers the command, has the focus on Cancel and on a
production cluster wants the name typed; level 4 wants a reason and its checks met as well.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser
from django.urls import reverse

from console.clusters import secrets
from console.gateway import clients
from console.maintenance import work
from console.models import AuditRow, Cluster
from console.roles import Role
from kvserver.client import Client, ClientConfig
from kvserver.proto import auth_pb2, rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store, browser_of, make_account
from tests.console.test_access_table import ROUTES, rule_of
from tests.console.test_overview import sampler_forgets
from tests.console.test_plans import hidden
from tests.support.servers import Server, kinds, running


@dataclass(frozen=True, slots=True)
class Action:
    """`query` of its page and `fields` beyond those the page fills in; both may name objects."""

    level: int
    query: str = ""
    fields: dict[str, str] = field(default_factory=dict)


CONSOLES_OWN = 0
"""Settings, accounts and rows of the console; nothing on the cluster changes."""

PASSWORDS = {"password": "secret words", "again": "secret words"}

LADDER: dict[str, Action] = {
    **dict.fromkeys(
        (
            *("login", "logout", "password", "theme", "etcd_sign_in", "etcd_sign_out"),
            *("new_cluster", "edit_cluster", "remove_cluster"),
            *("new_account", "account", "reset_password"),
            *("sizes", "schedule_snapshots", "save_snapshot", "download_snapshot"),
            *("download_saved", "browse_snapshot", "upload_snapshot", "remove_upload"),
            *("abort_job", "stop_key_job"),
        ),
        Action(CONSOLES_OWN),
    ),
    # 1: what one step takes back
    "new_key": Action(1, fields={"key": "/ladder/new", "value": "v"}),
    "edit_key": Action(1, "?key=/ladder/key", {"value": "v2", "step": "put"}),
    "restore_key": Action(1, "?key=/ladder/key&rev={revision}"),
    "snapshot_key": Action(1, "?file=none.db&key=/ladder/key"),
    "undo_put": Action(1, "?key=/ladder/key"),
    "rename_key": Action(1, "?key=/ladder/key"),
    "duplicate_key": Action(1, "?key=/ladder/key"),
    "grant_lease": Action(1, fields={"seconds": "600"}),
    "keep_alive": Action(1),
    "new_user": Action(1, fields={"name": "eve", "with": "password", **PASSWORDS}),
    "new_role": Action(1, fields={"name": "writers"}),
    "try_passwords": Action(1),
    # 2: a dialog that names the object
    "delete_key": Action(2, "?key=/ladder/key"),
    "revoke_lease": Action(2),
    "user_role": Action(2, "?user=ada&role=readers"),
    "grant_permission": Action(2, "?name=readers&kind=write&shape=prefix&key=/b/"),
    "revoke_permission": Action(2, "?name=readers&key=/app/&range_end=/app0"),
    # 3: a plan page
    "delete_range": Action(3, "?prefix=/ladder/"),
    "rewind": Action(3, "?prefix=/ladder/&to={revision}"),
    "import_keys": Action(3),
    "build_txn": Action(3),
    "compact": Action(3, "?revision={revision}"),
    "defragment": Action(3, "?member={member}"),
    "defragment_all": Action(3),
    "disarm": Action(3, "?kind=NOSPACE&member=4d"),
    "user_password": Action(3, "?name=ada", PASSWORDS),
    "delete_user": Action(3, "?name=ada"),
    "delete_role": Action(3, "?name=readers"),
    "add_member": Action(3, "?name=m9&peer_urls=http://127.0.0.1:1"),
    "promote_member": Action(3, "?member={member}"),
    "update_member": Action(3, "?member={member}"),
    "move_leader": Action(3, "?member={member}"),
    # 4: checks, and a reason for the audit
    "remove_member": Action(4, "?member={member}"),
    "enable_auth": Action(4),
    "disable_auth": Action(4),
}

TXN = {"then_op": "delete", "then_key": "/ladder/", "then_span": "prefix"}
TXN |= {"then_value": "", "then_lease": ""}

IN_BATCHES = {"rewind"}
"""What it writes are many guarded transactions, each in the audit with a command of its own."""

ON_THE_PAGE = [name for name, one in LADDER.items() if one.level >= 2]
PLANS = [name for name, one in LADDER.items() if one.level >= 3]


def test_whatever_can_be_posted_has_a_level() -> None:
    posted = {name for name in ROUTES if "POST" in rule_of(name).methods}
    assert posted == LADDER.keys()


def test_whatever_writes_to_the_cluster_has_one_above_nothing() -> None:
    writing = {name for name in ROUTES if rule_of(name).writes}
    assert writing == {name for name, one in LADDER.items() if one.level > CONSOLES_OWN}


@pytest.fixture(scope="module")
def member(tmp_path_factory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("ladder")
    with running(kinds()[-1], directory, flags=["--bcrypt-cost=4"]) as [one]:
        yield one
        clients.close()


@pytest.fixture(scope="module")
def objects(member: Server) -> Iterator[dict[str, str]]:
    """What the addresses name. The alarm comes last: nothing is put after it."""
    client = member.client()
    store, write = Store(client), client.write
    revision = store.put(b"/ladder/key", b"v")
    store.put(b"/ladder/key", b"w")
    lease = store.grant_lease(3600)
    store.put(b"/ladder/leased", b"v", lease)
    for name in ("ada", "root", "lim"):
        write(
            lambda s: s.auth.UserAdd,
            rpc_pb2.AuthUserAddRequest(name=name, password="pw"),
            CALL_SECONDS_MAX,
        )
    for name in ("readers", "root"):
        write(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=name), CALL_SECONDS_MAX)
    read = auth_pb2.Permission(permType="READ", key=b"/app/", range_end=b"/app0")
    grant = rpc_pb2.AuthRoleGrantPermissionRequest(name="readers", perm=read)
    write(lambda s: s.auth.RoleGrantPermission, grant, CALL_SECONDS_MAX)
    root = rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root")
    write(lambda s: s.auth.UserGrantRole, root, CALL_SECONDS_MAX)
    listed = client.read(
        lambda s: s.cluster.MemberList, rpc_pb2.MemberListRequest(), CALL_SECONDS_MAX
    )
    alarm(client, rpc_pb2.AlarmRequest.ACTIVATE)
    yield {
        "revision": str(revision),
        "lease": f"{lease:x}",
        "member": f"{listed.members[0].ID:x}",
    }
    alarm(client, rpc_pb2.AlarmRequest.DEACTIVATE)
    client.close()


def alarm(client: Client, action: int) -> None:
    request = rpc_pb2.AlarmRequest(action=action, memberID=77, alarm=rpc_pb2.NOSPACE)
    client.write(lambda s: s.maintenance.Alarm, request, CALL_SECONDS_MAX)


@pytest.fixture
def production(db, member: Server, tmp_path, settings, monkeypatch) -> Iterator[Cluster]:
    settings.CONSOLE_DIR = tmp_path
    settings.ENCRYPTION_KEY_FILE = tmp_path / "key"
    secrets._box.cache_clear()
    sampler_forgets()
    monkeypatch.setattr(work, "launch", lambda job: None)
    yield Cluster.objects.create(
        slug="one",
        name="one",
        endpoints=member.client_url,
        environment=Cluster.Environment.PRODUCTION,
    )
    secrets._box.cache_clear()


@pytest.fixture
def admin(production: Cluster) -> Browser:
    return browser_of(make_account("ada", production, Role.ADMIN))


@pytest.fixture
def enabled(production: Cluster, member: Server, objects) -> Iterator[None]:
    """Authentication on, and the connection comes as root."""
    production.etcd_user = "root"
    production.etcd_password_encrypted = secrets.encrypt("pw")
    production.save()
    client = member.client()
    client.write(lambda s: s.auth.AuthEnable, rpc_pb2.AuthEnableRequest(), CALL_SECONDS_MAX)
    client.close()
    yield
    client = Client(ClientConfig((member.endpoint,), user="root", password="pw"))
    client.write(lambda s: s.auth.AuthDisable, rpc_pb2.AuthDisableRequest(), CALL_SECONDS_MAX)
    client.close()


def address(name: str, objects: dict[str, str]) -> str:
    args = ["one", objects["lease"]] if name in {"revoke_lease", "keep_alive"} else ["one"]
    return reverse(name, args=args) + LADDER[name].query.format(**objects)


def shown(browser: Browser, name: str, objects: dict[str, str]) -> str:
    """The page that asks, as it is before anything is confirmed."""
    url = address(name, objects)
    if name == "import_keys":
        file = SimpleUploadedFile("keys.ndjson", b'{"key": "/ladder/new", "value": "v"}\n')
        answer = browser.post(url, {"file": file})
    elif name == "build_txn":
        answer = browser.post(url, {**TXN, "step": "review"})
    else:
        answer = browser.get(url)
    assert answer.status_code == 200, (name, answer.text[-2000:])
    return answer.text


def confirming(text: str) -> str:
    """The form of the page that acts."""
    forms = re.findall(r'<form method="post"[^>]*>.*?</form>', text.partition("<main")[2], re.S)
    [form] = [one for one in forms if ">Cancel<" in one]
    return html.unescape(form)


def fields_of(form: str, name: str, objects: dict[str, str]) -> dict[str, str]:
    """As a browser would send them with the button that acts."""
    step = {"step": "start"} if 'name="step" value="start"' in form else {}
    more = {k: v.format(**objects) for k, v in LADDER[name].fields.items()}
    return {**hidden(form), **step, **more}


@pytest.fixture
def auth_as_it_takes(request, name: str) -> None:
    if name == "disable_auth":
        request.getfixturevalue("enabled")


@pytest.mark.parametrize("name", ON_THE_PAGE)
@pytest.mark.usefixtures("auth_as_it_takes")
def test_the_page_has_the_ritual_of_its_level(name: str, admin, objects, production) -> None:
    level = LADDER[name].level
    form = confirming(shown(admin, name, objects))
    has_focus = re.search(r"<a[^>]* autofocus[^>]*>Cancel</a>", form) is not None
    assert has_focus == (level >= 3)
    assert ('name="confirm"' in form) == (level >= 3)
    assert ('name="reason"' in form) == (level >= 4)
    assert ('class="checks"' in form) or level < 4
    production.environment = Cluster.Environment.STAGING
    production.save()
    assert 'name="confirm"' not in confirming(shown(admin, name, objects))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.usefixtures("auth_as_it_takes")
def test_on_production_nothing_happens_without_the_name(name: str, admin, objects) -> None:
    text = shown(admin, name, objects)
    assert 'class="command"' in text or name in IN_BATCHES, "the equivalent command"
    fields = fields_of(confirming(text), name, objects)
    if name == "build_txn":
        fields = {**TXN, "step": "start"}
    fields["reason"] = "a good one"
    for typed in ("", "another"):
        answer = admin.post(address(name, objects), {**fields, "confirm": typed})
        assert answer.status_code == 422, (name, answer.text[-1500:])
        assert "This is not the cluster" in answer.text
    assert not AuditRow.objects.exists()


@pytest.mark.parametrize("name", [name for name in PLANS if LADDER[name].level == 4])
@pytest.mark.usefixtures("auth_as_it_takes")
def test_level_4_takes_a_reason(name: str, admin, objects) -> None:
    fields = fields_of(confirming(shown(admin, name, objects)), name, objects)
    answer = admin.post(address(name, objects), {**fields, "confirm": "one", "reason": " "})
    assert answer.status_code == 422
    assert "A reason is needed" in answer.text
    assert not AuditRow.objects.exists()


REFUSED_WORDS = re.compile(r"permission denied|database space exceeded|PERMISSION_DENIED")
"""The alarm stands before the rights of puts (spec/kv.md L6)."""

NO_FORM = {
    # Without an object of its own here, or the cluster lets anybody, or more than one post.
    *("undo_put", "keep_alive", "snapshot_key", "restore_key", "grant_lease", "import_keys"),
    # Jobs: their steps are audited one by one (test_jobs.py, test_key_jobs.py).
    *("defragment", "defragment_all", "rewind"),
    # A check of the console stands before what the cluster would say (test_members.py).
    *("add_member", "promote_member", "move_leader", "remove_member"),
    *("enable_auth", "disable_auth"),
}
REFUSABLE = [name for name, one in LADDER.items() if one.level and name not in NO_FORM]


@pytest.mark.parametrize("name", REFUSABLE)
def test_what_the_cluster_refuses_is_shown_and_audited_as_a_refusal(
    name: str, admin, enabled, objects, production: Cluster
) -> None:
    """The page was opened by who may do it; then the connection lost the right, for real."""
    step = {"build_txn": {**TXN, "step": "start"}, "try_passwords": {}}
    if name in step:
        fields = step[name]
    else:
        page = html.unescape(shown(admin, name, objects).partition("<main")[2])
        fields = fields_of(page, name, objects)
    fields = {**fields, "confirm": "one", "reason": "a good one"}
    production.etcd_user = "lim"
    production.save()
    answer = admin.post(address(name, objects), fields)
    assert answer.status_code >= 400, (name, answer.text[-1500:])
    assert REFUSED_WORDS.search(answer.text), (name, answer.text[-1500:])
    for row in AuditRow.objects.all():
        assert row.outcome == "refused", (name, row.outcome, row.detail)
        assert row.command and row.detail, name
