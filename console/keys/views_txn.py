"""The txn builder: compares, then, else; reviewed by what it may do; sent as one txn."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.errors import form_again
from console.gateway import ClusterError
from console.keys.addresses import list_url
from console.keys.byte_text import show
from console.keys.lens import PLAIN
from console.keys.txn import OPS_MAX, SIGNS, TARGETS, Txn, TxnResult, danger
from console.keys.txn_form import OPS, SPANS, TxnForm
from console.keys.views_list import lens_context
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.roles import Role

LEVELS = (
    "It only reads.",
    "It puts keys.",
    "It may delete keys.",
    "It may delete a whole range of keys.",
)


@allow(Role.EDITOR, "GET", "POST", writes=True)
def build_txn(request: HttpRequest) -> HttpResponse:
    form = TxnForm.from_lists(request.POST.getlist)
    frame: dict[str, Any] = lens_context(PLAIN) | {
        "title": "Transaction",
        "rail_current": "keys",
        "crumbs": [("Keys", "keys"), ("Transaction", None)],
        "targets": TARGETS,
        "signs": SIGNS,
        "spans": SPANS,
        "ops": OPS,
        "cancel_url": list_url(request.cluster, b""),
    }
    step = request.POST.get("step", "edit")
    txn = form.txn()
    if step not in {"review", "start"}:
        return _form(request, form, frame)
    too_many = max(len(txn.guards), len(txn.then), len(txn.otherwise)) > OPS_MAX
    if form.has_errors or too_many:
        said = f"More than {OPS_MAX} lines." if too_many else ""
        return _form(request, form, frame | {"error": said}, 422)
    if not txn.operations:
        return _form(request, form, frame | {"error": "There is nothing to do yet."}, 422)
    if step == "review":
        return _review(request, form, txn, frame)
    if danger(txn) >= 3 and not is_confirmed(request):
        return _review(request, form, txn, frame, confirm_error=WRONG_NAME)
    return _send(request, form, txn, frame)


def _form(
    request: HttpRequest, form: TxnForm, frame: dict[str, Any], status: int = 200
) -> HttpResponse:
    context = {**frame, "form": form.with_blanks()}
    return render(request, "keys/txn.html", context, status=status)


def _review(
    request: HttpRequest, form: TxnForm, txn: Txn, frame: dict[str, Any], **more: Any
) -> HttpResponse:
    level = danger(txn)
    context = {
        **frame,
        "form": form,
        "txn": txn,
        "level": level,
        "level_said": LEVELS[level],
        "command": etcdctl_for(request.cluster).txn(txn),
        **more,
    }
    return render(request, "keys/txn_review.html", context, status=422 if more else 200)


def _send(request: HttpRequest, form: TxnForm, txn: Txn, frame: dict[str, Any]) -> HttpResponse:
    command = etcdctl_for(request.cluster).txn(txn)
    keys = list(dict.fromkeys(show(one.key) for one in txn.operations))
    target = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    try:
        with recorded(request, "txn", target, command=command) as row:
            result: TxnResult = request.gateway.txn(txn)
            row.outcome = Outcome.DONE
            row.detail = "then" if result.succeeded else "else"
            row.revision_after = result.revision
    except ClusterError as error:
        return form_again(request, "keys/txn.html", error, frame | {"form": form.with_blanks()})
    context = {**frame, "form": form, "result": result, "command": command}
    return render(request, "keys/txn_done.html", context)
