"""Imports and rewinds as jobs: compared, written, stopped, interrupted, each batch with its end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils.timezone import now

from console.gateway import Reader, Unreachable, Writer
from console.gateway.records import Key
from console.keys import batches, import_file, views_import, views_rewind, write_job
from console.keys.batches import Change
from console.keys.byte_text import show
from console.keys.interchange import written
from console.keys.paging import prefix_range
from console.keys.plan import Plan, Sampled
from console.keys.rewind import Rewind
from console.keys.views_job import DONE_SHOWN
from console.maintenance import jobs, work
from console.models import AuditRow, Cluster, ClusterGrant, Job, JobBatch
from tests.console.conftest import Store
from tests.console.test_interchange import apply, upload
from tests.console.test_plans import hidden, plain


@pytest.fixture(autouse=True)
def alone(settings, tmp_path, monkeypatch) -> None:
    """Jobs are done at once, files lie in a directory of the test's own."""
    settings.CONSOLE_DIR = tmp_path
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))
    monkeypatch.setattr(batches, "OPS_MAX", 2)
    monkeypatch.setattr(jobs, "TELL_SECONDS", 0.0)


def lines(prefix: bytes, count: int) -> bytes:
    keys = (Key(prefix + b"%03d" % n, b"v%d" % n, 1, 1, 1, 0) for n in range(count))
    return b"".join(written(key, "ndjson") for key in keys)


def page(browser: Browser, job: Job) -> str:
    return plain(browser.get(reverse("key_job", args=["one", job.pk])).text)


def test_a_large_file_is_compared_by_a_job_that_leads_to_the_plan(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(views_import, "AT_ONCE_BYTES_MAX", 10)
    store.put(prefix + b"001", b"other")
    answer = upload(as_editor, lines(prefix, 5), existing="keep")
    job = Job.objects.get()
    assert answer.headers["Location"] == reverse("key_job", args=["one", job.pk])
    assert (job.kind, job.state) == ("compare", "done")
    assert "5 of 5 compared" in page(as_editor, job)
    assert AuditRow.objects.count() == 0  # nothing is written yet
    plan = as_editor.get(reverse("import_keys", args=["one"]), {"plan": job.pk})
    assert "4 are new, 0 change, 0 are the same already, 1 exist" in plain(plan.text)
    assert "v0" in plan.text  # the sample came along
    done = apply(as_editor, plan)
    assert "Import: done" in plain(done.text)
    assert "4 keys written" in plain(done.text)
    assert store.get(prefix + b"004").value == b"v4"
    assert store.get(prefix + b"001").value == b"other"
    assert list(import_file.spool().iterdir()) == []


def test_the_plan_is_for_whoever_sent_the_file(
    as_editor, as_admin, store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(views_import, "AT_ONCE_BYTES_MAX", 10)
    upload(as_editor, lines(prefix, 3))
    upload(as_admin, lines(prefix, 1))
    address = reverse("import_keys", args=["one"])
    theirs = Job.objects.order_by("id").first()
    assert as_admin.get(address, {"plan": theirs.pk}).status_code == 404
    assert as_admin.get(address, {"plan": "x"}).status_code == 404


def test_a_large_range_is_compared_by_a_job_too(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(views_rewind, "AT_ONCE_KEYS_MAX", 3)
    for number in range(5):
        store.put(prefix + b"%d" % number, b"old")
    to = store.revision()
    for number in range(5):
        store.put(prefix + b"%d" % number, b"new")
    address = reverse("rewind", args=["one"])
    asked = as_editor.get(address, {"prefix": show(prefix), "to": to})
    assert f"Compare 5 keys with revision {to}" in plain(asked.text)
    assert Job.objects.count() == 0
    compared = as_editor.post(address, {**hidden(asked.text), "step": "compare"}, follow=True)
    job = Job.objects.get()
    assert f'href="{address}?prefix=' in compared.text
    fields = {"prefix": show(prefix), "to": to, "plan": job.pk}
    plan = as_editor.get(address, fields)
    assert "0 come back, 5 change" in plain(plan.text)
    other = {**fields, "prefix": show(prefix + b"1")}
    assert as_editor.get(address, other).status_code == 404  # a plan is of its own range
    done = as_editor.post(address, {**hidden(plan.text), "step": "start"}, follow=True)
    assert "Rewind: done" in plain(done.text)
    assert [store.get(prefix + b"%d" % n).value for n in range(5)] == [b"old"] * 5


def imported(browser: Browser, data: bytes) -> Job:
    apply(browser, upload(browser, data))
    return Job.objects.get(kind="import")


def test_it_stops_between_two_batches_when_it_is_told_to(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    real = write_job.write_batch

    def told_meanwhile(*args):
        Job.objects.update(abort_asked=True)
        return real(*args)

    monkeypatch.setattr(write_job, "write_batch", told_meanwhile)
    job = imported(as_editor, lines(prefix, 6))
    assert (job.state, job.detail) == ("aborted", "Stopped as asked.")
    assert [row.state for row in job.batches.all()] == ["done"]
    assert store.get(prefix + b"001") is not None
    assert store.get(prefix + b"002") is None
    text = page(as_editor, job)
    assert "Import: stopped as asked" in text
    assert "What is written stays written" in text
    again = as_editor.post(reverse("stop_key_job", args=["one", job.pk]), follow=True)
    assert "had ended before" in again.text


@pytest.mark.parametrize("loss", ["role", "read-only"])
def test_a_right_that_is_lost_ends_it(
    as_editor, cluster: Cluster, store: Store, prefix, monkeypatch, loss: str
) -> None:
    real = write_job.write_batch

    def lose_meanwhile(*args):
        ClusterGrant.objects.all().delete() if loss == "role" else Cluster.objects.update(
            is_read_only=True
        )
        return real(*args)

    monkeypatch.setattr(write_job, "write_batch", lose_meanwhile)
    job = imported(as_editor, lines(prefix, 6))
    assert job.state == "stopped"
    assert ("no longer editor" if loss == "role" else "become read-only") in job.detail
    assert store.get(prefix + b"002") is None


def test_a_call_that_fails_ends_it_and_says_so(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    real = Writer.txn

    def fails_later(self, txn):
        if JobBatch.objects.exists():
            raise Unreachable("UNAVAILABLE", "gone", "http://h:1")
        return real(self, txn)

    monkeypatch.setattr(Writer, "txn", fails_later)
    job = imported(as_editor, lines(prefix, 6))
    assert job.state == "stopped"
    assert [row.state for row in job.batches.all()] == ["done", "failed"]
    assert "Batch 2 failed: UNAVAILABLE: gone" in page(as_editor, job)
    assert [row.outcome for row in AuditRow.objects.order_by("id")] == ["done", "failed"]


def test_a_read_that_fails_is_asked_again(as_editor, store: Store, prefix, monkeypatch) -> None:
    plan = upload(as_editor, lines(prefix, 3))
    real, asked = Reader._read, []

    def fails_at_first(self, pick, request):
        asked.append(request)
        if len(asked) == 1:
            raise Unreachable("DEADLINE_EXCEEDED", "busy", "http://h:1")
        return real(self, pick, request)

    monkeypatch.setattr(Reader, "_read", fails_at_first)
    assert "Import: done" in plain(apply(as_editor, plan).text)
    assert asked[0] == asked[1]


def test_an_interrupted_one_says_what_is_certain(as_editor, store: Store, prefix) -> None:
    job = imported(as_editor, lines(prefix, 4))
    step = job.steps[0] | {"state": "running"}
    silent = now() - timedelta(hours=1)
    Job.objects.filter(pk=job.pk).update(state="running", steps=[step], heartbeat_at=silent)
    assert "The console stopped while this ran" in page(as_editor, job)  # not yet marked
    jobs.mark_interrupted()
    text = page(as_editor, job)
    assert "Import: interrupted" in text
    assert "the batch it was at may have been written" in text


def test_one_at_a_time(as_editor, cluster: Cluster, store: Store, prefix) -> None:
    plan = upload(as_editor, lines(prefix, 1))
    running = jobs.create_for(cluster, None, Job.Kind.REWIND, [])
    answer = apply(as_editor, plan)
    assert answer.status_code == 409
    assert f"Rewind {running.pk}" in answer.text
    running.delete()
    assert "Import: done" in plain(apply(as_editor, plan).text)  # the file still waits


def test_of_many_batches_the_page_shows_trouble_and_the_newest(
    as_editor, store: Store, prefix
) -> None:
    plan = upload(as_editor, lines(prefix, 2 * DONE_SHOWN + 6))
    store.put(prefix + b"000", b"theirs")
    text = plain(apply(as_editor, plan).text)
    assert "Import: partly done" in text
    assert f"conflict changed: {show(prefix)}000" in text
    assert "2 more batches were written" in text
    job = Job.objects.get()
    rows = as_editor.get(reverse("key_job_live", args=["one", job.pk])).text.count("<tr>") - 1
    assert rows == DONE_SHOWN + 1


def test_other_jobs_have_no_page_here(as_editor, cluster: Cluster) -> None:
    job = jobs.create_for(cluster, None, Job.Kind.SIZES, [])
    assert as_editor.get(reverse("key_job", args=["one", job.pk])).status_code == 404


def test_the_operators_list_leads_to_it(as_admin, store, prefix) -> None:
    job = imported(as_admin, lines(prefix, 1))
    assert f"Import {job.pk}" in as_admin.get(reverse("maintenance", args=["one"])).text
    answer = as_admin.get(reverse("job", args=["one", job.pk]))
    assert answer.headers["Location"] == reverse("key_job", args=["one", job.pk])


def test_a_plan_is_kept_whole(prefix) -> None:
    """64-bit numbers and bytes that are no text come back as they were; a large value does not."""
    plan = Plan(2**62 + 1)
    plan.add(b"\xff", "change", Change(b"\xff", 2**62 + 3, b"\x00", 2**62 + 5, keeps_lease=True))
    plan.add(b"large", "create", Change(b"large", 0, bytes(100_000)))
    plan.add(b"gone", "delete")
    kept = Plan.from_json(plan.to_json())
    assert (kept.base, kept.counts, kept.sample[0]) == (plan.base, plan.counts, plan.sample[0])
    assert kept.sample[1:] == [Sampled(b"large", "create"), Sampled(b"gone", "delete")]
    assert kept.first_batch == [plan.sample[0].change]
    rewind = Rewind(prefix_range(b"\xff\xff"), 2**62 + 7)
    assert Rewind.from_json(rewind.to_json()) == rewind
