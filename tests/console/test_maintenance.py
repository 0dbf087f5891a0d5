"""Defragmentation by point and click, against real members (spec/maintenance.md §4)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.gateway import clients
from console.maintenance import work
from console.models import Account, AuditRow, Cluster, Job
from console.roles import Role
from kvserver.client import Client
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store, browser_of, make_account
from tests.console.leading import wait_level
from tests.console.test_overview import cell, plain, sampler_forgets
from tests.support.servers import Server, cluster_kinds, running
from tests.support.servers_proc import wait_until

ON_EVERY_SERVER = True
SECONDS_MAX = 60


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    """Jobs are worked off before the response; threads have tests of their own in the browser."""
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))
    sampler_forgets()


@pytest.fixture
def operator(cluster: Cluster) -> Account:
    return make_account("olga", cluster, Role.OPERATOR)


@pytest.fixture
def as_operator(operator: Account) -> Browser:
    return browser_of(operator)


def member_ids(store: Store) -> list[str]:
    answer = store.client.read(
        lambda s: s.cluster.MemberList, rpc_pb2.MemberListRequest(), CALL_SECONDS_MAX
    )
    return [f"{member.ID:x}" for member in answer.members]


def fill_and_free(store: Store) -> None:
    """spec/maintenance.md case 14: a database with free pages."""
    for i in range(60):
        store.put(b"/fill/%d" % i, bytes(16_000))
    for i in range(60):
        revision = store.delete(b"/fill/%d" % i)
    request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
    store.client.write(lambda s: s.kv.Compact, request, CALL_SECONDS_MAX)
    for i in range(3):  # what was freed counts as free once later commits have passed
        store.put(b"/fill/after", b"%d" % i)


def test_every_member_with_its_sizes(as_operator, store: Store) -> None:
    text = as_operator.get(reverse("maintenance", args=["one"])).text
    assert cell(text, "Member") == ["m0 leader"]
    assert cell(text, "Alarms") == ["none"]
    assert re.search(r"\d+ %", cell(text, "Fragmentation")[0])
    assert f"member={member_ids(store)[0]}" in text


def test_opening_the_plan_changes_nothing_and_names_the_command(as_operator, store, server) -> None:
    before = store.raft_index()
    url = reverse("defragment", args=["one"]) + f"?member={member_ids(store)[0]}"
    answer = as_operator.get(url)
    assert answer.status_code == 200
    assert f"etcdctl --endpoints={server.client_url} defrag" in answer.text
    assert "the whole cluster stands still until it is done" in plain(answer.text)
    assert "autofocus>Cancel</a>" in answer.text
    assert not Job.objects.exists()
    assert store.raft_index() == before


def test_one_member_is_defragmented_with_sizes_before_and_after(as_operator, store) -> None:
    fill_and_free(store)
    [member] = member_ids(store)
    revision = store.revision()
    form = {"member": member, "step": "start"}
    answer = as_operator.post(reverse("defragment", args=["one"]), form)
    job = Job.objects.get()
    assert answer.headers["Location"] == reverse("job", args=["one", job.pk])
    assert (job.state, job.account_name, job.kind) == ("done", "olga", "defragment")
    [step] = job.steps
    assert step["state"] == "done"
    assert step["after"][0] < step["before"][0]
    assert store.revision() == revision  # D1
    row = AuditRow.objects.get(action="defragment member")
    assert (row.outcome, row.account_name, row.target) == ("done", "olga", "m0")
    assert row.command.endswith(" defrag")
    text = as_operator.get(answer.headers["Location"]).text
    assert cell(text, "State") == ["done"]
    assert "1 of 1 member" in plain(text)


def test_production_wants_the_clusters_name(as_operator, cluster: Cluster, store) -> None:
    cluster.environment = "production"
    cluster.save()
    form = {"member": member_ids(store)[0], "step": "start", "confirm": "two"}
    for name in ("defragment", "defragment_all"):
        answer = as_operator.post(reverse(name, args=["one"]), form)
        assert answer.status_code == 422
        assert "This is not the cluster&#x27;s name: nothing was done." in answer.text
    assert not Job.objects.exists()
    answer = as_operator.post(reverse("defragment", args=["one"]), form | {"confirm": "one"})
    assert answer.status_code == 302


def test_a_member_that_is_not_there_is_no_address(as_operator) -> None:
    for member in ("", "77", "<script>"):
        answer = as_operator.get(reverse("defragment", args=["one"]) + f"?member={member}")
        assert answer.status_code == 400


def test_all_members_below_the_threshold_are_skipped(as_operator, store) -> None:
    form = {"step": "start", "threshold": "100"}
    as_operator.post(reverse("defragment_all", args=["one"]), form)
    job = Job.objects.get()
    assert job.state == "done"
    assert [step["state"] for step in job.steps] == ["skipped"]
    assert "below 100 %" in job.steps[0]["detail"]
    assert not AuditRow.objects.exists()  # nothing was written, so nothing is claimed


@pytest.mark.parametrize("text", ["-1", "101", "many", "²"])
def test_a_threshold_is_a_percentage(as_operator, text: str) -> None:
    form = {"step": "start", "threshold": text}
    assert as_operator.post(reverse("defragment_all", args=["one"]), form).status_code == 422
    assert not Job.objects.exists()


def test_hashes_of_one_member(as_operator, store) -> None:
    text = as_operator.get(reverse("hashes", args=["one"])).text
    assert "One member: there is nothing to compare it with." in plain(text)


def wait_until_free(client: Client, servers: list[Server]) -> None:
    """Until every member has worked off the compaction itself: followers do so later."""

    def is_free() -> bool:
        Store(client).put(b"/fill/after", b"again")  # pages count as free after a later commit
        asked = client.fan_out(
            [server.endpoint for server in servers],
            lambda s: s.maintenance.Status,
            rpc_pb2.StatusRequest(),
            5,
        )
        said = [answer.response for answer in asked]
        return all(one and one.dbSizeInUse < one.dbSize // 2 for one in said)

    wait_until(is_free, SECONDS_MAX, "every member has free pages")


@pytest.fixture(scope="module", params=cluster_kinds())
def three(request, tmp_path_factory) -> Iterator[list[Server]]:
    with running(request.param, tmp_path_factory.mktemp("rolling"), size=3) as servers:
        wait_level(servers)
        yield servers
        clients.close()


@pytest.fixture
def as_operator_of_three(db, three: list[Server]) -> Browser:
    endpoints = "\n".join(server.client_url for server in three)
    cluster = Cluster.objects.create(slug="three", name="three", endpoints=endpoints)
    return browser_of(make_account("olga", cluster, Role.OPERATOR))


def test_trap_9_three_members_one_after_the_other_the_leader_last(as_operator_of_three, three):
    client = three[0].client()
    fill_and_free(Store(client))
    wait_until_free(client, three)
    wait_level(three)
    status = client.read(lambda s: s.maintenance.Status, rpc_pb2.StatusRequest(), CALL_SECONDS_MAX)
    client.close()
    url = reverse("defragment_all", args=["three"])
    assert "3 of 3 members fragmented enough" in plain(as_operator_of_three.get(url).text)
    answer = as_operator_of_three.post(url, {"step": "start", "threshold": "20"})
    job = Job.objects.get()
    assert (job.state, job.detail) == ("done", "")
    assert [step["state"] for step in job.steps] == ["done"] * 3
    assert job.steps[-1]["id"] == f"{status.leader:x}"
    assert all(step["after"][0] < step["before"][0] for step in job.steps)
    rows = AuditRow.objects.filter(action="defragment member").order_by("id")
    assert [row.target for row in rows] == [step["member"] for step in job.steps]
    assert AuditRow.objects.get(action="move leader").outcome == "done"
    text = as_operator_of_three.get(answer.headers["Location"]).text
    assert "3 of 3 members" in plain(text)


def test_one_member_of_three_leaves_the_others_alone(as_operator_of_three, three) -> None:
    client = three[0].client()
    fill_and_free(Store(client))
    wait_until_free(client, three)
    ids = member_ids(Store(client))

    def sizes() -> list[int]:
        endpoints = [server.endpoint for server in three]
        asked = client.fan_out(
            endpoints, lambda s: s.maintenance.Status, rpc_pb2.StatusRequest(), 5
        )
        return [answer.response.dbSize for answer in asked]

    before = sizes()
    page = as_operator_of_three.get(reverse("maintenance", args=["three"])).text
    assert len(cell(page, "Database")) == 3
    as_operator_of_three.post(
        reverse("defragment", args=["three"]), {"member": ids[0], "step": "start"}
    )
    after = sizes()
    client.close()
    assert sum(1 for old, new in zip(before, after, strict=True) if new < old) == 1


def test_three_members_hold_the_same_data(as_operator_of_three) -> None:
    text = as_operator_of_three.get(reverse("hashes", args=["three"])).text
    assert "All 3 members hold the same data." in plain(text)
