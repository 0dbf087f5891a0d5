"""From a moment of the clock to the page as of the revision it means."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.timezone import now

from console.access import allow
from console.errors import plain
from console.gateway import Denied
from console.history.moments import NoMoment, moment_of
from console.keys.addresses import query_url
from console.keys.paging import prefix_range
from console.roles import Role

PLACES = {"keys": "rev", "key": "rev", "keys/search": "rev", "history": "at"}
"""Pages below a cluster's address that are shown as of a revision, and the field that says so."""


@allow(Role.VIEWER)
def at_moment(request: HttpRequest) -> HttpResponse:
    """`time`, of UTC where it names no zone, and `page`, an address of this cluster."""
    try:
        parts = urlsplit(request.GET.get("page", ""))
    except ValueError:
        parts = urlsplit("")
    here = f"/c/{request.cluster.slug}/"
    field = PLACES.get(parts.path.removeprefix(here)) if parts.path.startswith(here) else None
    if field is None or parts.netloc:
        return plain(request, "This page is not shown as of a time", "", 400)
    try:
        asked = _moment(request.GET.get("time", ""))
        found = moment_of(request.cluster, asked, now(), **_window(request))
    except NoMoment as error:
        back = query_url(parts.path, **dict(parse_qsl(parts.query)))
        return plain(request, "There is no revision of that time", str(error), 404, back=back)
    messages.info(request, found.said)
    query = dict(parse_qsl(parts.query)) | {field: str(found.revision)}
    # Another time is another listing: its first page.
    kept = {name: value for name, value in query.items() if name not in {"after", "seen", "pin"}}
    return redirect(query_url(parts.path, **kept))


def _moment(text: str) -> datetime:
    try:
        asked = datetime.fromisoformat(text.strip())
    except ValueError:
        raise NoMoment(f"{text[:40]!r} is no time: 2026-11-29 12:30:00 is one.") from None
    if not 1970 < asked.year < 9998:
        raise NoMoment(f"There was no store in the year {asked.year}.")
    return asked.astimezone(UTC) if asked.tzinfo else asked.replace(tzinfo=UTC)


def _window(request: HttpRequest) -> dict[str, int]:
    """What the store keeps, as far as this connection may ask."""
    everything = prefix_range(b"")
    try:
        newest = request.gateway.newest_revision(everything)
        return {"newest": newest, "compacted": request.gateway.compacted(everything, newest)}
    except Denied:
        # The page that follows says when its revision is compacted.
        return {"newest": 0, "compacted": 0}
