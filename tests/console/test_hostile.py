"""Keys, values and names are hostile input everywhere they are shown (console.md §7): every page
of the data side, with each of them on it."""

from __future__ import annotations

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser
from django.urls import reverse

from console.keys.addresses import query_url
from console.keys.byte_text import show
from console.maintenance import work
from console.models import Cluster
from tests.console.conftest import Store
from tests.console.test_keys import HOSTILE
from tests.console.test_plans import hidden

MORE = {b"large": b"0123456789abcdef" * 65536, b"/" + b"long-segment-" * 300: b"long"}
MARKUP = ("<script>alert", "<img src=x")
UNSEEN = ("\u202e", "\x00", "\ufffd")
"""The mark that turns text round, NUL, and the sign of bytes that were replaced (trap 4)."""

ABOUT_A_KEY = (
    *("key", "edit_key", "delete_key", "rename_key", "duplicate_key", "key_access", "watch"),
)
ABOUT_A_RANGE = ("keys", "history", "delete_range", "key_search", "watch", "key_tree")


@pytest.fixture(autouse=True)
def jobs_are_done_at_once(monkeypatch, settings, tmp_path) -> None:
    settings.CONSOLE_DIR = tmp_path
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))


def assert_text(answer, where: str) -> None:
    assert answer.status_code < 500, where
    text = b"".join(answer.streaming_content).decode() if answer.streaming else answer.text
    if answer.headers.get("Content-Disposition", "").startswith("attachment"):
        return  # whole and untouched, which other tests hold
    for raw in MARKUP:
        assert raw not in text, (where, raw)
    # What is edited stands in its field as it is.
    shown = re.sub(r"<textarea.*?</textarea>", "", text, flags=re.S)
    for raw in UNSEEN:
        assert raw not in shown, (where, raw)


def look(browser: Browser, view: str, *args: object, **params: object) -> None:
    address = query_url(reverse(view, args=["one", *args]), **params)
    assert_text(browser.get(address), address)


@pytest.mark.parametrize("key", [*HOSTILE, *MORE])
def test_no_page_of_a_key_takes_it_for_anything_but_text(
    as_editor: Browser, store: Store, prefix, key: bytes
) -> None:
    name, value = prefix + key, {**HOSTILE, **MORE}[key]
    first = store.put(name, b"before" + value[:100])
    last = store.put(name, value)
    for view in ABOUT_A_KEY:
        look(as_editor, view, key=show(name))
    for decoder in ("text", "yaml", "hex"):
        look(as_editor, "key", key=show(name), **{"as": decoder})
    look(as_editor, "key_history", key=show(name), a=first, b=last)
    look(as_editor, "restore_key", key=show(name), rev=first)
    look(as_editor, "palette_keys", q=show(name[:200]))


def test_no_page_of_many_keys_does(as_editor: Browser, store: Store, prefix) -> None:
    every = {prefix + key: value for key, value in {**HOSTILE, **MORE}.items()}
    first = store.put_all(dict.fromkeys(every, b"before"))
    lease = store.grant_lease(600)
    for key, value in every.items():
        last = store.put(key, value, lease)
    store.put(prefix + b"gone<script>alert(1)</script>\xff", b"v")
    gone = store.delete(prefix + b"gone<script>alert(1)</script>\xff")
    for view in ABOUT_A_RANGE:
        look(as_editor, view, prefix=show(prefix))
    look(as_editor, "history", prefix=show(prefix), show="deleted")
    for words in ("<script>", "gpj", r"nul\x00", r"\xff"):
        look(as_editor, "key_search", q=words, prefix=show(prefix))
        look(as_editor, "key_search", q=words, prefix=show(prefix), **{"in": "values"})
    look(as_editor, "rewind", prefix=show(prefix), to=first)
    for revision in (first, last, gone):
        look(as_editor, "revision", revision)
    look(as_editor, "leases")
    look(as_editor, "lease", f"{lease:x}")
    look(as_editor, "revoke_lease", f"{lease:x}")


@pytest.mark.parametrize("key", HOSTILE)
def test_no_answer_to_a_form_does(as_editor: Browser, store: Store, prefix, key: bytes) -> None:
    name = prefix + key
    base = store.put(name, b"theirs")

    def send(view: str, address: str = "", **fields: object):
        url = reverse(view, args=["one"]) + address
        answer = as_editor.post(url, fields, follow=True)
        assert_text(answer, url)
        return answer

    at = query_url("", key=show(name))
    conflict = {"value": "<script>alert(1)</script>", "base": base - 1, "step": "put"}
    send("edit_key", at, **conflict)
    send("edit_key", at, **conflict | {"base": base, "step": "review"})
    send("new_key", key=show(name), value="\u202e")  # it is there already
    send("rename_key", at, new=show(name), base=base)
    line = {"if_target": "mod", "if_key": show(name), "if_sign": "=", "if_given": str(base)}
    line |= {"then_op": "get", "then_key": show(name), "then_span": "key"}
    line |= {"then_value": "", "then_lease": ""}
    send("build_txn", **line, step="review")
    send("build_txn", **line, step="start")
    entry = json.dumps({"key_base64": "", "value": ""}).replace('""', '"eA=="', 1)
    for title, data in ((show(key) or "x", entry), ("\u202egpj.ndjson", "{")):
        file = SimpleUploadedFile(title.replace("/", "_"), data.encode())
        plan = send("import_keys", file=file)
        if plan.status_code == 200:
            send("import_keys", **hidden(plan.text), step="start")
    send("delete_key", at, base=base)
    assert_text(as_editor.get(reverse("keys", args=["one"])), "the toast of it")


def test_a_cluster_has_a_name_that_can_be_read(as_admin: Browser, cluster: Cluster) -> None:
    """Names that look like others are no names; markup in one is text on every page."""
    fields = {"environment": "development", "colour": "teal", "endpoints": cluster.endpoints}
    for name in ("\u202eeno", "a\x07b", "\u200b"):
        answer = as_admin.post(reverse("new_cluster"), {"name": name, **fields})
        assert answer.status_code == 422
        assert "cannot be seen" in answer.text
    answer = as_admin.post(reverse("new_cluster"), {"name": "<script>alert(1)", **fields})
    assert answer.status_code == 302
    slug = Cluster.objects.exclude(slug="one").get().slug
    for address in (f"/c/{slug}/keys", "/clusters", f"/clusters/{slug}", "/audit", "/accounts/new"):
        assert_text(as_admin.get(address), address)
