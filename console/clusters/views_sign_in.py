"""Signing in to etcd as oneself, for connections that ask for it, and out again."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone

from console.access import allow
from console.accounts.views import safe_next, seconds_to_wait
from console.audit.record import Outcome, client_address, note
from console.clusters.own import OwnSignIn, forget, remember
from console.errors import cluster_error
from console.gateway import ClusterError, Unreachable, auth, clients
from console.models import LoginFailure
from console.roles import Role


@allow(Role.VIEWER, "GET", "POST", before_etcd_sign_in=True)
def etcd_sign_in(request: HttpRequest) -> HttpResponse:
    cluster = request.cluster
    after = safe_next(request, request.POST.get("next") or request.GET.get("next", ""))
    if not cluster.asks_sign_in:
        return redirect("overview", cluster.slug)
    name = request.POST.get("user", "")[:200]
    if request.method != "POST":
        return _form(request, name, after)
    # The console must be no help in guessing: as slow as its own sign-in (accounts/throttle.py).
    throttled = f"etcd:{cluster.slug}:{name}"[:150]
    wait = seconds_to_wait(throttled, client_address(request))
    if wait:
        return _form(request, name, after, f"Too many tries. Wait {wait:.0f} s.", 429)
    if not name:
        return _form(request, name, after, "A name is needed.", 422)
    cluster.own = own = OwnSignIn(name, request.POST.get("password", ""))
    try:
        auth.try_sign_in(cluster)
    except Unreachable as error:
        return cluster_error(request, error, "Signing in to etcd")
    except ClusterError as error:
        LoginFailure.objects.create(
            username=throttled, address=client_address(request), at=timezone.now()
        )
        note(request, "sign in to etcd", name, outcome=Outcome.REFUSED, cluster=cluster)
        said = f"{cluster.name} refused: {error.message.removeprefix('etcdserver: ')}."
        return _form(request, name, after, said, 401)
    remember(request.session, cluster, own)
    note(request, "sign in to etcd", name, cluster=cluster)
    return redirect(after if after != "/" else "keys", *([] if after != "/" else [cluster.slug]))


def _form(
    request: HttpRequest, name: str, after: str, error: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "title": f"Sign in to {request.cluster.name}",
        "crumbs": [("Sign in", None)],
        "name": name,
        "next": after,
        "error": error,
    }
    return render(request, "clusters/sign_in.html", context, status=status)


@allow(Role.VIEWER, "POST", before_etcd_sign_in=True)
def etcd_sign_out(request: HttpRequest) -> HttpResponse:
    cluster = request.cluster
    if cluster.own:
        note(request, "sign out of etcd", cluster.own.user, cluster=cluster)
        clients.forget(cluster)
        forget(request.session, cluster)
        messages.info(request, f"Signed out of {cluster.name}.")
    return redirect("etcd_sign_in", cluster.slug)
