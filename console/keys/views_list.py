"""The key browser: the tree on the left, the listing of a range on the right.

The listing has keyset pages, one revision throughout (console.md §3 trap 6); the tree beside it
shows the same revision.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error
from console.gateway import ClusterError, Denied, Listing
from console.keys.addresses import BadAddress, bytes_of, list_url, page_of, query_url
from console.keys.byte_text import show
from console.keys.lens import PLAIN, Lens
from console.keys.paging import PAGE_KEYS, Page, prefix_range
from console.keys.views_tree import read_tree, tree_of_roots
from console.roles import Role
from console.users.own import roots_within, write_limits
from console.users.spans import span_of

SEPARATORS = ("/", ":", ".", "none")
"""Offered; an address may name any other."""


@allow(Role.VIEWER)
def keys(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = {
        "title": "Keys",
        "rail_current": "keys",
        "crumbs": [("Keys", None)],
        "prefix_text": request.GET.get("prefix", ""),
        "page_keys": PAGE_KEYS,
        "shows": "list" if request.GET.get("show") == "list" else "tree",
    }
    try:
        lens = Lens.from_query(request.GET)
        prefix, page = page_of(request, lens)
        start = bytes_of(request.GET.get("start", "")) or None
    except BadAddress as error:
        context = frame | {
            "bad_prefix": str(error),
            "shows": "list",
            "lens": PLAIN,
            "range": prefix_range(b""),
        }
        return render(request, "keys/list.html", context, status=_status(request, 400))
    frame |= lens_context(lens) | {
        "prefix": prefix,
        "range": page.range,
        "is_first": page.is_first,
        "newest_url": list_url(request.cluster, prefix, lens=lens.at(0)),
        "search_url": query_url(
            reverse("key_search", args=[request.cluster.slug]),
            **({"prefix": show(prefix)} if prefix else {}),
            **lens.params(),
        ),
        "tree_here_url": list_url(request.cluster, prefix, lens=lens),
        "list_here_url": list_url(request.cluster, prefix, lens=lens, show="list"),
        "command": etcdctl_for(request.cluster).list(
            prefix, PAGE_KEYS, page.revision, consistency=lens.consistency
        ),
    }
    if request.role >= Role.EDITOR and not request.cluster.is_read_only:
        span = span_of(page.range.start, page.range.end)
        frame |= write_limits(request.gateway, span, whole=False)
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    try:
        listing = reader.keys(page)
    except Denied as error:
        roots = roots_within(request.gateway, page.range)
        context = {**frame, "denied": error, "shows": "list", "roots": roots}
        if roots and not prefix:
            context["tree"] = tree_of_roots(roots)
        # Somebody's own ranges are a page to start from, not a mistake.
        status = 200 if roots and not prefix else _status(request, 403)
        return render(request, "keys/list.html", context, status=status)
    except ClusterError as error:
        tried = f"Reading a page of {PAGE_KEYS} keys"
        if page.revision:
            tried += f" at revision {page.revision}"
        more = {k: frame[k] for k in ("rail_current", "crumbs", "newest_url")}
        return cluster_error(request, error, tried, **more)
    frame |= _listing_context(request, lens, prefix, listing, page)
    if not listing.total:
        frame["shows"] = "list"
    if not (lens.is_flat or request.headers.get("X-Without-Tree")):
        frame["tree"] = read_tree(
            reader, lens, prefix, request.cluster, start=start, pin=listing.revision
        )
    return render(request, "keys/list.html", frame)


def lens_context(lens: Lens) -> dict[str, Any]:
    """What the bar needs that shows how one looks and lets one look otherwise."""
    offered = SEPARATORS
    if lens.separator_text not in offered:
        offered = (lens.separator_text, *offered)
    return {"lens": lens, "separators": offered}


def _status(request: HttpRequest, status: int) -> int:
    """Somebody who is still typing gets the text in place of the listing, not an error page."""
    return 200 if request.htmx else status  # type: ignore[attr-defined]


def _listing_context(
    request: HttpRequest, lens: Lens, prefix: bytes, listing: Listing, page: Page
) -> dict[str, Any]:
    following = listing.next_page
    cluster = request.cluster  # type: ignore[attr-defined]
    return {
        "listing": listing,
        "first_number": page.seen + 1,
        "last_number": page.seen + len(listing.keys),
        "first_url": list_url(cluster, prefix, pin=listing.revision, lens=lens, show="list"),
        "next_url": list_url(cluster, prefix, following, lens=lens, show="list")
        if following
        else None,
        "is_pinned": bool(page.revision),
        "is_everything_empty": not listing.total and not prefix,
    }
