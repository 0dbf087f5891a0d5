"""History pages against real servers: versions, revisions, deleted keys, putting back."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console import gateway
from console.gateway import events
from console.gateway.records import Event, History, Key
from console.history.versions import versions, window
from console.keys.addresses import key_url
from console.keys.byte_text import show
from console.models import AuditRow, Cluster
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store
from tests.console.test_keys import HOSTILE, plain

ON_EVERY_SERVER = True


def words(text: str) -> str:
    """What a reader sees of the page itself, in one line."""
    page = re.sub(r"</(td|th|div|a|p|h\d|button)>", r" \g<0>", text[text.index("<main") :])
    return " ".join(plain(page).split())


def get(browser: Browser, key: bytes, view: str = "key_history", **params: object) -> str:
    answer = browser.get(key_url(Cluster(slug="one"), key, view, **params))
    assert answer.status_code == 200, words(answer.text)
    return answer.text


def rows(text: str) -> list[str]:
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    return [words("<main>" + row) for row in body.split("</tr>") if row.strip()]


# --- versions of a key --------------------------------------------------------------------------


def test_every_version_and_both_lives_are_listed(as_viewer, store: Store, prefix) -> None:
    first = store.put(prefix, b"one")
    second = store.put(prefix, b"two")
    gone = store.delete(prefix)
    again = store.put(prefix, b"three")
    store.put(prefix + b"other", b"v")
    assert rows(get(as_viewer, prefix)) == [
        f"1 current {again} created 5 B – diff",
        f"– deleted {gone} deleted – – diff",
        f"2 old {second} put 3 B – diff",
        f"1 old {first} created 3 B –",
    ]


def test_trap_7_a_compacted_cluster_still_has_a_history(as_viewer, store: Store, prefix) -> None:
    old = store.put(prefix, b"one")
    other = store.put(prefix + b"x", b"v")
    new = store.put(prefix, b"two")
    store.compact(other)
    text = get(as_viewer, prefix)
    assert rows(text) == [
        f"2 current {new} put 3 B – diff",
        f"1 old {old} as it stood when revision {other} was compacted 3 B –",
    ]
    assert f"compacted ≤ {other}" in words(text)
    assert f"Everything up to revision {other} has been compacted" in words(text)


def test_a_key_deleted_before_the_window_is_said_to_be_unknown(as_viewer, store, prefix) -> None:
    store.put(prefix, b"one")
    store.delete(prefix)
    store.compact(store.revision())
    text = words(get(as_viewer, prefix))
    assert "No history of this key" in text
    assert "has been compacted away" in text


def test_a_deleted_key_keeps_its_history(as_viewer, as_editor, store, prefix) -> None:
    store.put(prefix, b"one")
    gone = store.delete(prefix)
    assert rows(get(as_viewer, prefix))[0] == f"– deleted {gone} deleted – – diff"
    assert "put back…" in get(as_editor, prefix)
    assert "put back…" not in get(as_viewer, prefix)


def test_any_two_versions_are_compared_whichever_comes_first(as_viewer, store, prefix) -> None:
    a = store.put(prefix, b"same\nold\n")
    store.put(prefix, b"between\n")
    b = store.put(prefix, b"same\nnew\n")
    for pair in ({"a": a, "b": b}, {"a": b, "b": a}):
        text = words(get(as_viewer, prefix, **pair))
        assert f"Revision {a} → {b}" in text
        assert "same −old +new" in text


def test_a_comparison_with_a_deletion_says_so(as_viewer, store, prefix) -> None:
    a, b = store.put(prefix, b"one"), store.delete(prefix)
    text = words(get(as_viewer, prefix, a=a, b=b))
    assert f"The key did not exist at revision {b}" in text


@pytest.mark.parametrize(("key", "value"), HOSTILE.items())
def test_hostile_keys_have_a_history_that_is_only_text(as_viewer, store, prefix, key, value):
    name = prefix + key
    a, b = store.put(name, b"x"), store.put(name, value)
    text = get(as_viewer, name, a=a, b=b)
    for page in (text, as_viewer.get(reverse("revision", args=["one", b])).text):
        assert show(name) in html.unescape(page)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "\u202e" not in page


def test_what_does_not_fit_is_left_out_from_the_old_end(
    as_viewer, store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(events, "EVENTS_MAX", 3)
    made = [store.put(prefix, b"%d" % number) for number in range(5)]
    text = get(as_viewer, prefix)
    assert [int(row.split()[2]) for row in rows(text)] == made[:1:-1]
    assert "2 older ones do not fit" in words(text)


def test_a_reading_that_runs_out_of_time_says_how_far_it_came(
    as_viewer, store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(events, "HISTORY_SECONDS", 0.0)
    store.put(prefix, b"one")
    store.delete(prefix)
    text = words(get(as_viewer, prefix))
    assert "The time for reading history ran out" in text
    assert "current" not in text


# --- putting back -------------------------------------------------------------------------------


def restore(browser: Browser, key: bytes, rev: int, fields: dict[str, object]):
    return browser.post(key_url(Cluster(slug="one"), key, "restore_key", rev=rev), fields)


def test_an_old_version_is_put_back_by_a_guarded_txn(as_editor, store: Store, prefix) -> None:
    old, base = store.put(prefix, b"\x00\xff old"), store.put(prefix, b"new")
    assert "Put back version 1" in get(as_editor, prefix, "restore_key", rev=old)
    assert store.get(prefix).value == b"new", "a GET writes nothing (trap 12)"
    assert restore(as_editor, prefix, old, {"base": base, "lease": "none"}).status_code == 302
    assert store.get(prefix).value == b"\x00\xff old"
    row = AuditRow.objects.latest("id")
    assert (row.action, row.outcome, row.revision_before) == ("put back key", "done", base)
    assert row.revision_after == base + 1
    assert 'mod("' in row.command


def test_putting_back_over_a_newer_write_writes_nothing(as_editor, store, prefix) -> None:
    old, base = store.put(prefix, b"old"), store.put(prefix, b"new")
    store.put(prefix, b"newer")
    answer = restore(as_editor, prefix, old, {"base": base, "lease": "none"})
    assert answer.status_code == 409
    assert "Nothing was written: the key changed" in words(answer.text)
    assert store.get(prefix).value == b"newer"
    assert AuditRow.objects.latest("id").outcome == "conflict"


def test_a_deleted_key_is_put_back_as_a_new_one(as_editor, store, prefix) -> None:
    old = store.put(prefix, b"old")
    store.delete(prefix)
    assert "as a new key" in get(as_editor, prefix, "restore_key", rev=old)
    restore(as_editor, prefix, old, {"base": 0, "lease": "none"})
    assert store.get(prefix).value == b"old"
    assert restore(as_editor, prefix, old, {"base": 0, "lease": "none"}).status_code == 409


@pytest.mark.parametrize("choice", ["keep", "old", "none"])
def test_trap_1_the_lease_is_an_explicit_choice(as_editor, store, prefix, choice) -> None:
    first, second = store.grant_lease(600), store.grant_lease(600)
    old = store.put(prefix, b"old", first)
    base = store.put(prefix, b"new", second)
    text = get(as_editor, prefix, "restore_key", rev=old)
    assert f"{first:x}" in text
    assert f"{second:x}" in text
    restore(as_editor, prefix, old, {"base": base, "lease": choice})
    assert store.get(prefix).lease == {"keep": second, "old": first, "none": 0}[choice]


def test_a_version_that_never_was_cannot_be_put_back(as_editor, store, prefix) -> None:
    before = store.revision()
    store.put(prefix, b"v")
    url = key_url(Cluster(slug="one"), prefix, "restore_key", rev=before)
    assert as_editor.get(url).status_code == 404


# --- ranges and revisions -----------------------------------------------------------------------


def range_page(browser: Browser, prefix: bytes, **params: object) -> str:
    answer = browser.get(reverse("history", args=["one"]), {"prefix": show(prefix), **params})
    assert answer.status_code == 200
    return answer.text


def test_the_changes_of_a_range_newest_first(as_viewer, store, prefix) -> None:
    a = store.put(prefix + b"a", b"1")
    b = store.put(prefix + b"b", b"22")
    gone = store.delete(prefix + b"a")
    assert rows(range_page(as_viewer, prefix)) == [
        f"{gone} delete {show(prefix)}a – –",
        f"{b} create {show(prefix)}b 1 2 B",
        f"{a} create {show(prefix)}a 1 1 B",
    ]


def test_changes_are_read_block_by_block(as_viewer, store, prefix, monkeypatch) -> None:
    monkeypatch.setattr("console.history.views_range.BLOCK_REVISIONS", 3)
    made = [store.put(prefix + b"%d" % number, b"v") for number in range(7)]
    seen: list[int] = []
    url = reverse("history", args=["one"]) + f"?prefix={show(prefix)}"
    while len(seen) < len(made):
        text = as_viewer.get(url).text
        seen += [int(row.split()[0]) for row in rows(text)]
        url = html.unescape(re.search(r'href="([^"]*)" rel="next"', text)[1])
    assert seen == made[::-1]


def test_deleted_keys_are_found_unless_they_are_back(as_editor, store, prefix) -> None:
    for name in (b"back", b"gone", b"stays"):
        store.put(prefix + name, b"value")
    gone = store.delete(prefix + b"gone")
    store.delete(prefix + b"back")
    store.put(prefix + b"back", b"v")
    text = range_page(as_editor, prefix, show="deleted")
    assert rows(text) == [f"{show(prefix)}gone {gone} 5 B put back…"]
    link = html.unescape(re.search(r'<a href="([^"]*restore[^"]*)"', text)[1])
    assert as_editor.post(link, {"base": 0, "lease": "none"}).status_code == 302
    assert store.get(prefix + b"gone").value == b"value"
    assert "No deleted keys" in range_page(as_editor, prefix, show="deleted")


def test_a_revision_shows_every_key_of_its_txn_before_and_after(as_viewer, store, prefix) -> None:
    store.put(prefix + b"a", b"old\n")
    store.put(prefix + b"c", b"gone\n")
    ops = [
        rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=prefix + b"a", value=b"new\n")),
        rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=prefix + b"b", value=b"made\n")),
        rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=prefix + b"c")),
    ]
    request = rpc_pb2.TxnRequest(success=ops)
    revision = store.client.write(lambda s: s.kv.Txn, request, CALL_SECONDS_MAX).header.revision
    store.put(prefix + b"d", b"later")
    text = words(as_viewer.get(reverse("revision", args=["one", revision])).text)
    assert "one txn changed 3 keys" in text
    for piece in ("put " + show(prefix) + "a", "−old +new", "+made", "−gone"):
        assert piece in text
    assert "later" not in text


def test_revisions_that_are_not_there(as_viewer, store, prefix) -> None:
    store.put(prefix, b"v")
    newest = store.put(prefix, b"v")
    store.compact(newest - 1)
    for revision, status, said in (
        (newest, 200, "one txn changed 1 key"),
        (newest + 1, 404, "has not happened yet"),
        (newest - 1, 410, "This revision has been compacted"),
        (1, 410, "This revision has been compacted"),
        (2**63, 400, "This is no revision"),
        (0, 400, "This is no revision"),
    ):
        answer = as_viewer.get(reverse("revision", args=["one", revision]))
        assert (answer.status_code, said in words(answer.text)) == (status, True), revision


# --- pure ---------------------------------------------------------------------------------------


def key_at(revision: int, version: int = 1) -> Key:
    return Key(b"k", b"v", revision - version + 1, revision, version, 0)


def covered(*found: Event, left_out: int = 0) -> History:
    return History(found, 5, 4, 9, 9, left_out, True)


def test_the_kept_version_is_not_joined_to_what_was_left_out() -> None:
    event = Event(9, b"k", False, key_at(9, 5), None)
    assert [row.older for row in versions(covered(event), key_at(3), is_newest_known=True)] == [
        3,
        0,
    ]
    cut = versions(covered(event, left_out=2), key_at(3), is_newest_known=True)
    assert [row.older for row in cut] == [0]


def test_nothing_is_current_when_the_end_was_not_read() -> None:
    event = Event(9, b"k", False, key_at(9), None)
    [row] = versions(covered(event), None, is_newest_known=False)
    assert row.state == "old"


@pytest.mark.parametrize(("compacted", "newest"), [(0, 1), (0, 10**12), (7, 7), (7, 8)])
def test_ticks_stay_on_the_bar(compacted: int, newest: int) -> None:
    bar = window(compacted, newest, range(max(1, newest - 3), newest + 2))
    assert all(bar.bar_start <= tick < 1000 for tick in bar.ticks)
    assert bool(bar.ticks) == (newest > compacted)


def test_the_gateway_offers_no_write_to_who_reads() -> None:
    assert not hasattr(gateway.Reader, "put")
