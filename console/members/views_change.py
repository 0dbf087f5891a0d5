"""What changes the membership: each a plan page that says what it does to the quorum.

Adding, promoting, updating and moving the leadership are level 3 of the danger ladder; removing is
level 4: every check met, and a reason for the audit (console.md §5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.audit.record import Outcome, etcdctl_for, recorded
from console.gateway import ClusterError, FateUnknown, membership
from console.keys.addresses import query_url
from console.maintenance.ritual import WRONG_NAME, is_confirmed
from console.members import forms
from console.members.plan import (
    Plan,
    bad_peer_urls,
    plan_add,
    plan_move,
    plan_promote,
    plan_remove,
    plan_update,
)
from console.overview.health import Health, Row
from console.overview.sampler import sampler
from console.roles import Role

NOT_MET = "Nothing was changed: a check is not met."
NOT_KNOWN = (
    "It is not known whether this was done: it was sent, and no answer came ({}). Look at the "
    "members before you send it again."
)
NO_REASON = "A reason is needed: it stands in the audit."


@allow(Role.OPERATOR, "GET", "POST", writes=True)
def add_member(request: HttpRequest) -> HttpResponse:
    health = forms.health_of(request)
    urls, name = forms.urls_in(request), forms.value(request, "name")
    as_voter = forms.value(request, "as") == "voter"
    is_asked = bool(urls) or request.method == "POST"
    errors = {}
    if is_asked and (why := bad_peer_urls(urls)):
        errors["peer_urls"] = why
    plan = plan_add(health, forms.members_of(health), urls, as_voter=as_voter)
    kind = "voter" if as_voter else "learner"
    words = ["add", name or "NAME", f"--peer-urls={','.join(urls) or 'http://HOST:2380'}"]
    page = Page(
        request,
        health,
        "add",
        plan,
        title="Add a member",
        heading=f"Add {name or 'a member'} to {request.cluster.name}?",
        verb=f"Add as a {kind}",
        command=forms.command(request, *words, *([] if as_voter else ["--learner"])),
        fields={
            "name": name,
            "peer_urls": "\n".join(urls),
            "as_voter": as_voter,
            "is_asked": is_asked and not errors,
        },
        errors=errors,
    )

    def act() -> HttpResponse:
        added = membership.add(request.gateway, urls, is_learner=not as_voter)
        messages.success(request, f"Member {added.hex_id} was added as a {kind}.")
        after = forms.next_in(request)
        start = reverse("start_member", args=[request.cluster.slug])
        return redirect(after or query_url(start, member=added.hex_id, name=name))

    return page.answer(f"add member as {kind}", f"{name} {' '.join(urls)}".strip(), act)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
@forms.about_a_member
def promote_member(request: HttpRequest, health: Health, row: Row) -> HttpResponse:
    member = row.member
    page = Page(
        request,
        health,
        "promote",
        plan_promote(health, row),
        row=row,
        title=f"Promote {member.label}",
        heading=f"Promote {member.label} to a voter?",
        verb=f"Promote {member.label}",
        command=forms.command(request, "promote", member.hex_id),
    )

    def act() -> HttpResponse:
        membership.promote(request.gateway, member)
        messages.success(request, f"{member.label} votes now.")
        return redirect(forms.back(request))

    return page.answer("promote member", f"{member.label} {member.hex_id}", act)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
@forms.about_a_member
def update_member(request: HttpRequest, health: Health, row: Row) -> HttpResponse:
    member = row.member
    urls = forms.urls_in(request) or list(member.peer_urls)
    errors = {"peer_urls": why} if (why := bad_peer_urls(urls)) else {}
    page = Page(
        request,
        health,
        "update",
        plan_update(health, row, forms.members_of(health), urls),
        row=row,
        title=f"Change {member.label}",
        heading=f"Change the peer addresses of {member.label}?",
        verb=f"Change {member.label}",
        command=forms.command(request, "update", member.hex_id, f"--peer-urls={','.join(urls)}"),
        fields={"peer_urls": "\n".join(urls)},
        errors=errors,
    )

    def act() -> HttpResponse:
        membership.update(request.gateway, member, urls)
        messages.success(request, f"{member.label} is dialled at {', '.join(urls)} now.")
        return redirect(forms.back(request))

    return page.answer("update member", f"{member.label} {' '.join(urls)}", act)


@allow(Role.OPERATOR, "GET", "POST", writes=True)
@forms.about_a_member
def remove_member(request: HttpRequest, health: Health, row: Row) -> HttpResponse:
    member = row.member
    page = Page(
        request,
        health,
        "remove",
        plan_remove(health, row),
        row=row,
        title=f"Remove {member.label}",
        heading=f"Remove {member.label} from {request.cluster.name}?",
        verb=f"Remove {member.label}",
        command=forms.command(request, "remove", member.hex_id),
        wants_reason=True,
    )

    def act() -> HttpResponse:
        membership.remove(request.gateway, member, _via(health, row))
        messages.success(request, f"{member.label} is no member any more.")
        return redirect(forms.back(request))

    return page.answer("remove member", f"{member.label} {member.hex_id}", act)


def _via(health: Health, row: Row) -> Any:
    """Whom to ask: the leader, or another that answers, and not who is about to stop."""
    others = [r for r in health.rows if r.member.id != row.member.id and r.member.reached_at]
    others.sort(key=lambda one: not one.is_leader)
    return others[0].member if others else None


@allow(Role.OPERATOR, "GET", "POST", writes=True)
@forms.about_a_member
def move_leader(request: HttpRequest, health: Health, row: Row) -> HttpResponse:
    member, leader = row.member, health.leader
    ctl = etcdctl_for(request.cluster)
    at_leader = ctl.at(leader.reached_at) if leader and leader.reached_at else ctl
    page = Page(
        request,
        health,
        "move",
        plan_move(health, row),
        row=row,
        title=f"Move the leadership to {member.label}",
        heading=f"Make {member.label} the leader?",
        verb=f"Make {member.label} the leader",
        command=at_leader.line("move-leader", member.hex_id),
    )

    def act() -> HttpResponse:
        assert leader is not None, "a check that is required"
        membership.move_leader(request.gateway, leader, member)
        messages.success(request, f"{member.label} leads now.")
        return redirect(forms.back(request))

    return page.answer("move leader", f"{leader.label if leader else ''} → {member.label}", act)


class Page:
    """A plan page: shown, refused with what is missing, or carried out."""

    def __init__(
        self,
        request: HttpRequest,
        health: Health,
        change: str,
        plan: Plan,
        *,
        title: str,
        heading: str,
        verb: str,
        command: Any,
        row: Row | None = None,
        fields: dict[str, Any] | None = None,
        errors: dict[str, str] | None = None,
        wants_reason: bool = False,
    ) -> None:
        self._request = request
        self._plan = plan
        self._errors = errors or {}
        self._command = command
        self._wants_reason = wants_reason
        self._reason = forms.value(request, "reason", forms.REASON_CHARACTERS_MAX)
        self._context = forms.frame(title) | {
            "change": change,
            "health": health,
            "row": row,
            "member": row.member if row else None,
            "plan": plan,
            "heading": heading,
            "verb": verb,
            "wants_reason": wants_reason,
            "reason": self._reason,
            "back": forms.back(request),
            "next": forms.next_in(request),
            "command": command,
            **(fields or {}),
        }

    def answer(self, action: str, target: str, act: Callable[[], HttpResponse]) -> HttpResponse:
        if self._request.method != "POST":
            return self._show()
        if not self._plan.is_ready:
            self._errors["checks"] = NOT_MET
        if self._wants_reason and not self._reason:
            self._errors["reason"] = NO_REASON
        if not is_confirmed(self._request):
            self._errors["confirm"] = WRONG_NAME
        if self._errors:
            return self._show()
        return self._carry_out(action, target, act)

    def _carry_out(self, action: str, target: str, act: Callable[[], HttpResponse]) -> HttpResponse:
        request = self._request
        try:
            with recorded(request, action, target, command=str(self._command)) as audit:
                if self._reason:
                    audit.detail = f"reason: {self._reason}"
                response = act()
                audit.outcome = Outcome.DONE
                return response
        except FateUnknown as error:
            self._errors["checks"] = NOT_KNOWN.format(error.code)
            return self._show(status=504)
        except ClusterError as error:
            if type(error) is not ClusterError:
                raise
            # The server judged otherwise: its words belong on this page, beside the checks.
            self._errors["checks"] = f"The cluster refused ({error.code}): {error.message}"
            return self._show()
        finally:
            sampler.forget(request.cluster)

    def _show(self, status: int = 422) -> HttpResponse:
        context = self._context | {
            "errors": self._errors,
            "confirm_error": self._errors.get("confirm", ""),
        }
        is_refused = bool(self._errors) and self._request.method == "POST"
        return render(
            self._request, "members/change.html", context, status=status if is_refused else 200
        )
