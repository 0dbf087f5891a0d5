"""One key from every member, side by side: what differs is marked (spec/kv.md R12, §13)."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.gateway import clients
from console.gateway.lens import look
from console.gateway.records import Key
from console.maintenance.lens import Reading, Said, judged, marked
from console.maintenance.plan import MemberHash
from console.maintenance.preflight import data_checks, space_checks
from console.models import Cluster
from console.overview.health import Member, MemberStatus, assess
from console.roles import Role
from kvserver.client import Answer
from kvserver.proto import rpc_pb2
from tests.console.conftest import Store, browser_of, make_account
from tests.console.leading import lead, wait_level
from tests.console.test_overview import cell, plain, sampler_forgets
from tests.support.servers import Server, cluster_kinds, running


def said(revision: int, value: bytes | None, mod: int = 5) -> Said:
    return Said(revision, None if value is None else Key(b"k", value, 2, mod, 3, 0))


def reading(label: str, linear: Said, serial: Said, pinned: Said | None = None) -> Reading:
    return Reading(label, linear, serial, pinned or serial)


def test_members_that_tell_the_same_are_consistent() -> None:
    one = said(9, b"v")
    rows = marked([reading("a", one, one), reading("b", one, one)])
    assert not any(row.differs or row.is_old or row.behind for row in rows)
    assert judged(rows, 9)[0] == "ok"


def test_the_one_that_differs_at_the_same_revision_is_marked() -> None:
    good, bad = said(9, b"v"), said(9, b"w")
    rows = marked([reading("a", good, good), reading("b", good, bad), reading("c", good, good)])
    assert [row.differs for row in rows] == [False, True, False]
    assert not any(row.is_old for row in rows)  # different, and not because it is behind
    level, sentence = judged(rows, 9)
    assert level == "danger"
    assert "at revision 9" in sentence


def test_an_old_serializable_answer_is_old_not_different() -> None:
    new, old = said(9, b"w", 9), said(7, b"v", 5)
    at_seven = said(9, b"v", 5)
    rows = marked([reading("a", new, new, at_seven), reading("b", new, old, at_seven)])
    assert [(row.differs, row.is_old, row.behind) for row in rows] == [
        (False, False, 0),
        (False, True, 2),
    ]
    assert judged(rows, 7) == (
        "warn",
        "At revision 7 all 2 members tell the same. "
        "Serializable reads from b still give an older version.",
    )


def test_a_key_deleted_at_one_and_not_yet_at_the_other_is_old_too() -> None:
    rows = marked(
        [
            reading("a", said(9, None), said(9, None), said(8, b"v")),
            reading("b", said(9, None), said(8, b"v")),
        ]
    )
    assert [row.is_old for row in rows] == [False, True]


def test_a_member_behind_in_revisions_only_is_not_old() -> None:
    rows = marked(
        [reading("a", said(9, b"v"), said(9, b"v")), reading("b", said(9, b"v"), said(8, b"v"))]
    )
    assert [(row.is_old, row.behind) for row in rows] == [(False, 0), (False, 1)]


def test_silent_and_unconfirmed_members_are_named() -> None:
    one, gone = said(9, b"v"), Said(failure="connection refused")
    rows = marked([reading("a", gone, one), reading("b", gone, gone)])
    level, sentence = judged(rows, 9)
    assert level == "warn"
    assert "No linearizable read from a." in sentence and "b did not answer." in sentence
    assert judged(marked([reading("b", gone, gone)]), 0) == ("danger", "No member answered.")


def test_space_is_checked_member_by_member() -> None:
    def member(i: int, size: int, quota: int) -> Member:
        status = MemberStatus("3.6.0", size, size, quota, 1, 2, 50, 50, 9, False, ())
        return Member(i, f"m{i}", False, (), status)

    silent = Member(5, "m5", False, (), None, "gone")
    members = [member(1, 10, 100), member(2, 96, 100), member(3, 10, 0), member(4, 10, -1), silent]
    checks = space_checks(assess(members))
    assert [check.level for check in checks] == ["ok", "danger", "warn", "ok", "warn"]
    hashes = [MemberHash("a", 1, 5), MemberHash("b", 2, 5)]
    assert [check.level for check in data_checks(hashes)] == ["danger"]


def test_members_are_compared_at_the_oldest_revision_any_of_them_told() -> None:
    asked: list[rpc_pb2.RangeRequest] = []

    class Fake:
        def fan_out(self, endpoints, pick, request, seconds):
            asked.append(request)
            header = [rpc_pb2.ResponseHeader(revision=revision) for revision in (9, 7)]
            answers = [rpc_pb2.RangeResponse(header=one) for one in header]
            return [Answer(e, a, None, 0.0) for e, a in zip(endpoints, answers, strict=True)]

    members = [Member(i, f"m{i}", False, (), None, reached_at=f"http://m{i}:1") for i in (1, 2)]
    silent = Member(3, "m3", False, (), None, "gone")
    readings, at = look(SimpleNamespace(_client=Fake()), [members[0], silent, members[1]], b"k")
    assert at == 7
    assert [(r.serializable, r.revision) for r in asked] == [(False, 0), (True, 0), (True, 7)]
    assert [r.label for r in readings] == ["m1", "m3", "m2"]
    assert readings[1].pinned.failure == "gone"


@pytest.fixture(scope="module", params=cluster_kinds())
def three(request, tmp_path_factory) -> Iterator[list[Server]]:
    with running(request.param, tmp_path_factory.mktemp("lens"), size=3) as servers:
        yield servers
        clients.close()


@pytest.fixture
def olga(db, three: list[Server]) -> Browser:
    sampler_forgets()
    endpoints = "\n".join(server.client_url for server in three)
    cluster = Cluster.objects.create(slug="three", name="three", endpoints=endpoints)
    return browser_of(make_account("olga", cluster, Role.OPERATOR))


def test_every_member_tells_and_a_dead_one_is_a_row(olga, three, prefix) -> None:
    client = three[0].client()
    store = Store(client)
    revision = store.put(prefix, b"<script>alert(1)</script>")
    lead(three, three[0])  # who dies is not who leads, and nobody lags behind
    url = reverse("lens", args=["three"])
    text = olga.get(url, {"key": prefix.decode()}).text
    assert cell(text, "Read") == ["linearizable", "serializable", "at one revision"] * 3
    assert cell(text, "Mod") == [str(revision)] * 9
    assert "<script>alert" not in text
    assert "all 3 members tell the same" in plain(text)
    assert f"--endpoints={three[1].client_url} get --consistency=s" in text.replace("&#x27;", "'")
    three[2].kill()
    try:
        sampler_forgets()
        text = plain(olga.get(url, {"key": prefix.decode()}).text)
        assert "m2 did not answer." in text
        assert "connection refused" in text
    finally:
        three[2].start()
        wait_level(three)
        client.close()


def test_an_absent_key_and_no_key(olga, three) -> None:
    url = reverse("lens", args=["three"])
    assert "Which key?" in olga.get(url).text
    assert olga.get(url, {"key": "\\xzz"}).status_code == 400
    text = olga.get(url, {"key": "/nothing/here"}).text
    assert cell(text, "Key") == ["does not exist"] * 9
