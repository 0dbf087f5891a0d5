"""The audit: found by who, where, what and when, and taken along as it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from django.urls import reverse

from console.models import AuditRow
from tests.console.conftest import browser_of, make_account

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def as_root(db):
    return browser_of(make_account("root"))


@pytest.fixture
def rows(db) -> None:
    for day, who, cluster, action, outcome in (
        (1, "olga", "east", "put", "done"),
        (2, "olga", "west", "delete", "refused"),
        (3, "vera", "east", "put", "conflict"),
        (3, HOSTILE, "east", "compact", "done"),
    ):
        row = AuditRow.objects.create(
            account_name=who,
            cluster_name=cluster,
            action=action,
            target=f"key-{day}",
            outcome=outcome,
            command="etcdctl put a b",
            revision_before=2**60,
            revision_after=2**60 + 1,
        )
        AuditRow.objects.filter(pk=row.pk).update(at=datetime(2026, 5, day, 23, 59, tzinfo=UTC))


def found(browser, **query: str) -> list[str]:
    answer = browser.get(reverse("audit_export"), query)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert "attachment" in answer.headers["Content-Disposition"]
    lines = b"".join(answer.streaming_content).decode().splitlines()
    return [json.loads(line)["target"] + " " + json.loads(line)["account"] for line in lines]


@pytest.mark.usefixtures("rows")
def test_rows_are_found_by_everything_they_hold(as_root) -> None:
    everybody = [f"key-3 {HOSTILE}", "key-3 vera", "key-2 olga", "key-1 olga"]
    assert found(as_root) == everybody
    assert found(as_root, account="olga") == ["key-2 olga", "key-1 olga"]
    assert found(as_root, cluster="west") == ["key-2 olga"]
    assert found(as_root, action="put") == ["key-3 vera", "key-1 olga"]
    assert found(as_root, outcome="refused") == ["key-2 olga"]
    assert found(as_root, since="2026-05-02", until="2026-05-02") == ["key-2 olga"]
    assert found(as_root, until="2026-05-01") == ["key-1 olga"]
    assert found(as_root, q="script") == [f"key-3 {HOSTILE}"]
    assert found(as_root, account="olga", outcome="done", q="key") == ["key-1 olga"]


@pytest.mark.usefixtures("rows")
def test_what_is_exported_is_whole_and_safe_for_readers(as_root) -> None:
    answer = as_root.get(reverse("audit_export"), {"account": "vera"})
    row = json.loads(b"".join(answer.streaming_content))
    assert row["revision_before"] == str(2**60) and row["command"] == "etcdctl put a b"
    assert row["at"] == "2026-05-03T23:59:00+00:00"


@pytest.mark.usefixtures("rows")
def test_the_page_keeps_the_filter_and_shows_hostile_names_as_text(as_root) -> None:
    text = as_root.get(reverse("audit"), {"cluster": "east", "since": "2026-05-03"}).text
    assert "key-3" in text and "key-1" not in text and "key-2" not in text
    assert "Export these rows" in text
    assert "/audit/export?cluster=east&amp;since=2026-05-03" in text
    assert HOSTILE not in text and "&lt;script&gt;" in text


@pytest.mark.usefixtures("rows")
def test_bad_days_are_told(as_root) -> None:
    text = as_root.get(reverse("audit"), {"since": "yesterday"}).text
    assert "A day is written as" in text and "key-1" in text


def test_older_pages_keep_the_filter(as_root) -> None:
    for number in range(60):
        AuditRow.objects.create(account_name="a", action="put", target=f"{number}")
    AuditRow.objects.create(account_name="b", action="put", target="other")
    text = as_root.get(reverse("audit"), {"account": "a"}).text
    assert "?account=a&amp;before=" in text and "other" not in text
