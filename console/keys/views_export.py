"""A range as a file: streamed page by page, at one revision, with bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from console.access import allow
from console.errors import cluster_error, plain
from console.gateway import ClusterError, Key
from console.keys.addresses import BadAddress, bytes_of
from console.keys.interchange import FORMATS, cut_short, written
from console.keys.lens import Lens
from console.keys.paging import KeyRange, after, prefix_range
from console.keys.views_key import file_name
from console.roles import Role

PAGE = 200
TYPES = {"ndjson": "application/x-ndjson", "yaml": "application/yaml"}


@allow(Role.VIEWER)
def export(request: HttpRequest) -> HttpResponse:
    try:
        lens = Lens.from_query(request.GET)
        prefix = bytes_of(request.GET.get("prefix", ""))
    except BadAddress as error:
        return plain(request, "This address names no range", str(error), 400)
    kind = request.GET.get("format", "ndjson")
    if kind not in FORMATS:
        return plain(request, "There is no such format", "It is ndjson or yaml.", 400)
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    keys = prefix_range(prefix)
    try:
        # What cannot be read at all is a page that says so, not an empty file.
        revision = lens.revision or reader.newest_revision(keys)
        reader.part(keys, 1, revision)
    except ClusterError as error:
        return cluster_error(request, error, "Exporting keys", rail_current="keys")
    pages = exported(reader, keys, revision, kind)
    body = _off_the_loop(pages) if isinstance(request, ASGIRequest) else pages
    response = StreamingHttpResponse(body, content_type=TYPES[kind])
    name = f"{request.cluster.slug}-{file_name(prefix) if prefix else 'all'}-r{revision}.{kind}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def exported(reader: Any, keys: KeyRange, revision: int, kind: str) -> Iterator[bytes]:
    """The file, a page of keys at a time; one that fails in between says so at its end."""
    start = keys.start
    while True:
        try:
            part = reader.part(KeyRange(start, keys.end), PAGE, revision, has_values=True)
        except ClusterError as error:
            yield cut_short(f"{error.code}: {error.message}", kind)
            return
        found: tuple[Key, ...] = part.keys
        yield b"".join(written(key, kind) for key in found)
        if not part.has_more or not found:
            return
        start = after(found[-1].key)


async def _off_the_loop(pages: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(lambda: next(pages, None), thread_sensitive=False)
    while (page := await take()) is not None:
        yield page
