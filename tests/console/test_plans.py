"""Plan → review → apply → undo: names, leases, ranges and rewinds, against real servers."""

from __future__ import annotations

import html
import re

import pytest
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from console.gateway.records import Key, Part
from console.keys import batches
from console.keys.addresses import key_url
from console.keys.batches import Change, batched
from console.keys.byte_text import show
from console.keys.merge import merge
from console.keys.paging import FROM_NUL, KeyRange
from console.keys.rewind import differences, walk
from console.maintenance import work
from console.models import AuditRow, Cluster
from tests.console.conftest import SLOW_MACHINE, Store

ON_EVERY_SERVER = True


@pytest.fixture(autouse=True)
def jobs_are_done_at_once(monkeypatch) -> None:
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))


def url(view: str, key: bytes | None = None) -> str:
    return key_url(Cluster(slug="one"), key, view) if key else reverse(view, args=["one"])


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


def hidden(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
    return {name: html.unescape(value) for name, value in found}


# --- rename, duplicate ----------------------------------------------------------------------------


def test_a_rename_is_one_txn_and_keeps_bytes_and_lease(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    base = store.put(prefix + b"old", b"\xff\x00\r", lease)
    new = prefix + b"\xffnew"
    fields = {"new": show(new), "base": base, "choice": "keep"}
    answer = as_editor.post(url("rename_key", prefix + b"old"), fields)
    assert answer.status_code == 302
    found = store.get(new)
    assert (found.value, found.lease) == (b"\xff\x00\r", lease)
    assert store.get(prefix + b"old") is None
    assert store.revision() == base + 1  # one revision: nobody saw both or neither
    row = AuditRow.objects.get()
    assert (row.action, row.outcome, row.revision_after) == ("rename key", "done", base + 1)
    assert "del" in row.command


@pytest.mark.parametrize("view", ["rename_key", "duplicate_key"])
def test_a_name_that_is_taken_or_a_key_that_changed_is_a_conflict(
    as_editor, store: Store, prefix, view
) -> None:
    base = store.put(prefix + b"a", b"mine")
    store.put(prefix + b"b", b"theirs")
    answer = as_editor.post(url(view, prefix + b"a"), {"new": show(prefix + b"b"), "base": base})
    assert answer.status_code == 409
    assert "already" in answer.text
    store.put(prefix + b"a", b"changed")
    answer = as_editor.post(url(view, prefix + b"a"), {"new": show(prefix + b"c"), "base": base})
    assert answer.status_code == 409
    assert "the key changed" in answer.text
    assert store.get(prefix + b"b").value == b"theirs"
    assert store.get(prefix + b"c") is None
    assert [row.outcome for row in AuditRow.objects.all()] == ["conflict", "conflict"]


def test_a_duplicate_with_each_choice_of_lease(as_editor, store: Store, prefix) -> None:
    held, other = store.grant_lease(3600), store.grant_lease(3600)
    base = store.put(prefix + b"a", b"v", held)
    for choice, wanted in (("keep", held), ("detach", 0), ("attach", other)):
        new = prefix + choice.encode()
        fields = {"new": show(new), "base": base, "choice": choice, "lease": f"{other:x}"}
        assert as_editor.post(url("duplicate_key", prefix + b"a"), fields).status_code == 302
        assert store.get(new).lease == wanted
    assert store.get(prefix + b"a").lease == held
    page = as_editor.get(url("key", prefix + b"attach")).text
    as_editor.post(html.unescape(re.search(r'action="([^"]*/key/undo[^"]*)"', page)[1]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"new": ""}, "at least one byte"),
        ({"new": "a\\"}, "backslash"),
        ({"choice": "attach", "lease": "xyz"}, "hexadecimal"),
        ({"choice": "attach", "lease": ""}, "hexadecimal"),
        ({"choice": "attach", "lease": "7f00000000000001"}, "no lease with this id"),
    ],
)
def test_a_copy_that_makes_no_sense(as_editor, store, prefix, fields, said) -> None:
    base = store.put(prefix, b"v")
    given_fields = {"new": show(prefix) + "x", "base": base, **fields}
    answer = as_editor.post(url("duplicate_key", prefix), given_fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert store.revision() == base


# --- the lease of an edit -------------------------------------------------------------------------


def test_trap_1_an_edit_keeps_attaches_or_detaches_as_chosen(as_editor, store, prefix) -> None:
    one, two = store.grant_lease(3600), store.grant_lease(3600)
    base = store.put(prefix, b"v", one)
    for choice, wanted in (("keep", one), ("attach", two), ("keep", two), ("detach", 0)):
        fields = {"value": choice, "base": base, "step": "review", "choice": choice}
        fields |= {"lease": f"{two:x}"}
        review = as_editor.post(url("edit_key", prefix), fields)
        assert review.status_code == 200
        assert f'name="choice" value="{choice}"' in review.text
        assert as_editor.post(url("edit_key", prefix), fields | {"step": "put"}).status_code == 302
        found = store.get(prefix)
        assert (found.value, found.lease) == (choice.encode(), wanted)
        base = found.mod_revision


# --- two edits at once ----------------------------------------------------------------------------


def test_two_edits_that_do_not_meet_are_put_together(as_editor, store: Store, prefix) -> None:
    base = store.put(prefix, b"one\ntwo\nthree\nfour\n")
    theirs = store.put(prefix, b"ONE\ntwo\nthree\nfour\n")
    fields = {"value": "one\ntwo\nthree\nFOUR\n", "base": base, "step": "put"}
    answer = as_editor.post(url("edit_key", prefix), fields)
    assert answer.status_code == 409
    merged = re.search(r"<textarea[^>]*>\n(ONE.*?)</textarea>", answer.text, re.S)[1]
    assert merged == "ONE\ntwo\nthree\nFOUR\n"
    review = as_editor.post(
        url("edit_key", prefix), {"value": merged, "base": theirs, "step": "review"}
    )
    assert review.status_code == 200
    assert store.get(prefix).value == b"ONE\ntwo\nthree\nfour\n"  # not written by itself
    fields["value"] = "mine\ntwo\nthree\nfour\n"
    assert "put together" not in as_editor.post(url("edit_key", prefix), fields).text


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n"]), max_size=6).map("".join)


@settings(deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(LINES, LINES)
def test_a_merge_with_one_edit_is_that_edit(base, edited) -> None:
    assert merge(base, edited, base) == merge(base, base, edited) == edited
    assert merge(base, edited, edited) == edited


@pytest.mark.parametrize(
    ("theirs", "yours", "merged"),
    [
        ("A\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nD\n"),
        ("b\nc\nd\n", "a\nb\nc\nd\ne\n", "b\nc\nd\ne\n"),
        ("A\nb\nc\nd\n", "X\nb\nc\nd\n", None),
        ("A\nb\nc\nd\n", "a\nB\nc\nd\n", None),  # they touch
        ("x\na\nb\nc\nd\n", "y\na\nb\nc\nd\n", None),
    ],
)
def test_edits_that_meet_are_left_to_a_person(theirs, yours, merged) -> None:
    assert merge("a\nb\nc\nd\n", theirs, yours) == merged
    assert merge("a\nb\nc\nd\n", yours, theirs) == merged


# --- delete a range -------------------------------------------------------------------------------


def test_trap_13_a_range_delete_shows_exact_bounds_count_and_sample(
    as_editor, store: Store, prefix
) -> None:
    for number in range(30):
        store.put(prefix + b"%02d" % number, b"v")
    beside = prefix[:-1] + b"0"  # the first key beyond the prefix
    store.put(beside, b"stays")
    before = store.revision()
    page = as_editor.get(url("delete_range"), {"prefix": show(prefix)})
    text = plain(page.text)
    assert f"[{show(prefix)}, {show(beside)})" in text
    assert "Delete 30 keys" in text
    assert "The first 20" in text
    assert store.revision() == before  # looking deletes nothing
    assert as_editor.post(url("delete_range"), hidden(page.text)).status_code == 200
    assert store.revision() == before  # neither does a form without its verb
    done = as_editor.post(url("delete_range"), {**hidden(page.text), "step": "start"})
    assert "30 keys deleted" in plain(done.text)
    assert store.revision() == before + 1
    assert store.get(beside).value == b"stays"
    row = AuditRow.objects.get()
    assert (row.action, row.outcome, row.detail) == ("delete range", "done", "30 keys deleted")
    undo = html.unescape(re.search(r'href="([^"]*/keys/rewind[^"]*)"', done.text)[1])
    plan = as_editor.get(undo)
    assert "30 come back" in plain(plan.text)
    as_editor.post(url("rewind"), {**hidden(plan.text), "step": "start"})
    assert store.get(prefix + b"29").value == b"v"
    store.delete(beside)


def test_a_range_delete_names_the_leases_of_its_sample(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    store.put(prefix + b"held", b"v", lease)
    page = as_editor.get(url("delete_range"), {"prefix": show(prefix)})
    assert f"{lease:x}" in page.text


def test_a_range_that_was_written_meanwhile_is_not_deleted(as_editor, store, prefix) -> None:
    store.put(prefix + b"a", b"v")
    page = as_editor.get(url("delete_range"), {"prefix": show(prefix)}).text
    store.put(prefix + b"b", b"new")
    answer = as_editor.post(url("delete_range"), {**hidden(page), "step": "start"})
    assert answer.status_code == 409
    assert "Nothing was deleted" in answer.text
    assert "Delete 2 keys" in plain(answer.text)
    assert store.get(prefix + b"a") is not None
    assert AuditRow.objects.get().outcome == "conflict"


def test_trap_11_production_asks_for_the_clusters_name(
    as_editor, store, prefix, cluster: Cluster
) -> None:
    cluster.environment = Cluster.Environment.PRODUCTION
    cluster.save()
    old = store.put(prefix + b"a", b"v")
    store.put(prefix + b"a", b"w")
    for view, more in (("rewind", {"to": str(old)}), ("delete_range", {})):
        page = as_editor.get(url(view), {"prefix": show(prefix), **more}).text
        assert "marked production" in page
        for typed in ("", "other"):
            fields = {**hidden(page), "step": "start", "confirm": typed}
            assert as_editor.post(url(view), fields).status_code == 422
        assert store.get(prefix + b"a") is not None
        as_editor.post(url(view), {**hidden(page), "step": "start", "confirm": "one"})
    assert store.get(prefix + b"a") is None
    assert AuditRow.objects.count() == 2


def test_a_range_by_its_bounds(as_editor, store, prefix) -> None:
    for name in (b"a", b"b", b"c"):
        store.put(prefix + name, b"v")
    params = {"start": show(prefix + b"a"), "end": show(prefix + b"c")}
    page = as_editor.get(url("delete_range"), params)
    assert "Delete 2 keys" in plain(page.text)
    as_editor.post(url("delete_range"), {**hidden(page.text), "step": "start"})
    assert store.get(prefix + b"c") is not None
    assert as_editor.get(url("delete_range")).status_code == 400
    assert as_editor.get(url("delete_range"), {"start": "a"}).status_code == 400


# --- rewind ---------------------------------------------------------------------------------------


def test_a_rewind_brings_back_changes_and_removes(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    store.put(prefix + b"same", b"1")
    store.put(prefix + b"changed", b"\xff old", lease)
    to = store.put(prefix + b"gone", b"back", lease)
    store.put(prefix + b"changed", b"new")
    store.delete(prefix + b"gone")
    store.put(prefix + b"added", b"later")
    page = as_editor.get(url("rewind"), {"prefix": show(prefix), "to": to})
    text = plain(page.text)
    assert f"Bring 3 keys of one back to revision {to}" in text
    assert "1 come back, 1 change, 1 that did not exist then go, 1 stay" in text
    done = as_editor.post(url("rewind"), {**hidden(page.text), "step": "start"}, follow=True)
    assert "3 keys written" in plain(done.text)
    assert store.get(prefix + b"changed").value == b"\xff old"
    assert store.get(prefix + b"changed").lease == 0
    assert store.get(prefix + b"gone").value == b"back"
    assert store.get(prefix + b"added") is None
    row = AuditRow.objects.get()
    assert (row.action, row.outcome) == ("rewind range", "done")
    undo = html.unescape(re.search(r'href="([^"]*/keys/rewind[^"]*)"', done.text)[1])
    plan = as_editor.get(undo).text
    as_editor.post(url("rewind"), {**hidden(plan), "step": "start", "leases": "old"})
    assert store.get(prefix + b"added").value == b"later"
    assert store.get(prefix + b"gone") is None


def test_trap_1_a_rewind_keeps_the_lease_a_key_has(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    to = store.put(prefix + b"held", b"old", lease)
    store.put(prefix + b"held", b"new", lease)
    page = as_editor.get(url("rewind"), {"prefix": show(prefix), "to": to}).text
    as_editor.post(url("rewind"), {**hidden(page), "step": "start"})
    found = store.get(prefix + b"held")
    assert (found.value, found.lease) == (b"old", lease)


def test_a_rewind_takes_old_leases_only_when_asked_and_alive(as_editor, store, prefix) -> None:
    lease = store.grant_lease(3600)
    to = store.put(prefix + b"a", b"v", lease)
    store.put(prefix + b"a", b"w")
    page = as_editor.get(url("rewind"), {"prefix": show(prefix), "to": to}).text
    as_editor.post(url("rewind"), {**hidden(page), "step": "start", "leases": "old"})
    assert store.get(prefix + b"a").lease == lease


def test_a_batch_with_a_conflict_is_left_out_and_named(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(batches, "OPS_MAX", 2)
    for number in range(6):
        store.put(prefix + b"%d" % number, b"old")
    to = store.revision()
    for number in range(6):
        store.put(prefix + b"%d" % number, b"new")
    page = as_editor.get(url("rewind"), {"prefix": show(prefix), "to": to}).text
    store.put(prefix + b"3", b"somebody else's")
    done = as_editor.post(url("rewind"), {**hidden(page), "step": "start"}, follow=True)
    text = plain(done.text)
    assert "partly done" in text
    assert "4 keys written" in text
    assert f"conflict changed: {show(prefix)}3" in text
    values = [store.get(prefix + b"%d" % number).value for number in range(6)]
    assert values == [b"old", b"old", b"new", b"somebody else's", b"old", b"old"]
    assert sorted(row.outcome for row in AuditRow.objects.all()) == ["conflict", "done", "done"]


def test_a_rewind_behind_the_compaction_says_so(as_editor, store, prefix) -> None:
    old = store.put(prefix, b"v")
    store.put(prefix, b"w")
    store.compact(store.revision())
    answer = as_editor.get(url("rewind"), {"prefix": show(prefix), "to": old})
    assert answer.status_code == 410


def test_a_rewind_of_too_many_keys_is_refused(as_editor, store, prefix, monkeypatch) -> None:
    monkeypatch.setattr("console.keys.views_rewind.KEYS_MAX", 2)
    for number in range(3):
        store.put(prefix + b"%d" % number, b"v")
    params = {"prefix": show(prefix), "to": store.revision()}
    answer = as_editor.get(url("rewind"), params)
    assert answer.status_code == 422
    assert "longer prefix" in answer.text
    assert "To revision" in as_editor.get(url("rewind"), {"prefix": show(prefix)}).text


# --- the arithmetic -------------------------------------------------------------------------------

STORES = st.dictionaries(st.binary(min_size=1, max_size=2), st.integers(1, 3), max_size=30)


@settings(deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(STORES, STORES)
def test_differences_are_those_of_the_two_states(old, now) -> None:
    def ask(keys: KeyRange, limit: int, revision: int) -> Part:
        state = old if revision == 1 else now
        inside = sorted(key for key in state if key in keys)
        found = tuple(Key(key, None, 1, state[key], 1, 0) for key in inside[:3])
        return Part(found, len(inside), 9, len(inside) > 3)

    everything = KeyRange(FROM_NUL, FROM_NUL)
    found = list(differences(walk(ask, everything, 1), walk(ask, everything, 2)))
    changed = [one for one in found if one is not None]
    keys = sorted(old.keys() | now.keys())
    assert len(found) == len(keys)
    assert [one.key for one in changed] == [k for k in keys if old.get(k) != now.get(k)]
    for one in changed:
        kinds = {(True, True): "change", (True, False): "create", (False, True): "delete"}
        assert one.kind == kinds[one.key in old, one.key in now]


@settings(deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(st.lists(st.sampled_from([0, 9, 90_000, 400_000, 2_000_000]), max_size=300))
def test_batches_are_bounded_and_lose_nothing(sizes) -> None:
    changes = [Change(b"%d" % n, 0, bytes(size)) for n, size in enumerate(sizes)]
    found = list(batched(changes))
    assert [change for batch in found for change in batch] == changes
    for batch in found:
        assert len(batch) <= batches.OPS_MAX
        assert len(batch) == 1 or sum(c.size_bytes for c in batch) <= batches.BYTES_MAX
