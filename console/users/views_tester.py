"""The permission tester: may this user do this, which grant decides, what is missing; who can
touch a range; what is odd about users and roles.

Everything is asked by GET, so that an answer has an address. The one exception tries passwords.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import Outcome, recorded
from console.gateway import Denied, auth
from console.keys.addresses import BadAddress
from console.leases.views import lease_id
from console.overview.sampler import sampler
from console.roles import Role
from console.users import commands
from console.users.demands import (
    VERBS,
    Answer,
    Demand,
    NotATransaction,
    checks_whole_watch,
    demands_of,
    demands_of_txn,
    judge,
    would_allow,
)
from console.users.forms import (
    ctl,
    directory_of,
    frame,
    named,
    range_of,
    sentence,
    text_of,
)
from console.users.identity import own_name
from console.users.lint import LEVELS, lint
from console.users.rules import EtcdRole, EtcdUser, who_can
from console.users.spans import SHAPES, Span, span_of

PIECES_SHOWN = 50
PASSWORDS_TRIED_MAX = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of the tester as they came."""

    who: str
    verb: str
    sees_previous: bool
    lease: str


@allow(Role.OPERATOR)
@named
def tester(request: HttpRequest) -> HttpResponse:
    asked = Asked(
        text_of(request.GET.get("user", "")),
        request.GET.get("verb", "read"),
        "prev" in request.GET,
        request.GET.get("lease", "").strip(),
    )
    errors: dict[str, str] = {}
    context = _frame(request, "range", asked.who, errors) | {
        "verbs": VERBS,
        "asked": asked,
        "shapes": SHAPES,
        "shape": request.GET.get("shape", "key"),
        "key_text": request.GET.get("key", ""),
        "end_text": request.GET.get("end", ""),
    }
    if "shape" not in request.GET:
        return render(request, "users/tester.html", context)
    if not asked.who:
        errors["user"] = "Choose whose permission it is about."
    if asked.verb not in VERBS:
        errors["verb"] = "Choose what is to be done."
    wire = range_of(request.GET, errors)
    if wire and not errors:
        context["span"] = span = span_of(*wire)
        context["verb_words"] = VERBS[asked.verb].words
        demands = _demands(request, asked, span, errors)
        if not errors:
            context |= _answer(request, asked.who, demands)
            context["watch_hole"] = _watch_hole(request, asked.verb, span)
    return render(request, "users/tester.html", context)


def _demands(
    request: HttpRequest, asked: Asked, span: Span, errors: dict[str, str]
) -> list[Demand]:
    keys: tuple[bytes, ...] = ()
    if asked.verb == "attach" and asked.lease:
        try:
            keys = request.gateway.lease_time(lease_id(asked.lease), has_keys=True).keys
        except BadAddress as error:
            errors["lease"] = sentence(error)
    return demands_of(asked.verb, span, sees_previous=asked.sees_previous, lease_keys=keys)


def _watch_hole(request: HttpRequest, verb: str, span: Span) -> list[str]:
    """Releases among the members that check only the first key of a watch without an end."""
    if verb != "watch" or span.end is not None:
        return []
    rows = sampler.snapshot(request.cluster).health.rows
    versions = {row.member.status.version for row in rows if row.member.status}
    return sorted(version for version in versions if not checks_whole_watch(version))


@allow(Role.OPERATOR)
@named
def txn_tester(request: HttpRequest) -> HttpResponse:
    errors: dict[str, str] = {}
    who, text = text_of(request.GET.get("user", "")), request.GET.get("txn", "")
    context = _frame(request, "txn", who, errors) | {"txn_text": text}
    if "txn" in request.GET:
        if not who:
            errors["user"] = "Choose whose permission it is about."
        try:
            demands = demands_of_txn(text)
        except NotATransaction as error:
            errors["txn"] = sentence(error)
        if not errors:
            context |= _answer(request, who, demands)
    return render(request, "users/txn_tester.html", context)


def _frame(request: HttpRequest, tab: str, who: str, errors: dict[str, str]) -> dict[str, Any]:
    try:
        names = auth.user_names(request.gateway)
    except Denied:
        names = [one for one in [own_name(request.cluster)] if one]
    return frame(request, "permissions", "Permissions") | {
        "tab": tab,
        "names": names,
        "who": who,
        "errors": errors,
        "command": commands.user(ctl(request), "get", who or "USER", flags=("--detail",)),
    }


def _answer(request: HttpRequest, name: str, demands: list[Demand]) -> dict[str, Any]:
    gateway = request.gateway
    held = auth.roles(gateway, auth.user(gateway, name).roles)
    answer = judge(held, demands)
    return {
        "answer": answer,
        "held": held,
        "pieces_shown": PIECES_SHOWN,
        "helpful": [] if answer.is_allowed else _helpful(request, held, demands),
        "missing": _missing(answer),
        "is_enabled": auth.is_enabled(gateway),
    }


def _missing(answer: Answer) -> list[tuple[str, Span]]:
    """The nearest missing interval of each demand that is not met, with its right."""
    return [
        (demand.right, decision.nearest_missing)
        for demand, decision in answer.parts
        if decision.nearest_missing
    ]


def _helpful(request: HttpRequest, held: list[EtcdRole], demands: list[Demand]) -> list[str]:
    names = {role.name for role in held}
    try:
        others = [one for one in directory_of(request).roles if one.name not in names]
    except Denied:
        return []
    return list(would_allow(held, others, demands))


@allow(Role.OPERATOR)
@named
def who_tester(request: HttpRequest) -> HttpResponse:
    errors: dict[str, str] = {}
    asked = request.GET
    context = frame(request, "permissions", "Permissions") | {
        "tab": "who",
        "errors": errors,
        "shapes": SHAPES,
        "shape": asked.get("shape", "key"),
        "key_text": asked.get("key", ""),
        "end_text": asked.get("end", ""),
        "command": ctl(request).line("user", "list"),
    }
    wire = range_of(asked, errors) if "shape" in asked else None
    if wire:
        context |= touching(request, span_of(*wire))
    return render(request, "users/who.html", context)


def touching(request: HttpRequest, span: Span) -> dict[str, Any]:
    """Users and roles that may read or write at least a part of the range."""
    directory = directory_of(request)
    users, roles = who_can(directory, span)
    return {
        "span": span,
        "touch_users": users,
        "touch_roles": roles,
        "directory": directory,
        "is_enabled": auth.is_enabled(request.gateway),
    }


@allow(Role.OPERATOR)
@named
def findings(request: HttpRequest) -> HttpResponse:
    return render(request, "users/findings.html", _findings(request))


def _findings(request: HttpRequest) -> dict[str, Any]:
    directory = directory_of(request)
    is_enabled = auth.is_enabled(request.gateway)
    found = lint(directory, is_enabled=is_enabled)
    return frame(request, "permissions", "Permissions") | {
        "tab": "findings",
        "findings": found,
        "counts": [(level, sum(one.level == level for one in found)) for level in LEVELS],
        "directory": directory,
        "is_enabled": is_enabled,
        "tried_max": PASSWORDS_TRIED_MAX,
        "command": ctl(request).line("role", "list"),
    }


@allow(Role.ADMIN, "POST", writes=True)
@named
def try_passwords(request: HttpRequest) -> HttpResponse:
    """Signs in as each user with nothing for a password. That leaves a token behind where it
    works, so it is no page that opens by itself."""
    context = _findings(request)
    users: tuple[EtcdUser, ...] = context["directory"].users[:PASSWORDS_TRIED_MAX]
    command = ctl(request).line("endpoint", "health", "# with --user=NAME: for each of them")
    with recorded(request, "try empty passwords", f"{len(users)} users", command=command) as row:
        said = {user.name: auth.try_empty_password(request.gateway, user.name) for user in users}
        found = {way: [n for n, one in said.items() if one == way] for way in ("open", "none")}
        row.outcome = Outcome.DONE
        row.detail = f"open: {', '.join(found['open']) or 'none'}"
    context |= {"open": found["open"], "certificate_only": found["none"], "tried": users}
    return render(request, "users/findings.html", context)
