"""Every page asks its cluster a bounded number of times, whatever the cluster holds
(console.md §3 trap 6). The bound is of a cluster of one member; what asks every member asks each
of them once more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import NoReverseMatch, reverse

from console.gateway import clients
from console.gateway.directory import CALLS_MAX as DIRECTORY_CALLS
from console.leases.views import PAGE_LEASES
from console.models import Cluster
from kvserver.client import Client
from kvserver.proto import auth_pb2, rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store, browser_of, make_account
from tests.console.test_access_table import ROUTES, rule_of
from tests.console.test_browser_sweep import OBJECTS
from tests.console.test_overview import sampler_forgets
from tests.support.servers import kinds, running

CALLS_MAX = 8
TREE_CALLS_MAX = 64
"""console/keys/tree.py: a listing, a level of folders, and the levels above."""
DIRECTORY_CALLS_MAX = DIRECTORY_CALLS + 10
"""etcd tells of one user or role a call; how many a page reads has a limit, and the next page goes
on where it stopped."""
MORE = {
    "keys": TREE_CALLS_MAX,
    "key": TREE_CALLS_MAX + 2,
    "key_tree": TREE_CALLS_MAX,
    "key_search": TREE_CALLS_MAX,
    "leases": PAGE_LEASES + 2,
    **dict.fromkeys(
        ("users", "roles", "etcd_role", "delete_role", "revoke_permission"), DIRECTORY_CALLS_MAX
    ),
    **dict.fromkeys(("findings", "key_access", "enable_auth"), DIRECTORY_CALLS_MAX),
    **dict.fromkeys(("permissions", "permissions_who", "grant_permission"), DIRECTORY_CALLS_MAX),
}
NOT_HERE = {"{job}", "{key_job}", "{file}", "{upload}"}
"""Addresses of jobs and snapshot files: rows and files of the console, no calls."""
STREAMED = {"export_keys", "watch_export", "save_snapshot", "download_snapshot"}
"""Downloads: as long as what they hold."""
KEYS = 300
DATA_ROOMS = {"keys", "history", "watch", "leases"}
"""Their pages say what would have done the same, with etcdctl, Python and curl."""
ASKS = {
    "/c/local/keys/search",
    "/c/local/keys/import",
    "/c/local/keys/txn",
    "/c/local/keys/rewind?prefix=/app/",
}
"""Forms about nothing yet: what follows them says it."""


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    """A cluster of this test's own: what it holds would be in the way of others."""
    with running(kinds()[-1], tmp_path) as [server]:
        client = server.client()
        yield Store(client)
        client.close()
        clients.close()


@pytest.fixture
def objects(store: Store) -> dict[str, str]:
    """Enough of everything that a page which asks once a thing would be seen."""
    for number in range(KEYS):
        revision = store.put(b"/app/many/%04d/key" % number, b"x")
    store.put(b"/app/config", b"1")
    lease = store.grant_lease(600)
    store.put(b"/app/leased", b"1", lease)
    for _ in range(60):
        store.grant_lease(600)
    write = store.client.write
    for name in ("ada", *(f"user-{number}" for number in range(30))):
        write(
            lambda s: s.auth.UserAdd,
            rpc_pb2.AuthUserAddRequest(name=name, password="p"),
            CALL_SECONDS_MAX,
        )
    for name in ("readers", *(f"role-{number}" for number in range(30))):
        write(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=name), CALL_SECONDS_MAX)
        permission = auth_pb2.Permission(permType="READ", key=b"/app/", range_end=b"/app0")
        grant = rpc_pb2.AuthRoleGrantPermissionRequest(name=name, perm=permission)
        write(lambda s: s.auth.RoleGrantPermission, grant, CALL_SECONDS_MAX)
    listed = store.client.read(
        lambda s: s.cluster.MemberList, rpc_pb2.MemberListRequest(), CALL_SECONDS_MAX
    )
    member = f"{listed.members[0].ID:x}"
    return {"revision": str(revision), "lease": f"{lease:x}", "member": member}


@pytest.fixture
def calls(monkeypatch) -> Iterator[list[str]]:
    made: list[str] = []
    real_call, real_begin, real_stream = Client._call, Client._begin, Client.stream

    def call(self, endpoint, pick, request, *rest):
        made.append(type(request).__name__)
        return real_call(self, endpoint, pick, request, *rest)

    def begin(self, endpoint, pick, request, *rest):
        made.append(type(request).__name__)
        return real_begin(self, endpoint, pick, request, *rest)

    def stream(self, *rest, **named):
        made.append("stream")
        return real_stream(self, *rest, **named)

    monkeypatch.setattr(Client, "_call", call)
    monkeypatch.setattr(Client, "_begin", begin)
    monkeypatch.setattr(Client, "stream", stream)
    yield made


def addresses() -> Iterator[tuple[str, str]]:
    for name in ROUTES:
        if "GET" not in rule_of(name).methods or name in STREAMED:
            continue
        if name in OBJECTS:
            yield from ((name, address) for address in OBJECTS[name])
            continue
        try:
            yield name, reverse(name, args=["local"])
        except NoReverseMatch:
            continue  # no page of a cluster


def test_every_page_is_a_bounded_number_of_calls(db, store, objects, calls) -> None:
    endpoint = str(store.client.config.endpoints[0])
    Cluster.objects.create(slug="local", name="local", endpoints=endpoint)
    browser = browser_of(make_account("root"))
    seen = {}
    for name, address in addresses():
        if any(part in address for part in NOT_HERE) or "/c/local" not in address:
            continue
        sampler_forgets()
        calls.clear()
        answer = browser.get(address.format(**objects))
        assert answer.status_code < 500, address
        seen[address] = len(calls)
        room = ROUTES[name].callback.__module__.split(".")[1]
        is_page = not answer.streaming and "<!doctype html" in answer.text[:100]
        if room in DATA_ROOMS and is_page and answer.status_code == 200 and address not in ASKS:
            assert '<details class="command">' in answer.text, address
        assert len(calls) <= MORE.get(name, CALLS_MAX), (address, calls)
    assert len(seen) > 40
