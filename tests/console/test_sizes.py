"""Why is my database big: what is counted, what is found, and the scan as a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils.timezone import now

from console.gateway import ClusterError, Compacted, Reader, TooLarge, walk
from console.gateway.records import Event, History, Key
from console.gateway.walk import Walk
from console.maintenance import jobs, sizes_job, work
from console.maintenance.past import revisions_before, sizes_in_use
from console.maintenance.plan import Sizes
from console.maintenance.reclaim import record_bytes
from console.maintenance.sizes import FileSizes, Weight, bar, findings, forecast, total
from console.maintenance.sizes_job import Hands, stages, weights_of
from console.models import AuditRow, Job, PrefixSize, Sample
from console.overview.health import Member, MemberStatus, assess
from console.roles import Role
from kvserver.proto import kv_pb2, rpc_pb2
from tests.console.conftest import browser_of, make_account
from tests.console.test_overview import cell, plain, sampler_forgets
from tests.console.test_reclaim import history

ON_EVERY_SERVER = True
MIB = 1024 * 1024


def key(name: bytes, value: bytes = b"v", version: int = 1, lease: int = 0) -> Key:
    return Key(name, value, 2, 5, version, lease)


def test_a_weight_counts_live_keys_and_what_was_superseded() -> None:
    weight = Weight()
    weight.live(key(b"/a", b"12345"))
    weight.live(key(b"/b", b"", version=3))
    weight.live(key(b"/c", b"", lease=7))
    assert (weight.live_keys, weight.leased_keys, weight.untouched_keys) == (3, 1, 1)
    assert weight.live_bytes == record_bytes(b"/a", 5) + 2 * record_bytes(b"/b", 0)
    for event in history([(b"/a", b"1234"), (b"/a", b"1"), (b"/a", None)]):
        weight.change(event)
    assert (weight.writes, weight.old_versions, weight.tombstones) == (3, 2, 1)
    assert weight.old_bytes == record_bytes(b"/a", 4) + record_bytes(b"/a", 1) + record_bytes(
        b"/a", 0
    )
    assert total([weight, weight]).retained == 6


def file(size: int, in_use: int, quota: int = 0) -> FileSizes:
    return FileSizes("m0", Sizes(size * MIB, in_use * MIB), quota * MIB)


def test_each_finding_has_its_action() -> None:
    assert findings([file(100, 95)], [(b"/a/", Weight(live_keys=5, live_bytes=MIB))], 9) == []
    [quota] = findings([file(90, 90, 100)], [], 0)
    assert (quota.level, quota.action) == ("danger", "compact")
    [loose] = findings([file(100, 50)], [], 0)
    assert (loose.level, loose.action) == ("warn", "defragment_all")
    old = Weight(live_keys=500, live_bytes=MIB, old_versions=400, old_bytes=MIB)
    [retained] = findings([], [(b"/a/", old)], 900)
    assert (retained.level, retained.action) == ("warn", "compact")
    assert "50 % of the records are history: 400 old versions" in retained.said
    churn = Weight(live_keys=2, live_bytes=90 * MIB, old_versions=400, old_bytes=MIB)
    [rewritten] = findings([], [(b"/a/", churn)], 900)
    assert (rewritten.action, rewritten.prefix) == ("compact", b"/a/")
    assert "400 old versions of 2 keys, 200 each" in rewritten.said
    once = Weight(live_keys=500, live_bytes=MIB, untouched_keys=400)
    [forgotten] = findings([], [(b"/a/", once)], 900)
    assert (forgotten.action, forgotten.prefix) == ("keys", b"/a/")


def test_the_gravest_finding_comes_first() -> None:
    old = Weight(live_keys=20, live_bytes=MIB, old_versions=400, old_bytes=MIB)
    found = findings([file(100, 50), file(95, 95, 100)], [(b"/a/", old)], 900)
    assert [one.level for one in found] == ["danger", "warn", "warn", "info"]


def test_a_bar_is_in_proportion_and_never_wider_than_itself() -> None:
    assert [(s.x, s.width) for s in bar([("live", 1), ("history", 3)], 4)] == [(0, 250), (250, 750)]
    assert [s.width for s in bar([("live", 1), ("history", 0)], 10**9)] == [2, 0]
    assert sum(s.width for s in bar([("a", 5), ("b", 9)], 4)) == 1000
    assert [s.width for s in bar([("a", 0)], 0)] == [0]


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_forecast_is_a_line_through_what_is_known() -> None:
    def at(hours: float, size: int) -> tuple[datetime, int]:
        return NOON + timedelta(hours=hours), size

    assert forecast([at(0, 100)], 1000) is None
    assert forecast([at(0, 100), at(0.5, 900)], 1000) is None
    found = forecast([at(0, 100), at(6, 999), at(48, 300)], 1000)
    assert found is not None
    assert (found.bytes_a_day, found.days_left) == (100, 7)
    assert forecast([at(0, 300), at(24, 100)], 1000).days_left is None
    assert forecast([at(0, 100), at(24, 300)], 0).days_left is None
    assert forecast([at(0, 100), at(24, 2000)], 1000).days_left == 0


class Pages:
    """A member's ranges: `values` by key, a limit of bytes a message, compactions on the way."""

    def __init__(self, values: dict[bytes, bytes], limit_bytes: int = 10**9) -> None:
        self.values, self.limit_bytes = values, limit_bytes
        self.asked: list[rpc_pb2.RangeRequest] = []
        self.compacts_at = -1

    def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        self.asked.append(request)
        if len(self.asked) == self.compacts_at and request.revision:
            raise Compacted("OUT_OF_RANGE", "revision has been compacted", "e")
        inside = [k for k in sorted(self.values) if k >= request.key]
        kvs = [
            kv_pb2.KeyValue(key=k, value=b"" if request.keys_only else self.values[k])
            for k in inside[: request.limit]
        ]
        if sum(len(kv.value) for kv in kvs) > self.limit_bytes:
            raise TooLarge("RESOURCE_EXHAUSTED", "larger than max", "e")
        return rpc_pb2.RangeResponse(
            header=rpc_pb2.ResponseHeader(revision=9),
            kvs=kvs,
            count=len(inside),
            more=len(inside) > request.limit,
        )


def walked(pages: Pages) -> tuple[list[bytes], Walk]:
    one = Walk(pages)
    return [key.key for page in one for key in page], one


def test_a_walk_sees_every_key_once_at_one_revision() -> None:
    values = {b"%05d" % i: b"x" * 50 for i in range(2500)}
    pages = Pages(values)
    keys, one = walked(pages)
    assert keys == sorted(values)
    assert (one.total, one.seen, one.revision, one.restarts) == (2500, 2500, 9, 0)
    assert {request.revision for request in pages.asked[1:]} == {9}
    assert max(request.limit for request in pages.asked) == walk.PAGE_KEYS_MAX
    assert walked(Pages({}))[0] == []


def test_pages_shrink_until_they_fit_and_a_giant_is_counted_without_its_value() -> None:
    values = {b"%03d" % i: b"x" * 100 for i in range(50)} | {b"025!": b"x" * 9000}
    keys, _ = walked(Pages(values, limit_bytes=1000))
    assert keys == sorted(values)


def test_a_compaction_on_the_way_is_gone_on_from_and_told() -> None:
    pages = Pages({b"%05d" % i: b"x" for i in range(2500)})
    pages.compacts_at = 2
    keys, one = walked(pages)
    assert len(keys) == 2500
    assert one.restarts == 1


def status(size: int = 100) -> MemberStatus:
    return MemberStatus("3.6.0", size, size // 2, 1000, 1, 2, 50, 50, 9, False, ())


def hands(events: list[Event], pages: Pages, **more) -> Hands:
    healthy = assess([Member(1, "m1", False, (), status(), reached_at="http://m1:1")])

    def replay(start: int, until: int):
        return events, lambda: History((), start, 0, until, until, 0, True)

    return Hands(
        look=lambda: healthy,
        walk=lambda: Walk(pages),
        window=lambda: (9, 1),
        replay=more.get("replay", replay),
        leases=more.get("leases", lambda: 3),
        pause=lambda seconds: None,
    )


@pytest.fixture
def olga(cluster):
    sampler_forgets()
    return make_account("olga", cluster, Role.OPERATOR)


def scan(cluster, olga, with_hands: Hands) -> Job:
    job = jobs.create_for(cluster, olga, Job.Kind.SIZES, stages())
    work.execute(job.pk, with_hands)
    job.refresh_from_db()
    return job


EVENTS = history([(b"/a/x", b"1"), (b"/a/x", b"22"), (b"/b/y", b"1"), (b"/b/y", None)])


def test_a_scan_keeps_its_sums_as_rows(cluster, olga) -> None:
    pages = Pages({b"/a/x": b"22", b"plain": b"1"})
    job = scan(cluster, olga, hands(EVENTS, pages))
    assert job.state == "done"
    assert [step["state"] for step in job.steps] == ["done"] * 4
    sums = weights_of(job, 1)
    assert {k: (v.live_keys, v.old_versions, v.tombstones, v.writes) for k, v in sums.items()} == {
        b"/a/": (1, 1, 0, 2),
        b"/b/": (0, 1, 1, 2),
        b"": (1, 0, 0, 0),
    }
    assert job.result["leases"] == 3
    assert weights_of(job, 0)[b""].writes == 4


def test_a_stopped_scan_shows_what_it_had(cluster, olga, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "TELL_SECONDS", 0.0)
    pages = Pages({b"%05d" % i: b"x" for i in range(2500)})
    real = pages._range

    def stopping(request):
        if len(pages.asked) == 2:
            Job.objects.update(abort_asked=True)
        return real(request)

    pages._range = stopping
    job = scan(cluster, olga, hands(EVENTS, pages))
    assert job.state == "aborted"
    assert [step["state"] for step in job.steps] == ["done", "aborted", "not run", "not run"]
    assert 0 < weights_of(job, 0)[b""].live_keys < 2500
    text = plain(browser_of(olga).get(reverse("sizes", args=["one"])).text)
    assert "The scan did not read everything" in text


def test_a_cluster_that_goes_away_ends_the_scan_with_its_words(cluster, olga) -> None:
    def gone(start: int, until: int):
        raise ClusterError("UNAVAILABLE", "connection refused", "e")

    job = scan(cluster, olga, hands(EVENTS, Pages({b"a": b"1"}), replay=gone))
    assert (job.state, job.detail) == ("stopped", "Retained history could not be read.")
    assert job.steps[2]["detail"] == "UNAVAILABLE: connection refused"
    assert weights_of(job, 0)[b""].live_keys == 1


def test_a_replay_that_stalls_is_an_end_not_a_loop(cluster, olga) -> None:
    def silent(start: int, until: int):
        return [], lambda: History((), start, 0, start - 1, until, 0, False)

    job = scan(cluster, olga, hands([], Pages({}), replay=silent))
    assert job.state == "done"
    assert "read up to revision 1 of 9: no answer came" in job.steps[2]["detail"]


def test_a_scan_goes_on_where_the_last_block_ended(cluster, olga) -> None:
    asked = []

    def blocks(start: int, until: int):
        asked.append(start)
        read_to = min(start + 2, until)
        events = [event for event in EVENTS if start <= event.revision <= read_to]
        return events, lambda: History((), start, 0, read_to, until, 0, read_to == until)

    job = scan(cluster, olga, hands([], Pages({}), replay=blocks))
    assert asked == [2, 5, 8]
    assert weights_of(job, 0)[b""].writes == len(EVENTS)
    assert job.result["read_to"] == 9


def test_bounds_are_kept_and_told(cluster, olga, monkeypatch) -> None:
    monkeypatch.setattr(sizes_job, "KEYS_MAX", 100)
    pages = Pages({b"%05d" % i: b"x" for i in range(2500)})
    job = scan(cluster, olga, hands(EVENTS, pages))
    assert job.steps[1]["detail"] == "the first 100 of 2500 keys: no more are read"


def test_a_restart_of_the_console_interrupts_a_scan(cluster, olga) -> None:
    job = jobs.create_for(cluster, olga, Job.Kind.SIZES, stages())
    job.steps[1]["state"] = "running"
    job.save()
    jobs.mark_interrupted()
    job.refresh_from_db()
    assert job.state == "interrupted"
    assert [s["state"] for s in job.steps] == ["not run", "interrupted", "not run", "not run"]


def test_a_scan_does_not_wait_for_a_defragmentation_nor_for_a_second_scan(cluster, olga) -> None:
    jobs.create_for(cluster, olga, Job.Kind.ROLLING, [])
    jobs.create_for(cluster, olga, Job.Kind.SIZES, stages())
    with pytest.raises(jobs.Busy):
        jobs.create_for(cluster, olga, Job.Kind.SIZES, stages())
    with pytest.raises(jobs.Busy):
        jobs.create_for(cluster, olga, Job.Kind.DEFRAGMENT, [])


def test_old_scans_lose_their_rows(cluster, olga) -> None:
    made = [scan(cluster, olga, hands(EVENTS, Pages({}))) for _ in range(sizes_job.SCANS_KEPT + 2)]
    kept = set(PrefixSize.objects.values_list("job_id", flat=True))
    assert kept == {job.pk for job in made[2:]}


def test_the_real_thing_from_the_button_to_the_page(
    cluster, olga, store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))
    store.compact(store.put(prefix + b"before", b"x"))  # never twice at one revision
    lease = store.grant_lease(600)
    for i in range(6):
        store.put(prefix + b"hot/key", b"%d" % i * 1000)
    store.put(prefix + b"leased/key", b"x", lease)
    store.put(prefix + b"gone/key", b"x" * 2000)
    store.delete(prefix + b"gone/key")
    browser = browser_of(olga)
    answer = browser.post(reverse("sizes", args=["one"]))
    job = Job.objects.get()
    assert answer.headers["Location"] == reverse("job", args=["one", job.pk])
    assert (job.state, job.detail) == ("done", "")
    assert AuditRow.objects.get().action == "scan sizes"
    sums = weights_of(job, 3)
    hot = sums[prefix + b"hot/"]
    assert (hot.live_keys, hot.old_versions, hot.writes) == (1, 5, 6)
    assert hot.old_bytes == 5 * record_bytes(prefix + b"hot/key", 1000)
    assert sums[prefix + b"leased/"].leased_keys == 1
    gone = sums[prefix + b"gone/"]
    assert (gone.live_keys, gone.old_versions, gone.tombstones) == (0, 1, 1)
    text = browser.get(reverse("sizes", args=["one"]) + "?depth=3&sort=history").text
    assert (prefix + b"hot/").decode() in cell(text, "Prefix")
    assert "live key" in plain(text) and '<rect class="history"' in text
    assert browser.get(reverse("sizes", args=["one"]) + "?depth=99&sort=<b>").status_code == 200


def test_the_walk_of_a_real_member(cluster, store, prefix) -> None:
    names = [prefix + b"%03d" % i for i in range(250)]
    for name in names:
        store.put(name, b"x" * 10)
    one = Walk(Reader(cluster))
    found = [key for page in one for key in page if key.key.startswith(prefix)]
    assert [key.key for key in found] == names
    assert one.total == one.seen
    assert all(key.size_bytes == 10 for key in found)


def test_the_page_forecasts_from_earlier_scans(cluster, olga) -> None:
    first = scan(cluster, olga, hands(EVENTS, Pages({})))
    url = reverse("sizes", args=["one"])
    assert "a forecast needs an hour of samples" in plain(browser_of(olga).get(url).text)
    first.started_at -= timedelta(days=2)
    first.result["members"][0]["in_use"] = 30
    first.save()
    scan(cluster, olga, hands(EVENTS, Pages({})))  # 50 in use of 1000
    text = plain(browser_of(olga).get(url).text)
    assert "grew by 10 B a day" in text or "grew by 9 B a day" in text
    assert "the quota is reached in" in text


def sample(cluster, at, revision: int, in_use: int, member: str = "1") -> None:
    Sample.objects.create(
        cluster=cluster,
        second=int(at.timestamp()),
        grain_seconds=10,
        member=member,
        name="m" + member,
        is_up=True,
        revision=revision,
        db_in_use_bytes=in_use,
    )


def test_samples_say_which_revision_keeps_some_hours_and_how_fast_it_grows(cluster) -> None:
    assert revisions_before(cluster) == []
    assert sizes_in_use(cluster) == []
    for hours_ago, revision, in_use in ((30, 100, 10), (25, 200, 20), (2, 900, 40), (0.5, 950, 70)):
        at = now() - timedelta(hours=hours_ago)
        sample(cluster, at, revision, in_use)
        sample(cluster, at, revision - 1, in_use + 5, member="2")
    assert revisions_before(cluster) == [("keep 24 h", 200), ("keep 1 h", 900)]
    assert [size for _, size in sizes_in_use(cluster)] == [15, 75]
    found = forecast(sizes_in_use(cluster), 1000)
    assert found is not None and found.days_left is not None


def test_a_scan_needs_a_page_that_says_there_is_none(cluster, olga) -> None:
    assert "No scan yet" in browser_of(olga).get(reverse("sizes", args=["one"])).text
