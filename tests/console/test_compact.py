"""Compaction with its preview, and alarms taken back (spec/kv.md §9, spec/maintenance.md §2)."""

from __future__ import annotations

import pytest
from django.urls import reverse

from console.models import AuditRow
from console.roles import Role
from kvserver.proto import rpc_pb2
from tests.console.conftest import Store, browser_of, make_account
from tests.console.test_overview import plain, sampler_forgets

ON_EVERY_SERVER = True


@pytest.fixture
def as_operator(cluster):
    sampler_forgets()
    return browser_of(make_account("olga", cluster, Role.OPERATOR))


@pytest.fixture
def url(cluster) -> str:
    return reverse("compact", args=[cluster.slug])


def test_the_preview_counts_what_goes_and_names_what_is_lost(as_operator, store, prefix, url):
    store.compact(store.revision())
    kept, gone = prefix + b"kept", prefix + b"gone"
    for i in range(5):
        store.put(kept, b"%d" % i * 100)
    store.put(gone, b"x" * 2000)
    revision = store.delete(gone)
    store.put(kept, b"after")
    before = store.raft_index()
    text = plain(as_operator.get(f"{url}?revision={revision}").text)
    assert "5 old versions and 1 tombstone" in text  # four of kept, the one of gone
    assert "1 deleted key cannot be found or put back any more" in text
    assert gone.decode() in text and "2.0 KiB" in text
    assert "the 1 revision after it stay" in text
    assert store.raft_index() == before  # opening a page writes nothing (trap 12)
    assert not AuditRow.objects.exists()


def test_it_compacts_where_it_was_previewed(as_operator, store, prefix, url, server) -> None:
    old = store.put(prefix, b"1")
    revision = store.put(prefix, b"2")
    assert as_operator.post(url, {"step": "start", "revision": revision}).status_code == 302
    row = AuditRow.objects.get()
    assert (row.action, row.outcome, row.revision_after) == ("compact", "done", revision)
    assert row.command == f"etcdctl --endpoints={server.client_url} compaction {revision}"
    refused = as_operator.post(url, {"step": "start", "revision": old})
    assert refused.status_code == 422
    assert AuditRow.objects.count() == 1
    assert store.get(prefix).value == b"2"


def test_physical_is_said_and_done(as_operator, store, prefix, url) -> None:
    store.put(prefix, b"1")
    revision = store.put(prefix, b"2")
    page = as_operator.get(f"{url}?revision={revision}&physical=on").text
    assert "compaction --physical" in page
    as_operator.post(url, {"step": "start", "revision": revision, "physical": "on"})
    assert AuditRow.objects.get().command.endswith(f" compaction --physical {revision}")


def test_a_revision_compacted_meanwhile_is_the_servers_refusal(
    as_operator, store, prefix, url, monkeypatch
):
    """Somebody was quicker between the plan and the click: shown and audited as refused."""
    from console.gateway import Reader

    store.put(prefix, b"1")
    revision = store.put(prefix, b"2")
    store.compact(revision)
    monkeypatch.setattr(Reader, "compacted", lambda self, keys, newest: revision - 2)
    answer = as_operator.post(url, {"step": "start", "revision": revision})
    assert answer.status_code == 410
    assert AuditRow.objects.get().outcome == "refused"
    assert "required revision has been compacted" in AuditRow.objects.get().detail


@pytest.mark.parametrize("text", ["0", "-1", "many", "²", "9" * 30])
def test_a_revision_outside_the_window_is_refused_with_the_window(as_operator, store, url, text):
    newest = store.put(b"/t/window", b"x")
    answer = as_operator.get(url, {"revision": text})
    assert answer.status_code == 422
    assert f"to {newest}." in answer.text
    assert as_operator.post(url, {"step": "start", "revision": text}).status_code == 422
    assert as_operator.post(url, {"step": "start", "revision": ""}).status_code == 422
    assert not AuditRow.objects.exists()


def test_production_wants_the_name(as_operator, cluster, store, prefix, url) -> None:
    cluster.environment = "production"
    cluster.save()
    revision = store.put(prefix, b"2")
    form = {"step": "start", "revision": revision, "confirm": "two"}
    answer = as_operator.post(url, form)
    assert answer.status_code == 422
    assert "nothing was done" in answer.text
    assert not AuditRow.objects.exists()
    assert as_operator.post(url, form | {"confirm": "one"}).status_code == 302


def test_nothing_left_to_compact_is_a_page_of_its_own(as_operator, store, url) -> None:
    revision = store.put(b"/t/last", b"x")
    store.compact(revision)
    text = plain(as_operator.get(url).text)
    assert "Nothing to compact" in text
    assert "Compact cluster" not in text


def test_a_preview_that_ran_out_of_time_says_how_far_it_came(
    as_operator, store, prefix, url, monkeypatch
):
    from console.maintenance import views_compact

    monkeypatch.setattr(views_compact, "PREVIEW_SECONDS", 0.0)
    store.put(prefix, b"1")
    revision = store.put(prefix, b"2")
    page = as_operator.get(f"{url}?revision={revision}").text
    assert "Scanned up to revision" in plain(page)
    assert "look=long" in page
    text = plain(as_operator.get(f"{url}?revision={revision}&look=long").text)
    assert "read: all of revisions" in text


def alarm(store: Store, action: int, member: int, kind: int = rpc_pb2.NOSPACE) -> list:
    request = rpc_pb2.AlarmRequest(action=action, memberID=member, alarm=kind)
    return list(store.client.write(lambda s: s.maintenance.Alarm, request, 5).alarms)


@pytest.fixture
def raised(store):
    """Two members' NOSPACE, and none left behind."""
    for member in (77, 78):
        alarm(store, rpc_pb2.AlarmRequest.ACTIVATE, member)
    yield
    for member in (77, 78):
        alarm(store, rpc_pb2.AlarmRequest.DEACTIVATE, member)


def test_one_alarm_is_disarmed_and_the_other_stays(as_operator, store, raised) -> None:
    page = as_operator.get("/c/one/maintenance").text
    assert "kind=NOSPACE&amp;member=4d" in page
    assert "Every member refuses puts" in plain(page)
    disarm = reverse("disarm", args=["one"])
    plan = plain(as_operator.get(disarm, {"kind": "NOSPACE", "member": "4d"}).text)
    assert "MiB" in plan and "1 other stays raised" in plan
    form = {"kind": "NOSPACE", "member": "4d", "step": "start"}
    assert as_operator.post(disarm, form).status_code == 302
    assert [a.memberID for a in alarm(store, rpc_pb2.AlarmRequest.GET, 0)] == [78]
    row = AuditRow.objects.get()
    assert (row.action, row.outcome) == ("disarm alarm", "done")
    assert row.command.endswith(" alarm disarm")
    assert as_operator.post(disarm, form).status_code == 400


def test_a_failing_check_stops_the_disarming_until_it_is_overruled(
    as_operator, store, raised, monkeypatch
):
    from console.maintenance import views_alarms
    from console.maintenance.preflight import Check

    full = [Check("m0", "danger", "2048.0 MiB of 2048.0 MiB, 100 %: it would be raised again")]
    monkeypatch.setattr(views_alarms, "space_checks", lambda health: full)
    disarm = reverse("disarm", args=["one"])
    form = {"kind": "NOSPACE", "member": "4e", "step": "start"}
    answer = as_operator.post(disarm, form)
    assert answer.status_code == 422
    assert "A check fails: nothing was done." in answer.text
    assert len(alarm(store, rpc_pb2.AlarmRequest.GET, 0)) == 2
    assert as_operator.post(disarm, form | {"anyway": "on"}).status_code == 302
    assert "100 %" in AuditRow.objects.get().detail


def test_corrupt_is_checked_by_hashes(as_operator, store) -> None:
    alarm(store, rpc_pb2.AlarmRequest.ACTIVATE, 77, rpc_pb2.CORRUPT)
    try:
        disarm = reverse("disarm", args=["one"])
        form = {"kind": "CORRUPT", "member": "4d"}
        assert "nothing to compare it with" in plain(as_operator.get(disarm, form).text)
        assert as_operator.post(disarm, form | {"step": "start"}).status_code == 302
        assert alarm(store, rpc_pb2.AlarmRequest.GET, 0) == []
    finally:
        alarm(store, rpc_pb2.AlarmRequest.DEACTIVATE, 77, rpc_pb2.CORRUPT)


@pytest.mark.parametrize("member", ["", "4f", "<script>"])
def test_an_alarm_that_is_not_raised_is_no_address(as_operator, member: str) -> None:
    form = {"kind": "NOSPACE", "member": member}
    assert as_operator.get(reverse("disarm", args=["one"]), form).status_code == 400
