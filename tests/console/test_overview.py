"""The overview against real members, alive and dead (console.md §3 traps 9, 14 and 15)."""

from __future__ import annotations

import html
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.gateway import clients, lens
from console.gateway import looks as looking
from console.gateway import reader as reading
from console.gateway.lens import LENS_SECONDS_MAX
from console.gateway.wire import STATUS_SECONDS
from console.models import AuditRow, Cluster
from console.overview import sampler as sampling
from console.overview.sampler import Sampler
from console.roles import Role
from kvserver.client import Client, ClientConfig
from tests.console.conftest import CALL_SECONDS_MAX, Store, browser_of, make_account
from tests.console.leading import lead, wait_level
from tests.support.servers import Server, cluster_kinds, free_ports, running

ON_EVERY_SERVER = True


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


def cell(text: str, label: str) -> list[str]:
    return [
        plain(found) for found in re.findall(rf'data-label="{label}">(.*?)</t[dh]>', text, re.S)
    ]


def test_one_healthy_member(as_viewer, store) -> None:
    text = as_viewer.get(reverse("overview", args=["one"])).text
    assert "1 of 1 healthy" in plain(text)
    assert "Leader m0, term" in plain(text)
    assert "No alarms." in plain(text)


def test_trap_14_the_revision_is_a_members_own_not_the_member_lists(as_viewer, store, prefix):
    revision = store.put(prefix, b"v")
    text = as_viewer.get(reverse("overview_live", args=["one"])).text
    assert revision > 0
    assert cell(text, "Revision") == [str(revision)]


def test_trap_3_the_member_id_is_whole_and_hexadecimal(as_viewer, store) -> None:
    from kvserver.proto import rpc_pb2

    answer = store.client.read(
        lambda s: s.cluster.MemberList, rpc_pb2.MemberListRequest(), CALL_SECONDS_MAX
    )
    text = as_viewer.get(reverse("overview", args=["one"])).text
    assert cell(text, "ID") == [f"{answer.members[0].ID:x}"]


def test_the_poll_gives_the_partial_of_the_page(as_viewer) -> None:
    page = as_viewer.get(reverse("overview", args=["one"])).text
    part = as_viewer.get(reverse("overview_live", args=["one"])).text
    assert 'id="health-sentence"' in part
    assert "<html" not in part
    assert re.findall(r'id="([^"]*)"', part) == [
        name for name in re.findall(r'id="([^"]*)"', page) if f'id="{name}"' in part
    ]


def test_a_dead_first_endpoint_is_passed_over(cluster: Cluster, server: Server, prefix) -> None:
    """Trap 15: the console stays usable, reads and writes."""
    [dead] = free_ports(1)
    cluster.endpoints = f"http://127.0.0.1:{dead}\n{server.client_url}"
    cluster.save()
    browser = browser_of(make_account("eddie", cluster, Role.EDITOR))
    assert "1 of 1 healthy" in browser.get(reverse("overview", args=["one"])).text
    assert browser.get(reverse("keys", args=["one"])).status_code == 200
    fields = {"key": prefix.decode(), "value": "v"}
    assert browser.post(reverse("new_key", args=["one"]), fields).status_code == 302


@pytest.fixture
def dead_cluster(db) -> Cluster:
    first, second = free_ports(2)
    endpoints = f"http://127.0.0.1:{first}\nhttp://127.0.0.1:{second}"
    return Cluster.objects.create(slug="dead", name="dead", endpoints=endpoints)


def test_trap_15_nobody_answers_and_the_page_says_so(dead_cluster: Cluster) -> None:
    browser = browser_of(make_account("eddie", dead_cluster, Role.EDITOR))
    overview = browser.get(reverse("overview", args=["dead"]))
    assert overview.status_code == 200
    assert "No member answers." in plain(overview.text)
    assert cell(overview.text, "Member") == dead_cluster.endpoint_list
    keys = browser.get(reverse("keys", args=["dead"]))
    assert keys.status_code == 503
    assert "UNAVAILABLE" in keys.text
    assert "Reading a page of 100 keys" in keys.text
    assert ">Retry<" in keys.text


def test_a_write_that_was_never_sent_is_known_not_to_have_happened(dead_cluster) -> None:
    browser = browser_of(make_account("eddie", dead_cluster, Role.EDITOR))
    answer = browser.post(reverse("new_key", args=["dead"]), {"key": "k", "value": "v"})
    assert answer.status_code == 503
    assert "Nothing was changed." in answer.text
    assert AuditRow.objects.get().outcome == "failed"


@pytest.fixture(scope="module", params=cluster_kinds())
def three(request, tmp_path_factory) -> Iterator[list[Server]]:
    with running(request.param, tmp_path_factory.mktemp("three"), size=3) as servers:
        yield servers
        clients.close()


def three_browser(three: list[Server]) -> Browser:
    endpoints = "\n".join(server.client_url for server in three)
    cluster = Cluster.objects.create(slug="three", name="three", endpoints=endpoints)
    return browser_of(make_account("vera", cluster, Role.VIEWER))


def test_trap_9_every_member_is_asked_and_a_dead_one_is_a_row(db, three: list[Server]) -> None:
    lead(three, three[0])  # who dies is not who leads
    browser = three_browser(three)
    text = browser.get(reverse("overview", args=["three"])).text
    assert "3 of 3 healthy" in plain(text)
    assert cell(text, "Applied lag") == ["0", "0", "0"]
    three[2].kill()
    sampler_forgets()
    text = browser.get(reverse("overview", args=["three"])).text
    assert "2 of 3 healthy" in plain(text)
    assert "m2 does not answer (connection refused). One more failure and writes stop." in plain(
        text
    )
    states = dict(zip(cell(text, "Member"), cell(text, "State"), strict=True))
    [dead] = [state for name, state in states.items() if name.startswith("m2")]
    assert dead == "unreachable"
    three[1].kill()
    sampler_forgets()
    text = browser.get(reverse("overview", args=["three"])).text
    assert "1 of the 2 voters a quorum needs answer." in plain(text)
    for server in three[1:]:
        server.start()
    wait_level(three)


def sampler_forgets() -> None:
    """The next look asks anew, without waiting for the shared answer to age."""
    from console.overview.sampler import sampler

    sampler._slots.clear()


DATA_PAGES = (
    "keys?prefix=/app/",
    "key?key=/app/a",
    "keys/search?q=a",
    "key/history?key=/app/a",
    "history",
    "history?show=deleted",
    "revision/2",
    "watch",
    "leases",
    "key/edit?key=/app/a",
    "keys/delete?prefix=/app/",
    "keys/rewind?prefix=/app/&to={revision}",
    "keys/export?prefix=/app/",
    "go?q=/app/",
)


@pytest.fixture
def silence(patience, monkeypatch) -> None:
    """A member that stands still is found out as soon as it is for people."""
    for module in (looking, reading):
        monkeypatch.setattr(module, "STATUS_SECONDS", STATUS_SECONDS)
    monkeypatch.setattr(lens, "LENS_SECONDS_MAX", LENS_SECONDS_MAX)


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_page_waits_for_a_member_that_stands_still(
    db, three: list[Server], number: int, monkeypatch
) -> None:
    """SIGSTOP: every connection stays open and nobody answers. The leader is one of them."""
    monkeypatch.setattr("console.gateway.reader.READ_SECONDS", 60.0)
    ends: list[grpc.StatusCode] = []
    begin = Client._begin

    def noted(*args):
        call = begin(*args)
        call.add_done_callback(lambda ended: ends.append(ended.code()))
        return call

    monkeypatch.setattr(Client, "_begin", noted)
    wait_level(three)  # the one of before has woken up
    endpoints = "\n".join(server.client_url for server in (*three[number:], *three[:number]))
    cluster = Cluster.objects.create(slug="three", name="three", endpoints=endpoints)
    browser = browser_of(make_account("eddie", cluster, Role.EDITOR))
    client = Client(ClientConfig(tuple(server.endpoint for server in three)))
    revision = Store(client).put(b"/app/a", b"v")
    client.close()
    assert browser.get("/c/three/keys").status_code == 200  # connected to all that is there
    process = three[number].process
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for page in DATA_PAGES:
            answer = browser.get(f"/c/three/{page.format(revision=revision)}")
            assert answer.status_code == 200, page
            if answer.streaming:
                assert b"/app/a" in b"".join(answer.streaming_content)
        assert grpc.StatusCode.DEADLINE_EXCEEDED not in ends
    finally:
        os.kill(process.pid, signal.SIGCONT)
        clients.close()


def test_every_page_of_a_dead_cluster_says_so(dead_cluster: Cluster) -> None:
    browser = browser_of(make_account("eddie", dead_cluster, Role.EDITOR))
    for page in DATA_PAGES:
        answer = browser.get(f"/c/dead/{page.format(revision=2)}")
        text = plain(answer.text)
        is_found = answer.status_code == 503 and "The cluster does not answer" in text
        # The palette leads elsewhere, also from a cluster that is gone.
        assert is_found or page.startswith("go"), page


OPERATIONS_PAGES = (
    "overview",
    "overview_live",
    "over_time",
    "members",
    "members_live",
    "add_member",
    "replace_member",
    "maintenance",
    "maintenance_live",
    "defragment_all",
    "compact",
    "hashes",
    "lens",
    "sizes",
    "snapshots",
    "users",
    "roles",
    "permissions",
    "permissions_who",
    "findings",
    "own_access",
    "key_access",
    "enable_auth",
)
ASKED = {"add_member": "?peer_urls=http://h:1"}
ASKED |= {"lens": "?key=/app/a", "key_access": "?key=/app/a", "permissions_who": "?shape=all"}
WITH_ROWS = {"members", "members_live", "maintenance", "maintenance_live", "overview_live"}


def operations_page(browser: Browser, name: str, slug: str):
    sampler_forgets()
    return browser.get(reverse(name, args=[slug]) + ASKED.get(name, ""))


@pytest.mark.usefixtures("silence")
def test_operations_pages_wait_once_for_a_member_that_stands_still(
    db, three: list[Server], monkeypatch
) -> None:
    """It is a row like the others, with what it said last; one page pays for finding out."""
    monkeypatch.setattr("console.gateway.reader.READ_SECONDS", 60.0)
    waits: list[str] = []
    ask = looking._ask

    def noted(client, asked):
        if threading.current_thread().name.startswith("silent"):
            return ask(client, asked)  # beside the page, which waits a moment at most
        waits.extend(str(one) for one in asked if one == three[2].endpoint)
        return ask(client, asked)

    monkeypatch.setattr(looking, "_ask", noted)
    lead(three, three[0])  # who stands still is not who leads
    three_browser(three)
    browser = browser_of(make_account("root"))
    assert "3 of 3 healthy" in operations_page(browser, "members", "three").text
    process = three[2].process
    assert process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        waits.clear()
        for name in OPERATIONS_PAGES:
            answer = operations_page(browser, name, "three")
            assert answer.status_code == 200, name
            if name in WITH_ROWS:
                assert "m2 does not answer" in plain(answer.text), name
                assert "unreachable" in answer.text, name
        assert waits == [str(three[2].endpoint)]
    finally:
        os.kill(process.pid, signal.SIGCONT)
        clients.close()


def test_operations_pages_of_a_dead_cluster_say_so(dead_cluster: Cluster) -> None:
    browser = browser_of(make_account("root"))
    for name in OPERATIONS_PAGES:
        answer = operations_page(browser, name, "dead")
        text = plain(answer.text)
        says = any(w in text for w in ("does not answer", "No member", "unreachable"))
        says = says or "not met: There is a leader" in text
        says_elsewhere = name in {"over_time", "sizes"}  # the console's own memory
        assert answer.status_code in {200, 503}, name
        assert says or says_elsewhere, (name, text[-500:])


def test_without_a_leader_pages_say_so_at_once(as_admin, monkeypatch) -> None:
    """What takes a quorum would wait for one until its time is over."""
    taken = sampling.Sampler._take

    def leaderless(self, cluster, slot):
        found = taken(self, cluster, slot)
        return replace(found, health=replace(found.health, leader=None))

    monkeypatch.setattr(sampling.Sampler, "_take", leaderless)
    for name in ("users", "roles", "findings", "own_access", "compact"):
        answer = operations_page(as_admin, name, "one")
        assert answer.status_code == 503, name
        assert "The cluster has no leader" in answer.text


def test_many_lookers_share_one_fan_out(cluster: Cluster, monkeypatch) -> None:
    from console.overview import sampler as module

    asked = []
    monkeypatch.setattr(module.Reader, "members", lambda self: asked.append(1) or ([], None))
    sampler = Sampler()
    for _ in range(20):
        sampler.snapshot(cluster)
    assert len(asked) == 1
    cluster.save()  # an edited connection is another one
    sampler.snapshot(cluster)
    assert len(asked) == 2


def test_alarms_are_shown_from_status(as_viewer, store) -> None:
    """spec/maintenance.md §3: Status tells of alarms; Alarm GET would write to the raft log."""
    from kvserver.proto import rpc_pb2

    def alarm(action: int) -> None:
        request = rpc_pb2.AlarmRequest(action=action, memberID=77, alarm=rpc_pb2.NOSPACE)
        store.client.write(lambda s: s.maintenance.Alarm, request, CALL_SECONDS_MAX)

    alarm(rpc_pb2.AlarmRequest.ACTIVATE)
    try:
        sampler_forgets()
        text = as_viewer.get(reverse("overview", args=["one"])).text
    finally:
        alarm(rpc_pb2.AlarmRequest.DEACTIVATE)
    assert "NOSPACE on 4d: writes are refused" in plain(text)


def test_members_that_take_long_leave_the_page_its_shape(as_viewer, cluster, monkeypatch) -> None:
    """Trap 15: the page does not wait for a member that says nothing."""
    answered = threading.Event()
    asked = sampling.Reader.members
    monkeypatch.setattr(sampling.Reader, "members", lambda self: answered.wait(60) and asked(self))
    monkeypatch.setattr("console.overview.views.PATIENCE_SECONDS", 0.01)
    sampling.sampler.forget(cluster)
    try:
        text = as_viewer.get(reverse("overview", args=["one"])).text
    finally:
        answered.set()
    assert "The members are being asked" in text
    assert cluster.endpoints in text
    for region in ("health-sentence", "figures", "member-rows"):
        assert f'id="{region}"' in text  # what the socket fills
    assert "1 of 1 healthy" in as_viewer.get(reverse("overview_live", args=["one"])).text
