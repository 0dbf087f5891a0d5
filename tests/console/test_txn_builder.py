"""The txn builder: what is typed is what is sent, reviewed by what it may do."""

from __future__ import annotations

import html
import re

import pytest
from django.urls import reverse

from console.keys.txn_form import TxnForm
from console.models import AuditRow, Cluster
from tests.console.conftest import Store
from tests.console.test_plans import plain

ON_EVERY_SERVER = True


def line(part: str, **fields: str) -> dict[str, list[str]]:
    base = (
        {"target": "mod", "key": "", "sign": "=", "given": ""}
        if part == "if"
        else {"op": "put", "key": "", "span": "key", "value": "", "lease": ""}
    )
    return {f"{part}_{name}": [value] for name, value in (base | fields).items()}


def together(*lines: dict[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in lines:
        for name, values in one.items():
            found.setdefault(name, []).extend(values)
    return found


def send(browser, fields: dict[str, list[str]], step: str, **more: str):
    return browser.post(reverse("build_txn", args=["one"]), {**fields, "step": step, **more})


def test_a_txn_is_built_reviewed_and_sent(as_editor, store: Store, prefix) -> None:
    key = prefix.decode()
    lease = store.grant_lease(3600)
    base = store.put(prefix + b"a", b"old", lease)
    fields = together(
        line("if", target="mod", key=key + "a", given=str(base)),
        line("if", target="value", key=key + "a", sign="!=", given="x"),
        line("if", target="lease", key=key + "a", given=f"{lease:x}"),
        line("then", op="put", key=key + "a", value="new\r\nlines", lease="keep"),
        line("then", op="put", key=key + r"\xff", value="", lease=f"{lease:x}"),
        line("then", op="get", key=key, span="prefix"),
        line("then"),  # a line without a key is not there
        line("else", op="delete", key=key + "a"),
    )
    review = send(as_editor, fields, "review")
    text = plain(review.text)
    assert "It may delete keys." in text  # whichever branch
    assert "level 2 of 4" in text
    assert f'mod("{key}a") = "{base}"' in text
    assert store.revision() == base  # a review sends nothing
    done = send(as_editor, fields, "start")
    assert "the compares held" in done.text
    assert "2 keys" in plain(done.text)
    found = store.get(prefix + b"a")
    assert (found.value, found.lease, found.mod_revision) == (b"new\nlines", lease, base + 1)
    assert store.get(prefix + b"\xff").lease == lease
    row = AuditRow.objects.get()
    assert (row.action, row.outcome, row.detail) == ("txn", "done", "then")
    again = send(as_editor, fields, "start")
    assert "a compare did not hold" in again.text
    assert "1 key deleted" in plain(again.text)
    assert store.get(prefix + b"a") is None


def test_the_review_carries_every_byte_of_what_was_typed(as_editor, prefix) -> None:
    value = "\nfirst </textarea><script>\r\n\tlast "
    fields = line("then", key=prefix.decode(), value=value)
    review = send(as_editor, fields, "review").text
    carried = re.search(r'name="then_value"[^>]*>\n(.*?)</textarea>', review, re.S)[1]
    assert html.unescape(carried) == value
    assert "<script>" not in review.replace("<script src", "")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "nothing to do"),
        (line("if", key="a", given="x") | line("then", key="a"), "compared with a whole number"),
        (line("if", key="a", given="9" * 30) | line("then", key="a"), "whole number"),
        (line("if", key="a", target="lease", given="x") | line("then", key="a"), "hexadecimal"),
        (line("if", key="a", target="size") | line("then", key="a"), "no such comparison"),
        (line("then", key="a\\"), "backslash"),
        (line("then", key="a", span="prefix"), "a put writes one key"),
        (line("then", key="a", lease="zz"), "or the word keep"),
        (line("then", key="a", op="move"), "no such operation"),
        (together(*[line("then", key=f"k{n}") for n in range(200)]), "nothing"),
    ],
)
def test_what_makes_no_sense_is_said_at_its_line(as_editor, store, fields, said) -> None:
    if len(fields.get("then_key", [])) == 200:
        assert len(TxnForm.from_lists(lambda name: fields.get(name, [])).then) == 128
        return
    answer = send(as_editor, fields, "start")
    assert answer.status_code == 422
    assert said.lower() in plain(answer.text).lower()
    assert AuditRow.objects.count() == 0


def test_what_the_server_refuses_comes_back_with_its_words(as_editor, store, prefix) -> None:
    fields = together(*[line("then", key=prefix.decode(), value=v) for v in "ab"])
    answer = send(as_editor, fields, "start")
    assert answer.status_code == 502
    assert "duplicate key given in txn request" in answer.text
    assert f'value="{prefix.decode()}"' in answer.text  # nothing typed is lost
    assert AuditRow.objects.get().outcome == "refused"


def test_trap_11_a_range_delete_in_a_txn_asks_in_production(
    as_editor, store: Store, prefix, cluster: Cluster
) -> None:
    cluster.environment = Cluster.Environment.PRODUCTION
    cluster.save()
    store.put(prefix + b"a", b"v")
    fields = line("then", op="delete", key=prefix.decode(), span="prefix")
    review = plain(send(as_editor, fields, "review").text)
    assert "a whole range" in review
    assert f"[{prefix.decode()}, {prefix.decode()[:-1]}0)" in review  # trap 13
    assert send(as_editor, fields, "start", confirm="no").status_code == 422
    assert store.get(prefix + b"a") is not None
    assert "1 key deleted" in plain(send(as_editor, fields, "start", confirm="one").text)


def test_lines_are_added_without_scripts(as_editor) -> None:
    fields = together(line("then", key="a", value="v"), line("then", key="b"))
    text = send(as_editor, fields, "add").text
    assert text.count('name="then_key"') == 3
    assert text.count('name="if_key"') == 1
    assert as_editor.get(reverse("build_txn", args=["one"])).text.count('name="then_key"') == 1
