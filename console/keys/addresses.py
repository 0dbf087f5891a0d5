"""Keys in URLs: `?key=` carries byte text (byte_text.py), percent-encoded like any text."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from django.http import HttpRequest
from django.urls import reverse

from console.keys.byte_text import parse, show
from console.keys.paging import Page, prefix_range
from console.models import Cluster

INT64_MAX = 2**63 - 1


class BadAddress(ValueError):
    """A URL or a field that means no bytes or no revision; the text says why."""


def key_of(request: HttpRequest) -> bytes:
    """The key a page is about. There is no page about the empty key: it cannot exist."""
    key = bytes_of(request.GET.get("key", ""))
    if not key:
        raise BadAddress("this address names no key")
    return key


def bytes_of(text: str) -> bytes:
    try:
        return parse(text)
    except ValueError as error:
        raise BadAddress(str(error)) from None


def number_of(text: str) -> int:
    """A revision, count or id from a URL: nothing is 0."""
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or int(text) > INT64_MAX:
        raise BadAddress(f"{text[:30]!r} is not a revision")
    return int(text)


def page_of(request: HttpRequest) -> tuple[bytes, Page]:
    """The prefix and the page of its listing that a URL names."""
    query = request.GET
    prefix = bytes_of(query.get("prefix", ""))
    last_key = bytes_of(query["after"]) if query.get("after") else None
    return prefix, Page(
        prefix_range(prefix),
        last_key,
        number_of(query.get("rev", "")),
        number_of(query.get("seen", "")),
    )


def key_url(cluster: Cluster, key: bytes, view: str = "key", **more: object) -> str:
    return query_url(reverse(view, args=[cluster.slug]), key=show(key), **more)


def list_url(cluster: Cluster, prefix: bytes, page: Page | None = None, revision: int = 0) -> str:
    params: dict[str, object] = {}
    if prefix:
        params["prefix"] = show(prefix)
    if page and page.last_key is not None:
        params |= {"after": show(page.last_key), "rev": page.revision, "seen": page.seen}
    elif revision:
        params["rev"] = revision
    return query_url(reverse("keys", args=[cluster.slug]), **params)


def query_url(path: str, **params: object) -> str:
    # A slash may stand in a query as it is, and keys are full of them.
    query = urlencode(params, safe="/:", quote_via=quote)
    return f"{path}?{query}" if query else path


def path_parts(key: bytes) -> list[tuple[bytes, bytes | None]]:
    """The key cut behind each slash: (piece, the prefix it ends, or None for the last piece).

    Folders are only a way to look at keys (console.md §3 trap 5): the pieces joined are the key.
    """
    parts: list[tuple[bytes, bytes | None]] = []
    start = 0
    while (at := key.find(b"/", start)) != -1 and at + 1 < len(key):
        parts.append((key[start : at + 1], key[: at + 1]))
        start = at + 1
    parts.append((key[start:], None))
    return parts
