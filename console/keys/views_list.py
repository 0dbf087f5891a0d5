"""The listing of a range of keys: prefix filter, keyset pages, one revision throughout."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.access import allow
from console.audit.record import etcdctl_for
from console.errors import cluster_error
from console.gateway import ClusterError, Denied, Listing
from console.keys.addresses import BadAddress, list_url, page_of
from console.keys.paging import PAGE_KEYS, Page, prefix_range
from console.roles import Role


@allow(Role.VIEWER)
def keys(request: HttpRequest) -> HttpResponse:
    frame: dict[str, Any] = {
        "title": "Keys",
        "rail_current": "keys",
        "crumbs": [("Keys", None)],
        "prefix_text": request.GET.get("prefix", ""),
        "page_keys": PAGE_KEYS,
    }
    try:
        prefix, page = page_of(request)
    except BadAddress as error:
        context = {**frame, "bad_prefix": str(error), "range": prefix_range(b"")}
        return render(request, "keys/list.html", context, status=_status(request, 400))
    frame |= {
        "prefix": prefix,
        "range": page.range,
        "is_first": page.is_first,
        "newest_url": list_url(request.cluster, prefix),
        "command": etcdctl_for(request.cluster).list(prefix, PAGE_KEYS, page.revision),
    }
    try:
        listing = request.gateway.keys(page)
    except Denied as error:
        context = {**frame, "denied": error}
        return render(request, "keys/list.html", context, status=_status(request, 403))
    except ClusterError as error:
        tried = f"Reading a page of {PAGE_KEYS} keys"
        if page.revision:
            tried += f" at revision {page.revision}"
        more = {k: frame[k] for k in ("rail_current", "crumbs", "newest_url")}
        return cluster_error(request, error, tried, **more)
    return render(
        request, "keys/list.html", {**frame, **_listing_context(request, prefix, listing, page)}
    )


def _status(request: HttpRequest, status: int) -> int:
    """Somebody who is still typing gets the text in place of the listing, not an error page."""
    return 200 if request.htmx else status  # type: ignore[attr-defined]


def _listing_context(
    request: HttpRequest, prefix: bytes, listing: Listing, page: Page
) -> dict[str, Any]:
    following = listing.next_page
    return {
        "listing": listing,
        "first_number": page.seen + 1,
        "last_number": page.seen + len(listing.keys),
        "first_url": list_url(request.cluster, prefix, revision=listing.revision),
        "next_url": list_url(request.cluster, prefix, following) if following else None,
        "is_pinned": bool(page.revision),
        "is_everything_empty": not listing.total and not prefix,
    }
