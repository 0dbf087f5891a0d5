"""A time of the clock as a revision, and back: as exact as the samples are, and no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from console.history.moments import NoMoment, moment_of, when
from console.models import Cluster, Sample
from tests.console.conftest import Store
from tests.console.test_plans import plain

START = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp())


def sample(cluster: Cluster, second: int, revision: int, *, grain: int = 10, member: str = "a"):
    return Sample.objects.create(
        cluster=cluster,
        second=START + second,
        grain_seconds=grain,
        member=member,
        name=member,
        is_up=revision > 0,
        revision=revision,
    )


def at(second: float) -> datetime:
    return datetime.fromtimestamp(START + second, UTC)


def moment(cluster: Cluster, second: float, *, newest: int = 900, compacted: int = 0):
    return moment_of(cluster, at(second), at(100_000), newest=newest, compacted=compacted)


def test_between_two_samples_the_answer_is_an_interval(cluster: Cluster) -> None:
    for second, revision in ((0, 5), (10, 8), (20, 8), (30, 20)):
        sample(cluster, second, revision)
        sample(cluster, second, revision - 1, member="b")  # a member that lags says less
    found = moment(cluster, 20)
    assert (found.revision, found.latest) == (8, 20)  # written when? after 12:00:10, at the latest
    assert "Up to 12 later revisions may belong" in found.said
    exact = moment(cluster, 10.5)
    assert (exact.revision, exact.latest) == (5, 8)
    sample(cluster, 40, 20)
    sample(cluster, 50, 20)
    assert moment(cluster, 45).is_exact
    assert "nothing was written between" in moment(cluster, 45).said


def test_behind_the_last_sample_the_newest_revision_is_the_end(cluster: Cluster) -> None:
    sample(cluster, 0, 5)
    assert moment(cluster, 5000).latest == 900


def test_of_a_coarse_sample_the_largest_may_be_of_its_end(cluster: Cluster) -> None:
    sample(cluster, 0, 5, grain=300)
    sample(cluster, 300, 60, grain=300)
    assert moment(cluster, 400).revision == 5
    assert moment(cluster, 600).revision == 60


def test_what_cannot_be_told_is_refused_in_words(cluster: Cluster) -> None:
    with pytest.raises(NoMoment, match="No sample was taken of this cluster yet"):
        moment(cluster, 50)
    sample(cluster, 0, 0)  # a member that was down says nothing
    sample(cluster, 10, 5)
    sample(cluster, 100, 50)
    with pytest.raises(NoMoment, match="first sample of this cluster is of 2026-11-29 12:00:20"):
        moment(cluster, 15)
    with pytest.raises(NoMoment, match="has not come yet"):
        moment(cluster, 200_000)
    with pytest.raises(NoMoment, match=r"compacted: it keeps .* 40 on, reached by .* 12:01:50"):
        moment(cluster, 60, compacted=40)
    assert moment(cluster, 110, compacted=50).revision == 50  # the compact revision can be read


def test_when_a_revision_was_reached(cluster: Cluster) -> None:
    assert when(cluster, 5) is None
    sample(cluster, 0, 5)
    sample(cluster, 10, 9)
    sample(cluster, 10, 3, member="b")
    assert when(cluster, 5) == (None, at(10))
    assert when(cluster, 6) == (at(-3), at(20))
    assert when(cluster, 10) is None


# --- served ---------------------------------------------------------------------------------------


def ask(browser, page: str, time: str):
    return browser.get(reverse("at_moment", args=["one"]), {"page": page, "time": time})


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def test_a_page_is_shown_as_of_a_time(as_viewer, cluster, store: Store, prefix) -> None:
    old = store.put(prefix + b"a", b"before")
    store.put(prefix + b"a", b"after")
    ago = datetime.now(UTC) - timedelta(minutes=5)
    Sample.objects.create(
        cluster=cluster,
        second=int(ago.timestamp()) - 60,
        grain_seconds=10,
        member="a",
        name="a",
        is_up=True,
        revision=old,
    )
    key = prefix.decode() + "a"
    answer = ask(as_viewer, f"/c/one/key?key={key}&sep=:", stamp(ago))
    assert answer.headers["Location"] == f"/c/one/key?key={key}&sep=:&rev={old}"
    shown = as_viewer.get(answer.headers["Location"])
    assert ">before<" in shown.text
    assert f"is revision {old}, sampled by" in plain(shown.text)
    assert "as of revision" in plain(shown.text)
    assert "reached by" in plain(shown.text)  # the banner says what is known of the time
    answer = ask(as_viewer, "/c/one/keys?prefix=/t/&after=x&seen=100&pin=9", stamp(ago))
    assert answer.headers["Location"] == f"/c/one/keys?prefix=/t/&rev={old}"
    answer = ask(as_viewer, "/c/one/history", stamp(ago))
    assert answer.headers["Location"] == f"/c/one/history?at={old}"


@pytest.mark.parametrize(
    "page", ["", "/audit", "/c/two/keys", "//evil.example/c/one/keys", "http://x/c/one/keys", "//["]
)
def test_it_leads_to_pages_of_this_cluster_only(as_viewer, page: str) -> None:
    assert ask(as_viewer, page, "2026-11-29T12:00").status_code == 400


@pytest.mark.parametrize(
    "time", ["", "yesterday", "9999-12-31T23:59", "0001-01-01T00:00+23:59", "2999-01-01"]
)
def test_a_time_that_is_none_is_explained(as_viewer, store, time: str) -> None:
    answer = ask(as_viewer, "/c/one/keys", time)
    assert answer.status_code == 404
    assert "There is no revision of that time" in answer.text
