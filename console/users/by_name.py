"""Creating and deleting by a name: the same steps for users and for roles.

Creating is level 1 of the danger ladder, deleting level 3 (console.md §5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.audit.record import Outcome, recorded
from console.errors import form_again
from console.gateway import ClusterError
from console.keys.byte_text import show
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.users.forms import ctl, frame, new_name, refusal, url


@dataclass(frozen=True, slots=True)
class Kind:
    """`noun`: user or role. `empty`: what a new one has not got yet."""

    noun: str
    empty: str

    @property
    def part(self) -> str:
        return f"{self.noun}s"

    def page(self, request: HttpRequest, name: str) -> str:
        return url(reverse(f"etcd_{self.noun}", args=[request.cluster.slug]), name=name)


USER = Kind("user", "It has no role yet.")
ROLE = Kind("role", "It allows nothing yet.")

Plan = Callable[[str, dict[str, str]], tuple[str, Callable[[], None]]]
"""From the name to the command and what carries it out; adds to the errors of the form."""


def create(
    request: HttpRequest, kind: Kind, plan: Plan, more: dict[str, Any] | None = None
) -> HttpResponse:
    """The form, or what became of it."""
    title, template = f"Create {kind.noun}", f"users/new_{kind.noun}.html"
    context = frame(request, kind.part, title, title) | {
        "errors": {},
        "name_text": request.POST.get("name", request.GET.get("name", "")),
        "command": ctl(request).line(kind.noun, "add", "NAME"),
        **(more or {}),
    }
    if request.method != "POST":
        return render(request, template, context)
    errors: dict[str, str] = {}
    name = new_name(context["name_text"], errors)
    command, add = plan(name, errors)
    if not errors:
        try:
            with recorded(request, f"create etcd {kind.noun}", name, command=command) as row:
                add()
                row.outcome = Outcome.DONE
        except ClusterError as error:
            if not error.message.endswith("already exists"):
                return form_again(request, template, error, context)
            errors["name"] = refusal(error)
        else:
            words = f"Created {kind.noun} {show(name.encode())}. {kind.empty}"
            messages.success(request, words)
            return redirect(kind.page(request, name))
    return render(request, template, context | {"errors": errors}, status=422)


def delete(
    request: HttpRequest,
    kind: Kind,
    name: str,
    *,
    command: str,
    detail: str,
    carry_out: Callable[[], None],
    more: dict[str, Any],
) -> HttpResponse:
    """The plan page, or back to the list when it is done. `detail`: what went with it."""
    shown, error = show(name.encode()), ""
    if request.method == "POST":
        if is_confirmed(request):
            with recorded(request, f"delete etcd {kind.noun}", name, command=command) as row:
                row.detail = detail
                carry_out()
                row.outcome = Outcome.DONE
            messages.success(request, f"Deleted {kind.noun} {shown}.")
            return redirect(kind.part, request.cluster.slug)
        error = WRONG_NAME
    context = frame(request, kind.part, f"Delete {kind.noun}", shown, "Delete") | {
        "confirm_error": error,
        "command": command,
        "back": kind.page(request, name),
        **more,
    }
    template = f"users/delete_{kind.noun}.html"
    return render(request, template, context, status=422 if error else 200)
