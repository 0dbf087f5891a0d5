"""The palette: go anywhere by name. A fragment for the dialog, a page without scripts."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import Who, allow
from console.clusters.own import recall
from console.gateway import ClusterError, Denied, Reader
from console.keys.addresses import BadAddress, bytes_of, key_url, list_url, query_url
from console.keys.byte_text import show
from console.keys.paging import prefix_range
from console.models import Account, Cluster
from console.palette.places import Group, Place, groups
from console.roles import Role
from console.shell import remembered, visible_clusters

QUERY_CHARS_MAX = 2000
KEYS_SHOWN = 8


@allow(Who.SIGNED_IN)
def palette(request: HttpRequest) -> HttpResponse:
    """What is known without a cluster; the keys come by a request of their own, so that a
    cluster that is slow or gone keeps nobody from going elsewhere."""
    account = request.user
    assert isinstance(account, Account)
    clusters = visible_clusters(account)
    wanted = request.GET.get("cluster", "")
    cluster = next((one for one in clusters if one.slug == wanted), None)
    cluster = cluster or remembered(request, clusters)
    query = request.GET.get("q", "")[:QUERY_CHARS_MAX]
    context = {
        "title": "Go to",
        "crumbs": [("Go to", None)],
        "query": query,
        "groups": groups(account, clusters, cluster, query),
        "go_cluster": cluster,
    }
    if cluster and cluster.asks_sign_in:
        cluster.own = recall(request.session, cluster)
    asks_keys = cluster is not None and bool(query.strip())
    if not request.headers.get("HX-Request"):
        found = _found(cluster, query) if cluster and asks_keys else {}
        return render(request, "palette/page.html", context | found)
    if cluster and asks_keys:
        context["keys_url"] = query_url(reverse("palette_keys", args=[cluster.slug]), q=query)
    return render(request, "palette/_results.html", context)


@allow(Role.VIEWER)
def keys(request: HttpRequest) -> HttpResponse:
    """The keys that begin with what was typed, the one of exactly this name first."""
    query = request.GET.get("q", "")[:QUERY_CHARS_MAX]
    return render(request, "palette/_keys.html", _found(request.cluster, query))


def _found(cluster: Cluster, query: str) -> dict[str, object]:
    """The group of keys, or why there is none."""
    try:
        prefix = bytes_of(query)
        part = Reader(cluster).part(prefix_range(prefix), KEYS_SHOWN)
    except BadAddress as error:
        return {"trouble": f"Not looked for as a key: {error}."}
    except Denied:
        return {"trouble": f"You may not read the keys that begin with {show(prefix)}."}
    except ClusterError as error:
        return {"trouble": f"Keys were not found: {error.code} {error.message}", "retry": query}
    places = [
        Place(show(key.key), key_url(cluster, key.key), "keys", _note(key.key, prefix), True)
        for key in part.keys
    ]
    if part.count > 1:
        label = f"All {part.count} keys that begin with {show(prefix)}"
        places.append(Place(label, list_url(cluster, prefix), "search"))
    return {"keys": Group("Keys", tuple(places))}


def _note(key: bytes, prefix: bytes) -> str:
    return "exactly this key" if key == prefix else ""
