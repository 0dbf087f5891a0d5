"""The console's own samples: taken, thinned, drawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import time

import pytest
from django.urls import reverse

from console.models import AuditRow, Cluster, LeaderChange, Sample
from console.overview.leading import leads_words
from console.sampling import recorder
from console.sampling.recorder import record, record_all
from console.sampling.thinning import (
    COARSE_KEPT_SECONDS,
    COARSE_SECONDS,
    FINE_KEPT_SECONDS,
    FINE_SECONDS,
    thin,
)
from tests.console.test_members_plan import health, member
from tests.console.test_overview import plain, sampler_forgets

NOW = 1_700_000_000 // COARSE_SECONDS * COARSE_SECONDS


@pytest.fixture(autouse=True)
def fresh_looks() -> None:
    sampler_forgets()


@pytest.fixture
def alone(db) -> Cluster:
    return Cluster.objects.create(slug="none", name="none", endpoints="http://127.0.0.1:1")


class InLine(ThreadPoolExecutor):
    """The test's own thread and its transaction."""

    def map(self, work, *things):  # type: ignore[override]
        return map(work, *things)


def test_every_member_gets_a_row_and_a_silent_one_too(alone: Cluster) -> None:
    record(alone, health(member(1), member(2, up=False)), NOW)
    record(alone, health(member(1), member(2, up=False)), NOW)  # another console was faster
    rows = list(Sample.objects.order_by("member").values_list("member", "is_up", "is_leader"))
    assert rows == [("1", True, True), ("2", False, False)]


def test_a_change_of_leader_is_told_once(alone: Cluster) -> None:
    record(alone, health(member(1), member(2)), NOW)
    record(alone, health(member(1, leader=0), member(2, leader=0)), NOW + 10)
    record(alone, health(member(1, leader=2), member(2, leader=2)), NOW + 20)
    record(alone, health(member(1, leader=2), member(2, leader=2)), NOW + 30)
    told = LeaderChange.objects.order_by("second").values_list("second", "before", "after")
    assert list(told) == [(NOW, "", "m1"), (NOW + 20, "m1", "m2")]


def fine(cluster: Cluster, second: int, **fields) -> None:
    Sample.objects.create(
        cluster=cluster,
        second=second,
        grain_seconds=FINE_SECONDS,
        member="a",
        name="a",
        is_up=fields.pop("is_up", True),
        **fields,
    )


def test_what_is_a_day_old_is_thinned_to_its_worst(alone: Cluster) -> None:
    old = NOW - FINE_KEPT_SECONDS - COARSE_SECONDS
    for i in range(5):
        fine(alone, old + 10 * i, db_size_bytes=i, applied_lag=9 - i, is_up=i > 2)
    fine(alone, NOW - 100)
    assert thin(NOW) == 5
    (coarse,) = Sample.objects.filter(grain_seconds=COARSE_SECONDS)
    assert (coarse.second, coarse.db_size_bytes, coarse.applied_lag) == (old, 4, 9)
    assert not coarse.is_up  # down for most of it
    assert Sample.objects.filter(grain_seconds=FINE_SECONDS).count() == 1
    assert thin(NOW) == 0
    thin(NOW + COARSE_KEPT_SECONDS)  # and then even the thinned one is too old
    assert not Sample.objects.exists()


def test_all_clusters_are_looked_at_and_a_dead_one_holds_nobody_up(
    cluster: Cluster, alone: Cluster, store, monkeypatch
) -> None:
    monkeypatch.setattr(recorder.connections, "close_all", lambda: None)
    Cluster.objects.create(slug="x", name="x", endpoints="http://127.0.0.1:1", asks_sign_in=True)
    record_all(InLine())
    told = dict(Sample.objects.values_list("cluster__slug", "is_up"))
    assert told == {"one": True, "none": False}


def test_the_charts_show_samples_marks_and_changes(as_viewer, cluster: Cluster) -> None:
    second = int(time()) // 10 * 10
    for i in range(60):
        size = 100_000_000 + i * 1_000_000
        found = health(member(1, index=1000 + i), member(2))
        record(cluster, found, second - 10 * i)
        Sample.objects.filter(second=second - 10 * i).update(
            db_size_bytes=size, db_in_use_bytes=size // 2, db_quota_bytes=164_000_000
        )
    record(cluster, health(member(1, leader=2), member(2, leader=2)), second)
    AuditRow.objects.create(account_name="olga", cluster=cluster, action="compact", target="at 9")
    answer = as_viewer.get(reverse("over_time", args=["one"]), {"span": "1h"})
    text = plain(answer.text)
    assert "Largest database" in text and "95 % of the quota of" in text
    assert "m1 → m2" in text and "olga: compact at 9" in text
    assert answer.text.count('<path class="line') >= 4
    assert "NaN" not in answer.text and 'd=""' not in answer.text
    live = as_viewer.get(reverse("over_time_live", args=["one"]), {"span": "24h"})
    assert "<html" not in live.text and "Round trip" in live.text


def test_spans_that_are_none_and_clusters_without_samples(as_viewer, cluster: Cluster) -> None:
    answer = as_viewer.get(reverse("over_time", args=["one"]), {"span": "<script>"})
    assert answer.status_code == 200 and "Nothing sampled yet" in answer.text


def test_a_page_asks_the_database_a_bounded_number_of_times(
    as_viewer, cluster: Cluster, django_assert_max_num_queries
) -> None:
    record(cluster, health(member(1)), int(time()) // 10 * 10)
    with django_assert_max_num_queries(12):
        as_viewer.get(reverse("over_time", args=["one"]), {"span": "90d"})


@pytest.mark.parametrize(
    ("before", "age", "said"),
    [
        ("m2", 6 * 86400 + 5, "for 6 d"),
        ("", 6 * 86400 + 5, "for at least 6 d"),  # it led before this console looked
        ("m2", 3 * 3600, "for 3 h"),
        ("m2", 600, "since 22:03 UTC"),
        ("", 600, ""),
    ],
)
def test_for_how_long_somebody_leads(alone: Cluster, before: str, age: int, said: str) -> None:
    now = 1_700_000_000  # 22:13:20 in UTC
    told = health(member(1), member(2))
    LeaderChange.objects.create(
        cluster=alone, second=now - age, before=before, after="m1", term=told.term
    )
    assert leads_words(alone, told, now) == said
    LeaderChange.objects.update(term=told.term - 1)  # nobody saw this term begin
    assert leads_words(alone, told, now) == ""
