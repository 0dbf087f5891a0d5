"""Accounts as a console admin sees them: who may sign in, and with which role on which cluster."""

from __future__ import annotations

import secrets

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from console.access import Who, allow
from console.audit.record import note
from console.models import Account, Cluster, ClusterGrant
from console.roles import Role

CRUMBS = [("Console", None), ("Accounts", "accounts")]


@allow(Who.CONSOLE_ADMIN)
def accounts(request: HttpRequest) -> HttpResponse:
    context = {
        "title": "Accounts",
        "rail_current": "accounts",
        "crumbs": [("Console", None), ("Accounts", None)],
        "accounts": Account.objects.prefetch_related("grants__cluster"),
    }
    return render(request, "accounts/list.html", context)


@allow(Who.CONSOLE_ADMIN, "GET", "POST")
def new_account(request: HttpRequest) -> HttpResponse:
    errors: dict[str, str] = {}
    if request.method == "POST":
        username = request.POST.get("username", "").strip()
        errors = _name_errors(username)
        if not errors:
            first = temporary_password()
            account = Account.objects.create(username, first)
            account.must_change_password = True
            _save_rights(request, account)
            note(request, "create account", username, detail=_rights_text(account))
            return _show_password(request, account, first)
    return _form(request, None, errors)


@allow(Who.CONSOLE_ADMIN, "GET", "POST")
def account(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Account, pk=pk)
    if request.method != "POST":
        return _form(request, found, {})
    if found == request.user and not (request.POST.get("is_admin") and _active(request)):
        text = "You cannot take admin from yourself: another admin has to."
        return _form(request, found, {"is_admin": text})
    found.is_active = _active(request)
    _save_rights(request, found)
    note(request, "change account", found.username, detail=_rights_text(found))
    messages.success(request, f"Account {found.username} is saved.")
    return redirect("accounts")


@allow(Who.CONSOLE_ADMIN, "POST")
def reset_password(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Account, pk=pk)
    fresh = temporary_password()
    found.set_password(fresh)
    found.must_change_password = True
    found.save()
    note(request, "reset password", found.username)
    return _show_password(request, found, fresh)


def temporary_password() -> str:
    return secrets.token_urlsafe(15)


def _active(request: HttpRequest) -> bool:
    return bool(request.POST.get("is_active"))


def _name_errors(username: str) -> dict[str, str]:
    try:
        Account._meta.get_field("username").clean(username, None)
    except ValidationError as error:
        return {"username": error.messages[0]}
    if Account.objects.filter(username=username).exists():
        return {"username": "There is an account with this name."}
    return {}


@transaction.atomic
def _save_rights(request: HttpRequest, account: Account) -> None:
    account.is_admin = bool(request.POST.get("is_admin"))
    account.save()
    for cluster in Cluster.objects.all():
        role = request.POST.get(f"role-{cluster.pk}", "")
        if role.isdecimal() and int(role) in set(Role):
            ClusterGrant.objects.update_or_create(
                account=account, cluster=cluster, defaults={"role": int(role)}
            )
        else:
            ClusterGrant.objects.filter(account=account, cluster=cluster).delete()


def _rights_text(account: Account) -> str:
    if not account.is_active:
        return "may not sign in"
    if account.is_admin:
        return "admin of the console"
    grants = account.grants.select_related("cluster")
    return ", ".join(f"{Role(g.role).label} on {g.cluster}" for g in grants) or "no role"


def _form(request: HttpRequest, account: Account | None, errors: dict[str, str]) -> HttpResponse:
    held = {g.cluster_id: g.role for g in account.grants.all()} if account else {}
    title = account.username if account else "New account"
    context = {
        "title": title,
        "rail_current": "accounts",
        "crumbs": [*CRUMBS, (title, None)],
        "account": account,
        "errors": errors,
        "grants": [(cluster, held.get(cluster.pk)) for cluster in Cluster.objects.all()],
        "roles": list(Role),
        "username": request.POST.get("username", ""),
    }
    return render(request, "accounts/form.html", context, status=422 if errors else 200)


def _show_password(request: HttpRequest, account: Account, fresh: str) -> HttpResponse:
    """Shown once, in the answer to the POST, and nowhere kept in the clear."""
    context = {
        "title": account.username,
        "rail_current": "accounts",
        "crumbs": [*CRUMBS, (account.username, None)],
        "account": account,
        "password": fresh,
    }
    return render(request, "accounts/password_once.html", context)
