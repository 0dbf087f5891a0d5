"""Keys in URLs: `?key=` carries byte text (byte_text.py), percent-encoded like any text."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from django.http import HttpRequest
from django.urls import reverse

from console.keys.byte_text import show
from console.keys.lens import INT64_MAX, SEPARATOR, BadAddress, Lens, bytes_of, number_of
from console.keys.paging import Page, prefix_range
from console.models import Cluster

__all__ = ["INT64_MAX", "BadAddress", "bytes_of", "key_of", "key_url", "number_of"]


def key_of(request: HttpRequest) -> bytes:
    """The key a page is about. There is no page about the empty key: it cannot exist."""
    key = bytes_of(request.GET.get("key", ""))
    if not key:
        raise BadAddress("this address names no key")
    return key


def page_of(request: HttpRequest, lens: Lens) -> tuple[bytes, Page]:
    """The prefix and the page of its listing that a URL names. `pin` is the revision of page one
    of a listing of the newest keys; where the lens has a revision, that is the one."""
    query = request.GET
    prefix = bytes_of(query.get("prefix", ""))
    last_key = bytes_of(query["after"]) if query.get("after") else None
    return prefix, Page(
        prefix_range(prefix),
        last_key,
        lens.revision or number_of(query.get("pin", "")),
        number_of(query.get("seen", "")),
    )


def key_url(cluster: Cluster, key: bytes, view: str = "key", **more: object) -> str:
    return query_url(reverse(view, args=[cluster.slug]), key=show(key), **more)


def list_url(
    cluster: Cluster,
    prefix: bytes,
    page: Page | None = None,
    pin: int = 0,
    lens: Lens | None = None,
    **more: object,
) -> str:
    params: dict[str, object] = {"prefix": show(prefix)} if prefix else {}
    params |= lens.params() if lens else {}
    if page and page.last_key is not None:
        params |= {"after": show(page.last_key), "seen": page.seen}
        pin = page.revision
    if pin and not (lens and lens.revision):
        params["pin"] = pin
    return query_url(reverse("keys", args=[cluster.slug]), **params, **more)


def query_url(path: str, **params: object) -> str:
    # A slash may stand in a query as it is, and keys are full of them.
    query = urlencode(params, safe="/:", quote_via=quote)
    return f"{path}?{query}" if query else path


def path_parts(key: bytes, separator: bytes = SEPARATOR) -> list[tuple[bytes, bytes | None]]:
    """The key cut behind each separator: (piece, the prefix it ends, or None for the last piece).

    Folders are only a way to look at keys (console.md §3 trap 5): the pieces joined are the key.
    """
    parts: list[tuple[bytes, bytes | None]] = []
    start = 0
    while separator and -1 < (at := key.find(separator, start)) < len(key) - len(separator):
        end = at + len(separator)
        parts.append((key[start:end], key[:end]))
        start = end
    parts.append((key[start:], None))
    return parts
