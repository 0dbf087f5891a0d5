"""Fixtures of the console's tests: a real cluster, a connection to it, people with roles."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.test import Client as Browser
from hypothesis import HealthCheck
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import sync_playwright

from console.gateway import clients
from console.models import Account, Cluster, ClusterGrant
from console.roles import Role
from kvserver.client import Client
from kvserver.proto import rpc_pb2
from tests.console.browser import Visit, launch, sign_in, visit
from tests.console.serving import Served
from tests.support.servers import Server, kinds, running

CALL_SECONDS_MAX = 30.0
BOUNDS = (
    "gateway.events.HISTORY_SECONDS",
    "gateway.lens.LENS_SECONDS_MAX",
    "gateway.looks.STATUS_SECONDS",
    "gateway.reader.READ_SECONDS",
    "gateway.reader.STATUS_SECONDS",
    "gateway.writer.WRITE_SECONDS",
    "keys.views_tree.LEVEL_SECONDS_MAX",
    "maintenance.views_compact.PREVIEW_SECONDS",
    "overview.sampler.LEADER_SECONDS",
    "overview.views.PATIENCE_SECONDS",
    "users.own.COUNT_SECONDS_MAX",
)
"""For how long at most a page asks before it says that it could not."""

SLOW_MACHINE = [HealthCheck.too_slow]
"""For `settings` of hypothesis: how fast examples are made says something of the machine only."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Modules that say ON_EVERY_SERVER run against each kind, the others against one: what they
    test is the console's own."""
    if "server" in metafunc.fixturenames:
        wanted = kinds() if getattr(metafunc.module, "ON_EVERY_SERVER", False) else kinds()[-1:]
        metafunc.parametrize("server", wanted, indirect=True, scope="session")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """One member of each kind that is asked for, kept: modules take turns with them."""
    with ExitStack() as until_the_end:

        @cache
        def of_kind(kind: str) -> Server:
            directory = tmp_path_factory.mktemp(kind)
            [one] = until_the_end.enter_context(running(kind, directory))
            return one

        yield of_kind


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Iterator[Server]:
    """One member, real etcd or Keydeck."""
    yield servers(request.param)
    clients.close()


@pytest.fixture(scope="session")
def store(server: Server) -> Iterator[Store]:
    client = server.client()
    yield Store(client)
    client.close()


class QuickArgon2(Argon2PasswordHasher):
    """With the least work there is."""

    time_cost = 1
    memory_cost = 8
    parallelism = 1


@pytest.fixture(autouse=True)
def quick(settings) -> None:
    """What costs a served console once is paid by each test and each of its browsers: the work
    against guessing, and a look at every static file. Served consoles have it as it is."""
    settings.PASSWORD_HASHERS = ["tests.console.conftest.QuickArgon2"]
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: a page under test shows what its cluster says."""
    for bound in BOUNDS:
        monkeypatch.setattr(f"console.{bound}", CALL_SECONDS_MAX)


@pytest.fixture
def prefix() -> bytes:
    """A part of the keyspace that is this test's own."""
    return f"/t/{uuid.uuid4().hex[:12]}/".encode()


@pytest.fixture
def cluster(db: None, server: Server) -> Cluster:
    return Cluster.objects.create(slug="one", name="one", endpoints=server.client_url)


def make_account(name: str, cluster: Cluster | None = None, role: Role | None = None) -> Account:
    account = Account(username=name, is_admin=role is None and name == "root")
    account.set_unusable_password()  # hashing is tested where people sign in
    account.save()
    if cluster and role:
        ClusterGrant.objects.create(account=account, cluster=cluster, role=role)
    return account


def browser_of(account: Account | None) -> Browser:
    browser = Browser()
    if account:
        browser.force_login(account)
    return browser


@pytest.fixture
def as_viewer(cluster: Cluster) -> Browser:
    return browser_of(make_account("vera", cluster, Role.VIEWER))


@pytest.fixture
def as_editor(cluster: Cluster) -> Browser:
    return browser_of(make_account("eddie", cluster, Role.EDITOR))


@pytest.fixture
def as_admin(cluster: Cluster) -> Browser:
    return browser_of(make_account("root"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """For a module at a time: while Playwright is there a loop runs in this thread, where tests
    of asyncio could not have theirs."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Chromium, served: Served) -> dict[str, object]:
    """What an admin's browser holds. `served` is the module's own console."""
    return sign_in(chromium, served.base, served.password or "")


@pytest.fixture
def at(chromium: Chromium, served: Served, signed_in: dict[str, object]) -> Iterator[Visit]:
    """A page that nothing may be complained of on."""
    with visit(chromium, served.base, storage_state=signed_in) as one:
        yield one
        one.assert_quiet()


class Store:
    """The cluster behind the console's back: what somebody else does to it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        request = rpc_pb2.PutRequest(key=key, value=value, lease=lease)
        return self.client.write(lambda s: s.kv.Put, request, CALL_SECONDS_MAX).header.revision

    def put_all(self, pairs: dict[bytes, bytes]) -> int:
        """In one txn."""
        puts = [rpc_pb2.PutRequest(key=key, value=value) for key, value in pairs.items()]
        request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put) for put in puts])
        return self.client.write(lambda s: s.kv.Txn, request, CALL_SECONDS_MAX).header.revision

    def delete(self, key: bytes) -> int:
        request = rpc_pb2.DeleteRangeRequest(key=key)
        return self.client.write(
            lambda s: s.kv.DeleteRange, request, CALL_SECONDS_MAX
        ).header.revision

    def get(self, key: bytes):
        answer = self.client.read(
            lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=key), CALL_SECONDS_MAX
        )
        return answer.kvs[0] if answer.kvs else None

    def revision(self) -> int:
        request = rpc_pb2.RangeRequest(key=b"?", count_only=True)
        return self.client.read(lambda s: s.kv.Range, request, CALL_SECONDS_MAX).header.revision

    def raft_index(self) -> int:
        return self.client.read(
            lambda s: s.maintenance.Status, rpc_pb2.StatusRequest(), CALL_SECONDS_MAX
        ).raftIndex

    def grant_lease(self, seconds: int, lease_id: int = 0) -> int:
        request = rpc_pb2.LeaseGrantRequest(TTL=seconds, ID=lease_id)
        return self.client.write(lambda s: s.lease.LeaseGrant, request, CALL_SECONDS_MAX).ID

    def compact(self, revision: int) -> None:
        self.client.write(
            lambda s: s.kv.Compact, rpc_pb2.CompactionRequest(revision=revision), CALL_SECONDS_MAX
        )
