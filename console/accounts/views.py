"""Signing in and out, changing one's password, choosing a theme."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from console.access import Who, allow
from console.accounts import throttle
from console.audit.record import Outcome, client_address, note
from console.clusters.own import recall
from console.gateway import clients
from console.models import Cluster, LoginFailure
from console.shell import THEME_COOKIE, THEMES


@allow(Who.ANYONE, "GET", "POST")
def sign_in(request: HttpRequest) -> HttpResponse:
    after = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(after)
        return render(request, "accounts/login.html", {"title": "Sign in", "next": after})
    username = request.POST.get("username", "")[:150]
    wait = seconds_to_wait(username, client_address(request))
    if wait:
        return _refused(request, username, after, f"Too many tries. Wait {wait:.0f} s.", 429)
    account = authenticate(request, username=username, password=request.POST.get("password", ""))
    if account is None:
        LoginFailure.objects.create(
            username=username, address=client_address(request), at=timezone.now()
        )
        note(request, "sign in", username, outcome=Outcome.REFUSED)
        return _refused(request, username, after, "The name or the password is not right.", 401)
    LoginFailure.objects.filter(username=username, address=client_address(request)).delete()
    login(request, account)
    # A date, not an age: an age would start anew with every change to the session.
    request.session.set_expiry(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE))
    note(request, "sign in", username)
    return redirect(after)


def _refused(
    request: HttpRequest, username: str, after: str, text: str, status: int
) -> HttpResponse:
    context = {"title": "Sign in", "username": username, "next": after, "error": text}
    return render(request, "accounts/login.html", context, status=status)


def seconds_to_wait(username: str, address: str) -> float:
    """The longest of the three waits; forgets failures out of the window on the way."""
    now = timezone.now()
    window = now - timedelta(seconds=throttle.WINDOW_SECONDS)
    LoginFailure.objects.filter(at__lt=window).delete()
    by_account = LoginFailure.objects.filter(username=username)
    by_address = LoginFailure.objects.filter(address=address)
    waits = [
        (by_account.filter(address=address), throttle.FREE_TRIES),
        (by_address, throttle.FREE_TRIES_ADDRESS),
        (by_account, throttle.FREE_TRIES_ACCOUNT),
    ]
    return max(
        throttle.wait_seconds(
            [at.timestamp() for at in failures.values_list("at", flat=True)], now.timestamp(), free
        )
        for failures, free in waits
    )


def safe_next(request: HttpRequest, address: str) -> str:
    """Where to go after: a page of this console, whatever the URL says."""
    is_ours = url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if address and is_ours else "/"


@allow(Who.SIGNED_IN, "POST", before_password_change=True)
def sign_out(request: HttpRequest) -> HttpResponse:
    note(request, "sign out", request.user.get_username())
    for cluster in Cluster.objects.filter(asks_sign_in=True):
        cluster.own = recall(request.session, cluster)
        if cluster.own:
            clients.forget(cluster)
    logout(request)
    return redirect("login")


@allow(Who.SIGNED_IN, "GET", "POST", before_password_change=True)
def password(request: HttpRequest) -> HttpResponse:
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        errors = _change_password(request)
        if not errors:
            messages.success(request, "Your password is changed.")
            return redirect("home")
    context = {
        "title": "Change password",
        "crumbs": [("Account", None), ("Password", None)],
        "errors": errors,
    }
    return render(request, "accounts/password.html", context, status=422 if errors else 200)


def _change_password(request: HttpRequest) -> dict[str, list[str]]:
    """Change it, or say per field why not."""
    account = request.user
    fresh = request.POST.get("new", "")
    if not account.check_password(request.POST.get("current", "")):
        return {"current": ["This is not your present password."]}
    if fresh != request.POST.get("again", ""):
        return {"again": ["The two new passwords differ."]}
    try:
        validate_password(fresh, account)
    except ValidationError as error:
        return {"new": list(error.messages)}
    account.set_password(fresh)
    account.must_change_password = False
    account.save()
    update_session_auth_hash(request, account)
    note(request, "change password", account.username)
    return {}


@allow(Who.ANYONE, "POST")
def theme(request: HttpRequest) -> HttpResponse:
    response = redirect(safe_next(request, request.POST.get("next", "")))
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        response.set_cookie(THEME_COOKIE, chosen, max_age=31_536_000, samesite="Lax", httponly=True)
    return response
