"""Cluster connections: the page to start from, and their administration."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from console.access import Who, allow
from console.audit.record import note
from console.clusters.forms import COLOURS, ClusterForm
from console.clusters.secrets import SecretLost
from console.gateway.probe import probe
from console.models import Account, Cluster
from console.shell import remembered, visible_clusters

CRUMBS = [("Console", None), ("Clusters", "clusters")]


@allow(Who.SIGNED_IN)
def home(request: HttpRequest) -> HttpResponse:
    account = request.user
    assert isinstance(account, Account)
    cluster = remembered(request, visible_clusters(account))
    if cluster:
        return redirect("overview", cluster.slug)
    return render(request, "clusters/none.html", {"title": "No clusters"})


@allow(Who.CONSOLE_ADMIN)
def clusters(request: HttpRequest) -> HttpResponse:
    context = {
        "title": "Clusters",
        "rail_current": "clusters",
        "crumbs": [("Console", None), ("Clusters", None)],
        "connections": Cluster.objects.all(),
    }
    return render(request, "clusters/list.html", context)


@allow(Who.CONSOLE_ADMIN, "GET", "POST")
def new_cluster(request: HttpRequest) -> HttpResponse:
    form = ClusterForm(request.POST or None)
    if "test" in request.POST:
        return _tested(request, form, None)
    if request.method == "POST" and form.is_valid():
        cluster = form.save()
        note(request, "add connection", cluster.name, cluster=cluster, detail=_what(cluster))
        messages.success(request, f"Connection {cluster.name} is added.")
        return redirect("overview", cluster.slug)
    return _form(request, form, None)


@allow(Who.CONSOLE_ADMIN, "GET", "POST")
def edit_cluster(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(Cluster, slug=slug)
    form = ClusterForm(request.POST or None, instance=found)
    if "test" in request.POST:
        return _tested(request, form, Cluster.objects.get(pk=found.pk))
    if request.method == "POST" and form.is_valid():
        cluster = form.save()
        note(request, "change connection", cluster.name, cluster=cluster, detail=_what(cluster))
        messages.success(request, f"Connection {cluster.name} is saved.")
        return redirect("clusters")
    return _form(request, form, Cluster.objects.get(pk=found.pk))


@allow(Who.CONSOLE_ADMIN, "GET", "POST")
def remove_cluster(request: HttpRequest, slug: str) -> HttpResponse:
    """Level 2 of the danger ladder: the cluster itself is untouched, roles on it are lost."""
    found = get_object_or_404(Cluster, slug=slug)
    if request.method == "POST":
        note(request, "remove connection", found.name, detail=_what(found))
        found.delete()
        messages.success(request, f"Connection {found.name} is removed.")
        return redirect("clusters")
    context = {
        "title": f"Remove {found.name}",
        "rail_current": "clusters",
        "crumbs": [*CRUMBS, (found.name, None)],
        "connection": found,
        "grants": found.grants.select_related("account"),
    }
    return render(request, "clusters/remove.html", context)


def _tested(request: HttpRequest, form: ClusterForm, cluster: Cluster | None) -> HttpResponse:
    """Tried as typed; nothing is stored, and a secret that was typed does not come back."""
    found: dict[str, object] = {}
    is_fragment = bool(request.headers.get("HX-Request"))
    if form.is_valid():
        try:
            described = form.described()
            described.asks_sign_in = False  # whoever tests has no session with the cluster
            found["probe"] = probe(described)
        except (ValueError, SecretLost) as error:
            found["probe_error"] = str(error)
    else:
        found["probe_error"] = "; ".join(
            f"{name}: {errors[0]}" for name, errors in form.errors.items()
        )
    if is_fragment:
        return render(request, "clusters/_probe.html", found)
    return _form(request, form, cluster, {**found, "is_page": True})


def _form(
    request: HttpRequest,
    form: ClusterForm,
    cluster: Cluster | None,
    more: dict[str, object] | None = None,
) -> HttpResponse:
    title = cluster.name if cluster else "New connection"
    context = {
        "title": title,
        "rail_current": "clusters",
        "crumbs": [*CRUMBS, (title, None)],
        "form": form,
        "connection": cluster,
        "colours": COLOURS,
        **(more or {}),
    }
    return render(request, "clusters/form.html", context, status=422 if form.errors else 200)


def _what(cluster: Cluster) -> str:
    mode = "read-only" if cluster.is_read_only else "read and write"
    return f"{cluster.environment}, {mode}, {', '.join(cluster.endpoint_list)}"
