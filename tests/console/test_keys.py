"""Listing, reading and writing keys against a real cluster; traps of console.md §3 by number."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client as Browser
from django.urls import reverse

from console.gateway import Reader, Writer
from console.keys.byte_text import show
from console.keys.paging import PAGE_KEYS
from console.models import AuditRow, Cluster
from kvserver.client import CallFailed, Client
from kvserver.errors import Code
from tests.console.conftest import Store

ON_EVERY_SERVER = True

HOSTILE = {
    b"<script>alert(1)</script>": b"<img src=x onerror=alert(1)>",
    "\u202egpj.exe".encode(): "\u202eright to left".encode(),
    b"nul\x00key": b"\x00",
    b"\xff\xfe\x80": b"\xff\x00\xc3",
    b"empty": b"",
    b"'\"&quot;": b"'\"&amp;",
    b"../../etc": b"dots",
    b" blanks ": b" ",
    b"cr\r\nlf": b"a\r\nb",
    "äöü/日本".encode(): "größe".encode(),
    b"percent%20%ff": b"%",
    b"plus+&=#?": b"+",
}


def listed(browser: Browser, prefix: bytes = b"", **params: object) -> str:
    query = {"prefix": show(prefix), **params}
    answer = browser.get(reverse("keys", args=["one"]), query)
    assert answer.status_code == 200
    return answer.text


def page_of(browser: Browser, key: bytes, view: str = "key", **params: object):
    return browser.get(reverse(view, args=["one"]), {"key": show(key), **params})


def post_to(browser: Browser, key: bytes, view: str, fields: dict[str, object], **params: object):
    url = page_url(key, view, **params)
    return browser.post(url, fields)


def page_url(key: bytes, view: str, **params: object) -> str:
    from console.keys.addresses import key_url

    return key_url(Cluster(slug="one"), key, view, **params)


def plain(text: str) -> str:
    """What a reader sees: no tags, entities read."""
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def keys_on(text: str) -> list[str]:
    return [
        html.unescape(found)
        for found in re.findall(r'<th scope="row"><a class="mono" href="[^"]*">(.*?)</a>', text)
    ]


# --- listing ----------------------------------------------------------------------------------


def test_trap_5_every_key_is_listed_not_only_those_under_a_slash(as_viewer, store, prefix) -> None:
    store.put(b"\x00" + prefix, b"v")
    store.put(b"no-slash" + prefix, b"v")
    text = listed(as_viewer)
    assert show(b"\x00" + prefix) in keys_on(text)
    assert "[\\x00, ∞)" in plain(text)
    assert show(b"no-slash" + prefix) in keys_on(listed(as_viewer, b"no-slash"))


def test_trap_6_pages_are_one_picture_of_the_store(as_viewer, store: Store, prefix) -> None:
    """limit and key + NUL on the server; every page after the first at its revision."""
    names = [prefix + b"%03d" % number for number in range(2 * PAGE_KEYS + 5)]
    for name in names:
        store.put(name, b"v")
    seen: list[str] = []
    url = reverse("keys", args=["one"]) + f"?prefix={show(prefix)}"
    while url:
        text = as_viewer.get(url).text
        assert f"of {len(names)}" in plain(text)
        seen += keys_on(text)
        store.put(prefix + b"050-late-%d" % len(seen), b"v")
        store.delete(names[-1])
        link = re.search(r'href="([^"]*)" rel="next"', text)
        url = html.unescape(link[1]) if link else ""
    assert seen == [show(name) for name in names]


def test_trap_6_the_pinned_revision_is_shown_with_a_way_to_the_newest(as_viewer, store, prefix):
    for number in range(PAGE_KEYS + 1):
        store.put(prefix + b"%03d" % number, b"v")
    first = listed(as_viewer, prefix)
    link = html.unescape(re.search(r'href="([^"]*)" rel="next"', first)[1])
    pinned = parse_qs(urlsplit(link).query)["pin"][0]
    assert pinned == str(store.revision())
    store.put(prefix + b"zzz", b"v")
    second = as_viewer.get(link).text
    assert f"at revision {pinned}" in plain(second)
    assert ">newest</a>" in second
    assert "zzz" not in second
    assert "101 – 101 of 101" in plain(second)


def test_a_page_whose_revision_was_compacted_says_so(as_viewer, store: Store, prefix) -> None:
    for number in range(3):
        store.put(prefix + b"%d" % number, b"v")
    old = store.revision() - 1
    store.compact(store.revision())
    answer = as_viewer.get(
        reverse("keys", args=["one"]),
        {"prefix": show(prefix), "after": show(prefix + b"0"), "rev": old, "seen": 1},
    )
    assert answer.status_code == 410
    assert "OUT_OF_RANGE" in answer.text
    assert "Start at the newest revision" in answer.text


def test_trap_13_a_prefix_shows_the_exact_range_and_count(as_viewer, store, prefix) -> None:
    stem = prefix + b"app"
    for name in (stem, stem + b"/x", stem + b"le"):
        store.put(name, b"v")
    text = plain(listed(as_viewer, stem))
    assert f"[{show(stem)}, {show(stem[:-1])}q)" in text
    assert "3 keys" in text
    assert "1 key in" in " ".join(plain(listed(as_viewer, stem + b"/")).split())


@pytest.mark.parametrize(("key", "value"), HOSTILE.items())
def test_trap_4_hostile_bytes_are_shown_and_found_again(
    as_viewer, store, prefix, key, value
) -> None:
    name = prefix + key
    store.put(name, value)
    text = listed(as_viewer, prefix)
    assert keys_on(text) == [show(name)]
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    link = re.search(r'<th scope="row"><a class="mono" href="([^"]*)"', text)[1]
    page = as_viewer.get(html.unescape(link))
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text
    raw = page_of(as_viewer, name, "key_raw")
    assert raw.content == value


def test_the_three_empty_texts(as_viewer, as_editor, store, prefix) -> None:
    text = listed(as_viewer, prefix)
    assert "Nothing matches" in text
    assert "put this one" not in text
    assert "put this one" in listed(as_editor, prefix)


def test_a_prefix_that_is_not_byte_text_is_explained(as_viewer) -> None:
    answer = as_viewer.get(reverse("keys", args=["one"]), {"prefix": "\\"})
    assert answer.status_code == 400
    assert "a backslash is written" in answer.text


@pytest.mark.parametrize("rev", ["x", "-1", "99999999999999999999", "١"])
def test_a_revision_that_is_none_is_refused(as_viewer, rev) -> None:
    assert as_viewer.get(reverse("keys", args=["one"]), {"rev": rev}).status_code == 400


def test_values_too_large_for_one_message_leave_the_keys(as_viewer, store, prefix) -> None:
    for number in range(33):
        store.put(prefix + b"%02d" % number, b"x" * 1_040_000)
    text = listed(as_viewer, prefix)
    assert len(keys_on(text)) == 33
    assert "keys only" in text
    for number in range(33):
        store.delete(prefix + b"%02d" % number)


# --- one key ----------------------------------------------------------------------------------


def test_a_key_page_shows_its_metadata(as_viewer, store, prefix) -> None:
    created = store.put(prefix, b"one")
    modified = store.put(prefix, b'{"a": [1]}')
    text = plain(page_of(as_viewer, prefix).text)
    facts = " ".join(text.split())
    assert f"create {created} mod {modified} version 2 size 10" in facts
    assert '"a": [' in text


def test_a_key_at_an_older_revision(as_viewer, as_editor, store, prefix) -> None:
    old = store.put(prefix, b"first")
    store.put(prefix, b"second")
    text = page_of(as_editor, prefix, rev=old).text
    assert "first" in text
    assert "second" not in text
    assert "Back to the newest" in text
    assert "Put this version back" in text
    assert "Delete key" not in text


def test_decoders_are_a_click_away(as_viewer, store, prefix) -> None:
    store.put(prefix, b'{"a":1}')
    assert "7b 22 61" in page_of(as_viewer, prefix, **{"as": "hex"}).text
    assert '{"a":1}' in plain(page_of(as_viewer, prefix, **{"as": "text"}).text)


def test_trap_3_64_bit_numbers_keep_every_digit(as_viewer, store, prefix) -> None:
    lease = store.grant_lease(3600, 0x7FFF_FFFF_FFFF_FFF1)
    store.put(prefix, b'{"id":9007199254740993}', lease)
    text = page_of(as_viewer, prefix).text
    assert "7ffffffffffffff1" in text
    assert "9007199254740993" in plain(text)


def test_a_lease_counts_down(as_viewer, store, prefix) -> None:
    store.put(prefix, b"v", store.grant_lease(3600))
    assert re.search(r'data-countdown="3[56]\d\d"', page_of(as_viewer, prefix).text)


def test_a_missing_key_is_a_page_with_a_next_step(as_viewer, prefix) -> None:
    answer = page_of(as_viewer, prefix)
    assert answer.status_code == 404
    assert "There is no such key" in answer.text
    assert "Keys that begin with it" in answer.text


def test_downloads_are_attachments_in_a_sandbox(as_viewer, store, prefix) -> None:
    store.put(prefix + b'a"b\r\n<x>.html', b"<script>alert(1)</script>")
    answer = page_of(as_viewer, prefix + b'a"b\r\n<x>.html', "key_raw")
    assert answer["Content-Disposition"] == 'attachment; filename="a_b___x_.html"'
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_the_equivalent_command_is_shown(as_viewer, server, store, prefix) -> None:
    store.put(prefix, b"v")
    text = plain(page_of(as_viewer, prefix).text)
    assert f"etcdctl --endpoints={server.client_url} get {show(prefix)}" in text


# --- writing ----------------------------------------------------------------------------------


def test_what_was_typed_survives_a_refusal(as_editor, store, prefix) -> None:
    value = "x" * 1_600_000
    answer = as_editor.post(reverse("new_key", args=["one"]), {"key": show(prefix), "value": value})
    assert answer.status_code == 502
    assert "request is too large" in answer.text
    assert value in answer.text
    assert AuditRow.objects.get().outcome == "refused"


def test_a_put_without_an_answer_is_not_called_a_failure(as_editor, prefix, monkeypatch) -> None:
    """It may have happened. Sending it again is safe: the txn compares the revision."""

    def no_answer(self, pick, request, seconds):
        raise CallFailed(
            Code.DEADLINE_EXCEEDED, "Deadline Exceeded", "h", was_sent=True, is_write=True
        )

    monkeypatch.setattr(Client, "write", no_answer)
    fields = {"key": show(prefix), "value": "typed"}
    answer = as_editor.post(reverse("new_key", args=["one"]), fields)
    assert answer.status_code == 504
    assert "It is not known whether this was written" in answer.text
    assert "typed" in answer.text
    assert AuditRow.objects.get().outcome == "sent"


FORMS = {
    "rename_key": {"new": "/typed", "choice": "keep"},
    "duplicate_key": {"new": "/typed", "choice": "keep"},
    "grant_lease": {"ttl": "4711", "id": b"typed".hex()},
    "new_user": {"name": "typed", "password": "long enough", "again": "long enough"},
    "new_role": {"name": "typed"},
}


@pytest.mark.parametrize(("was_sent", "status"), [(False, 503), (True, 504)])
@pytest.mark.parametrize("view", FORMS)
def test_a_form_that_was_not_answered_comes_back_as_it_was_typed(
    as_admin, store, prefix, monkeypatch, view: str, was_sent: bool, status: int
) -> None:
    """Between two leaders, for instance: who waits a moment need not type it again."""
    base = store.put(prefix, b"v")
    address = reverse(view, args=["one"])
    if view.endswith("_key"):
        address += f"?key={show(prefix)}"

    def no_answer(self, pick, request, seconds):
        raise CallFailed(Code.UNAVAILABLE, "no leader", "e", was_sent=was_sent, is_write=True)

    monkeypatch.setattr(Client, "write", no_answer)
    answer = as_admin.post(address, {**FORMS[view], "base": base})
    assert answer.status_code == status
    for name, text in FORMS[view].items():
        if name not in ("choice", "password", "again"):
            assert f'value="{text}"' in answer.text
    assert "no leader" in answer.text
    assert AuditRow.objects.latest("id").outcome == ("sent" if was_sent else "failed")


def test_putting_a_new_key(as_editor, store, prefix) -> None:
    before = store.revision()
    fields = {"key": show(prefix), "value": "one\r\ntwo\r\n"}
    answer = as_editor.post(reverse("new_key", args=["one"]), fields, follow=True)
    assert store.get(prefix).value == b"one\ntwo\n"
    assert f"Put {show(prefix)} at revision {before + 1}." in plain(answer.text)
    row = AuditRow.objects.get()
    assert (row.account_name, row.cluster_name, row.action) == ("eddie", "one", "put key")
    assert (row.target, row.outcome) == (show(prefix), "done")
    assert (row.revision_before, row.revision_after) == (None, before + 1)
    assert row.command.startswith("etcdctl ")


def test_a_new_key_may_be_any_bytes(as_editor, store, prefix) -> None:
    name = prefix + b"\xff\x00\\x"
    as_editor.post(reverse("new_key", args=["one"]), {"key": show(name), "value": "v"})
    assert store.get(name).value == b"v"


def test_a_new_key_never_overwrites(as_editor, store, prefix) -> None:
    store.put(prefix, b"theirs")
    fields = {"key": show(prefix), "value": "mine"}
    answer = as_editor.post(reverse("new_key", args=["one"]), fields)
    assert answer.status_code == 409
    assert "the key exists already" in answer.text
    assert store.get(prefix).value == b"theirs"
    assert AuditRow.objects.get().outcome == "conflict"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"key": "", "value": "v"}, "at least one byte"),
        ({"key": "a\\", "value": "v"}, "backslash"),
        ({"key": "a", "value": "v", "lease": "xyz"}, "hexadecimal"),
        ({"key": "a", "value": "v", "lease": "7f00000000000001"}, "no lease with this id"),
    ],
)
def test_a_form_that_says_nothing_sensible(as_editor, fields, said: str) -> None:
    answer = as_editor.post(reverse("new_key", args=["one"]), fields)
    assert answer.status_code == 422
    assert said in answer.text


def edit(browser: Browser, key: bytes, value: str, base: int, step: str = "put", **more: object):
    fields = {"value": value, "base": base, "step": step, **more}
    return post_to(browser, key, "edit_key", fields)


def test_editing_shows_the_diff_and_then_puts(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"one\ntwo\n")
    form = page_of(as_editor, prefix, "edit_key").text
    assert f'name="base" value="{base}"' in form
    review = edit(as_editor, prefix, "one\r\nthree\r\n", base, "review")
    assert "two" in review.text
    assert "three" in review.text
    assert store.get(prefix).value == b"one\ntwo\n"  # nothing is written by looking
    assert edit(as_editor, prefix, "one\r\nthree\r\n", base).status_code == 302
    assert store.get(prefix).value == b"one\nthree\n"


@pytest.mark.parametrize(
    "value", [b"\nleading newline", b"</textarea><script>", b"&amp; &lt;", b"\t"]
)
def test_trap_4_an_untouched_edit_changes_no_byte(as_editor, store, prefix, value) -> None:
    base = store.put(prefix, value)
    form = page_of(as_editor, prefix, "edit_key").text
    area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", form, re.S)[1]
    edit(as_editor, prefix, html.unescape(area).replace("\n", "\r\n"), base)
    assert store.get(prefix).value == value


@pytest.mark.parametrize("value", [b"\xff", b"a\x00b", b"a\r\nb"])
def test_trap_4_a_value_that_would_not_come_back_is_not_edited(
    as_editor, store, prefix, value
) -> None:
    store.put(prefix, value)
    assert "is not offered for editing as text" in page_of(as_editor, prefix).text
    answer = page_of(as_editor, prefix, "edit_key")
    assert answer.status_code == 409
    assert "<textarea" not in answer.text


def test_trap_1_saving_keeps_the_lease(as_editor, store, prefix) -> None:
    lease = store.grant_lease(3600)
    base = store.put(prefix, b"one", lease)
    edit(as_editor, prefix, "two", base)
    found = store.get(prefix)
    assert (found.value, found.lease) == (b"two", lease)


def test_trap_1_detaching_is_an_explicit_choice(as_editor, store, prefix) -> None:
    lease = store.grant_lease(3600)
    base = store.put(prefix, b"one", lease)
    assert "Detach it" in page_of(as_editor, prefix, "edit_key").text
    review = edit(as_editor, prefix, "two", base, "review", detach="1")
    assert "is detached" in review.text
    edit(as_editor, prefix, "two", base, detach="1")
    assert store.get(prefix).lease == 0


def test_trap_2_a_change_in_between_is_a_conflict_with_base_theirs_and_yours(
    as_editor, store, prefix
) -> None:
    base = store.put(prefix, b"base line\n")
    theirs = store.put(prefix, b"their line\n")
    answer = edit(as_editor, prefix, "your line\n", base)
    assert answer.status_code == 409
    assert store.get(prefix).value == b"their line\n"
    text = plain(answer.text)
    for line in ("base line", "their line", "your line"):
        assert line in text
    assert f"it is now at {theirs}" in text
    row = AuditRow.objects.get()
    assert (row.outcome, row.revision_before) == ("conflict", base)


def test_trap_2_putting_yours_over_theirs_is_guarded_by_theirs(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"base\n")
    store.put(prefix, b"theirs\n")
    text = edit(as_editor, prefix, "yours\n", base).text
    over = int(re.search(r'name="base" value="(\d+)"', text)[1])
    store.put(prefix, b"third\n")
    assert edit(as_editor, prefix, "yours\n", over).status_code == 409
    assert store.get(prefix).value == b"third\n"


def test_trap_2_a_key_deleted_meanwhile_is_not_made_anew(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"one")
    store.delete(prefix)
    answer = edit(as_editor, prefix, "two", base)
    assert answer.status_code == 409
    assert "the key was deleted" in answer.text
    assert store.get(prefix) is None


def test_a_base_that_was_compacted_is_a_conflict_without_it(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"base")
    store.put(prefix, b"theirs")
    store.compact(store.revision())
    answer = edit(as_editor, prefix, "yours", base)
    assert answer.status_code == 409
    assert "has been compacted away" in answer.text


def test_trap_11_deleting_needs_a_confirmation_that_names_the_key(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"v")
    page = page_of(as_editor, prefix, "delete_key")
    assert show(prefix) in page.text
    assert f'name="base" value="{base}"' in page.text
    assert store.get(prefix) is not None
    assert post_to(as_editor, prefix, "delete_key", {}).status_code == 400
    assert store.get(prefix) is not None
    post_to(as_editor, prefix, "delete_key", {"base": base})
    assert store.get(prefix) is None
    assert AuditRow.objects.get().action == "delete key"


def test_trap_10_a_key_that_was_not_deleted_is_still_shown(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"v")
    store.put(prefix, b"changed")
    answer = post_to(as_editor, prefix, "delete_key", {"base": base})
    assert answer.status_code == 409
    assert "Nothing was deleted" in answer.text
    assert keys_on(listed(as_editor, prefix)) == [show(prefix)]


def undo(browser: Browser, page: str):
    """Press Undo in the toast on a page."""
    return browser.post(html.unescape(re.search(r'action="([^"]*/key/undo[^"]*)"', page)[1]))


def test_undoing_an_edit_puts_the_old_value_back(as_editor, store, prefix) -> None:
    lease = store.grant_lease(3600)
    base = store.put(prefix, b"one", lease)
    edit(as_editor, prefix, "two", base, detach="1")
    undo(as_editor, page_of(as_editor, prefix).text)
    found = store.get(prefix)
    assert (found.value, found.lease) == (b"one", lease)


def test_undoing_a_new_key_and_a_delete(as_editor, store, prefix) -> None:
    as_editor.post(reverse("new_key", args=["one"]), {"key": show(prefix), "value": "v"})
    undo(as_editor, page_of(as_editor, prefix).text)
    assert store.get(prefix) is None
    as_editor.get(reverse("keys", args=["one"]))  # the toasts are read
    base = store.put(prefix, b"\xff binary")
    post_to(as_editor, prefix, "delete_key", {"base": base})
    undo(as_editor, listed(as_editor))
    assert store.get(prefix).value == b"\xff binary"


def test_undo_does_nothing_when_somebody_wrote_since(as_editor, store, prefix) -> None:
    base = store.put(prefix, b"one")
    edit(as_editor, prefix, "two", base)
    page = page_of(as_editor, prefix).text
    store.put(prefix, b"three")
    undo(as_editor, page)
    assert store.get(prefix).value == b"three"
    assert "nothing was undone" in page_of(as_editor, prefix).text


def test_trap_12_no_page_that_is_opened_writes(as_admin, store: Store, prefix) -> None:
    """Not a revision and not even a raft entry: asking for alarms would be one."""
    store.put(prefix, b"v")
    urls = [reverse("overview", args=["one"]), reverse("overview_live", args=["one"])]
    bare = ("keys", "new_key", "key_search", "import_keys", "export_keys", "build_txn")
    urls += [reverse(name, args=["one"]) for name in bare]
    about = ("key", "key_raw", "edit_key", "delete_key", "rename_key", "duplicate_key")
    urls += [page_url(prefix, name) for name in about]
    ranges = ("delete_range", "rewind", "key_search")
    tail = f"?prefix={show(prefix)}&q=x&to={store.revision()}"
    urls += [reverse(name, args=["one"]) + tail for name in ranges]
    before = store.raft_index()
    for url in urls:
        assert as_admin.get(url).status_code == 200
    assert store.raft_index() == before


def test_trap_12_a_reader_has_no_way_to_write() -> None:
    writes = set(vars(Writer)) - set(vars(Reader)) - {"__doc__", "__module__"}
    assert {"put", "delete"} <= writes
    assert not any(hasattr(Reader, name) for name in ("put", "delete", "_guarded"))
    import inspect

    assert ".write(" not in inspect.getsource(Reader)
