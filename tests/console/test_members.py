"""Members by point and click, on clusters of three (spec/cluster.md §3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.gateway import FateUnknown, clients
from console.models import AuditRow, Cluster
from console.roles import Role
from kvserver.client import CallFailed
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, browser_of, make_account
from tests.console.leading import wait_level
from tests.console.test_overview import plain, sampler_forgets
from tests.support.servers import Server, cluster_kinds, command, free_ports, running
from tests.support.servers_proc import wait_until

SECONDS_MAX = 60


@pytest.fixture(scope="module", params=cluster_kinds())
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(kind: str, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp(kind)


@pytest.fixture(scope="module")
def three(kind: str, base: Path) -> Iterator[list[Server]]:
    with running(kind, base, size=3) as servers:
        wait_level(servers)
        yield servers
        clients.close()


@pytest.fixture(scope="module")
def settled(three: list[Server]) -> None:
    """Links between members count as healthy some seconds after they came up: before that every
    change is refused (spec/cluster.md §3.6)."""
    client = three[0].client()
    urls = [f"http://127.0.0.1:{free_ports(1)[0]}"]

    def accepts() -> bool:
        request = rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=True)
        try:
            added = client.write(lambda s: s.cluster.MemberAdd, request, CALL_SECONDS_MAX).member
        except CallFailed as error:
            assert error.message == "etcdserver: unhealthy cluster"
            return False
        remove = rpc_pb2.MemberRemoveRequest(ID=added.ID)
        client.write(lambda s: s.cluster.MemberRemove, remove, CALL_SECONDS_MAX)
        return True

    wait_until(accepts, SECONDS_MAX, "the members know each other well")
    client.close()


@pytest.fixture(autouse=True)
def fresh_looks() -> None:
    sampler_forgets()


@pytest.fixture
def cluster(db, three: list[Server]) -> Cluster:
    endpoints = "\n".join(server.client_url for server in three)
    return Cluster.objects.create(slug="three", name="three", endpoints=endpoints)


@pytest.fixture
def as_operator(cluster: Cluster) -> Browser:
    return browser_of(make_account("olga", cluster, Role.OPERATOR))


def page(name: str, /, **query: str) -> str:
    url = reverse(name, args=["three"])
    return url + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


def ids(three: list[Server]) -> dict[str, str]:
    """Hexadecimal ids by name; of a member without a name, by its first peer URL."""
    client = three[0].client()
    request = rpc_pb2.MemberListRequest()
    answer = client.read(lambda s: s.cluster.MemberList, request, SECONDS_MAX)
    client.close()
    return {m.name or m.peerURLs[0]: f"{m.ID:x}" for m in answer.members}


def leader_name(three: list[Server]) -> str:
    return wait_level(three).name


def insist(browser: Browser, address: str, page: str, fields: dict[str, str]):
    """The page's form, sent until the cluster takes it: a link between members that broke off for
    a moment counts as unhealthy for some seconds (spec/cluster.md §3.6)."""
    answers: list = []

    def is_taken() -> bool:
        sampler_forgets()
        form = browser.get(page).text
        hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        answers.append(browser.post(address, {**hidden, **fields}))
        if answers[-1].status_code != 302:
            assert "unhealthy cluster" in answers[-1].text, plain(answers[-1].text)
        return answers[-1].status_code == 302

    wait_until(is_taken, SECONDS_MAX, f"{address} is taken")
    return answers[-1]


def audit() -> list[tuple[str, str]]:
    return list(AuditRow.objects.order_by("id").values_list("action", "outcome"))


def test_the_list_says_who_is_who(as_operator, three) -> None:
    text = plain(as_operator.get(page("members")).text)
    assert "3 voters, 3 answer" in text
    assert "the next failure is survived, and the one after it stops writes" in text
    for server in three:
        assert server.peer_url in text and server.client_url in text


def test_a_viewer_sees_and_may_not_act(cluster, three) -> None:
    viewer = browser_of(make_account("vera", cluster, Role.VIEWER))
    text = viewer.get(page("members")).text
    assert "remove…" not in text and "This needs the role operator" in text
    assert viewer.get(page("add_member")).status_code == 403


def test_leadership_moves_and_moves_back(as_operator, three) -> None:
    before = leader_name(three)
    target = next(name for name in ids(three) if name != before)
    url = page("move_leader", member=ids(three)[target])
    shown = as_operator.get(url)
    assert f"Make {target} the leader?" in plain(shown.text)
    assert f"move-leader {ids(three)[target]}" in shown.text
    answer = as_operator.post(page("move_leader"), {"member": ids(three)[target]})
    assert answer.headers["Location"] == page("members")
    wait_until(lambda: leader_name(three) == target, SECONDS_MAX, "the new leader")
    assert audit() == [("move leader", "done")]
    sampler_forgets()
    again = as_operator.post(page("move_leader"), {"member": ids(three)[target]})
    assert again.status_code == 422 and f"{target} does not lead yet" in plain(again.text)


@pytest.mark.usefixtures("settled")
def test_a_member_is_added_started_promoted_and_removed(
    as_operator, three, kind: str, base: Path
) -> None:
    """The whole life of a fourth member, and every page on the way."""
    client_port, peer_port = free_ports(2)
    peer, url = f"http://127.0.0.1:{peer_port}", f"http://127.0.0.1:{client_port}"
    asked = as_operator.get(page("add_member", name="m9", peer_urls=peer))
    assert "Add m9 to three?" in plain(asked.text)
    assert f"member add m9 --peer-urls={peer} --learner" in asked.text
    answer = as_operator.post(page("add_member"), {"name": "m9", "peer_urls": peer})
    assert answer.status_code == 302, plain(answer.text)
    number = ids(three)[peer]
    start = as_operator.get(answer.headers["Location"]).text
    cluster_flag = re.search(r"--initial-cluster=(\S+)", start)
    assert cluster_flag and f"m9={peer}" in cluster_flag[1]
    # Not started: nothing else may be added, and it cannot be promoted.
    second = as_operator.post(page("add_member"), {"peer_urls": "http://127.0.0.1:1"})
    assert second.status_code == 422 and "has not started" in plain(second.text)
    early = as_operator.post(page("promote_member"), {"member": number})
    assert early.status_code == 422
    line = [
        *command(kind, "m9", base, url, peer, cluster_flag[1]),
        "--initial-cluster-state=existing",
    ]
    fourth = Server("m9", url, peer, base, line)
    fourth.start()
    try:

        def may_be_promoted() -> bool:
            sampler_forgets()
            shown = as_operator.get(page("promote_member", member=number))
            return shown.status_code == 200 and "A check is not met" not in shown.text

        wait_until(may_be_promoted, SECONDS_MAX, "the learner has caught up")
        assert as_operator.post(page("promote_member"), {"member": number}).status_code == 302
        sampler_forgets()
        assert "4 voters, 4 answer" in plain(as_operator.get(page("members")).text)
        moved = f"http://127.0.0.1:{free_ports(1)[0]}"
        changed = as_operator.post(
            page("update_member"), {"member": number, "peer_urls": f"{peer}\n{moved}"}
        )
        assert changed.status_code == 302
        sampler_forgets()
        without = as_operator.post(page("remove_member"), {"member": number})
        assert without.status_code == 422 and "A reason is needed" in without.text
        gone = as_operator.post(
            page("remove_member"), {"member": number, "reason": "the test is over"}
        )
        assert gone.status_code == 302
        assert number not in ids(three).values()
    finally:
        fourth.stop()
    assert audit() == [
        ("add member as learner", "done"),
        ("promote member", "done"),
        ("update member", "done"),
        ("remove member", "done"),
    ]
    assert AuditRow.objects.get(action="remove member").detail == "reason: the test is over"


@pytest.mark.usefixtures("settled")
def test_a_refusal_of_the_server_is_shown_as_one(as_operator, three, monkeypatch) -> None:
    """Somebody else was faster: what the console judged is not what the server finds."""
    from console.members import plan

    monkeypatch.setattr(plan, "IN_SYNC_PERCENT", 0)
    peer = f"http://127.0.0.1:{free_ports(1)[0]}"
    as_operator.post(page("add_member"), {"peer_urls": peer})
    number = ids(three)[peer]
    try:
        monkeypatch.setattr(
            "console.members.views_change.plan_promote",
            lambda health, row: plan.Plan(plan.Quorum(3, 3), plan.Quorum(4, 3), ()),
        )
        sampler_forgets()
        answer = as_operator.post(page("promote_member"), {"member": number})
        assert answer.status_code == 422
        assert "The cluster refused (FAILED_PRECONDITION)" in answer.text
        assert "in sync with leader" in answer.text
        assert audit()[-1] == ("promote member", "refused")
    finally:
        sampler_forgets()
        as_operator.post(page("remove_member"), {"member": number, "reason": "test"})
    assert number not in ids(three).values()


def test_a_change_of_unknown_fate_is_told_on_its_plan(as_operator, three, monkeypatch) -> None:
    """The leader died with it: nobody knows, and nobody is told to send it again."""

    def no_answer(*_: object) -> None:
        raise FateUnknown("UNAVAILABLE", "etcdserver: request timed out", "h:1")

    monkeypatch.setattr("console.members.views_change.membership.remove", no_answer)
    follower = next(n for name, n in ids(three).items() if name != leader_name(three))
    answer = as_operator.post(page("remove_member"), {"member": follower, "reason": "it is old"})
    assert answer.status_code == 504
    assert "It is not known whether this was done" in answer.text
    assert "it is old" in answer.text, "what was typed is kept"
    assert audit()[-1] == ("remove member", "sent")
    assert follower in ids(three).values()


def test_bad_input_is_told(as_operator, three) -> None:
    for peer_urls in ("", "nonsense", "http://h"):
        answer = as_operator.post(page("add_member"), {"peer_urls": peer_urls})
        assert answer.status_code == 422, peer_urls
    assert as_operator.get(page("remove_member", member="zz")).status_code == 404
    assert as_operator.get(page("remove_member", member="1234")).status_code == 404
    taken = as_operator.get(page("add_member", peer_urls=three[0].peer_url))
    assert f"{three[0].peer_url} is m0" in plain(taken.text).replace("&#x27;", "'")
    assert audit() == []


def test_production_asks_for_the_clusters_name(as_operator, cluster, three) -> None:
    cluster.environment = Cluster.Environment.PRODUCTION
    cluster.save()
    number = next(iter(ids(three).values()))
    fields = {"member": number, "reason": "why not", "confirm": "four"}
    answer = as_operator.post(page("remove_member"), fields)
    assert answer.status_code == 422 and "This is not the cluster" in answer.text
    assert len(ids(three)) == 3


def test_a_read_only_connection_changes_nobody(as_operator, cluster, three) -> None:
    cluster.is_read_only = True
    cluster.save()
    number = next(iter(ids(three).values()))
    answer = as_operator.post(page("remove_member"), {"member": number, "reason": "x"})
    assert answer.status_code == 403
    assert "remove…" not in as_operator.get(page("members")).text


def test_next_leads_nowhere_else(as_operator, three) -> None:
    shown = as_operator.get(
        page("add_member", next="https://evil.example/", peer_urls="http://h:1")
    )
    assert 'name="next" value="https://evil' not in shown.text
    assert f'href="{page("members")}" autofocus>Cancel' in shown.text


@pytest.mark.usefixtures("settled")
def test_a_dead_member_is_replaced_step_by_step(as_operator, three, kind: str, base: Path) -> None:
    """The assistant, followed by its links."""
    leader = leader_name(three)
    victim = next(s for s in three if s.name != leader)
    number = ids(three)[victim.name]
    victim.kill()
    client_port, peer_port = free_ports(2)
    peer, url = f"http://127.0.0.1:{peer_port}", f"http://127.0.0.1:{client_port}"
    asked = page("replace_member", member=number, name="m8", peer_urls=peer)

    def link(words: str) -> str:
        found = re.search(rf'href="([^"]+)">{words}', as_operator.get(asked).text)
        assert found, words
        return found[1].replace("&amp;", "&")

    def follow(words: str, **fields: str) -> None:
        target = link(words)
        answer = insist(as_operator, target.partition("?")[0], target, fields)
        assert "/members/replace?" in answer.headers["Location"]

    follow(f"Remove {victim.name}", reason="it is dead")
    follow("Add m8 as a learner")
    sampler_forgets()
    flag = re.search(r"--initial-cluster=(\S+)", as_operator.get(asked).text)
    assert flag
    line = [*command(kind, "m8", base, url, peer, flag[1]), "--initial-cluster-state=existing"]
    eighth = Server("m8", url, peer, base, line)
    eighth.start()
    three.append(eighth)  # stopped with the others

    def is_promotable() -> bool:
        sampler_forgets()
        return "Promote m8" in as_operator.get(asked).text

    wait_until(is_promotable, SECONDS_MAX, "the learner has started")

    def is_ready() -> bool:
        sampler_forgets()
        return "A check is not met" not in as_operator.get(link("Promote m8")).text

    wait_until(is_ready, SECONDS_MAX, "the learner has caught up")
    follow("Promote m8")
    sampler_forgets()
    assert "has taken the place of" in as_operator.get(asked).text
    assert "m8" in ids([s for s in three if s is not victim])
