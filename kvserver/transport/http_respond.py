"""From an HttpRequest to the HttpResponse that will be sent, whatever the handler does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import formatdate
from http import HTTPStatus

from kvserver.transport.endpoint import Endpoint
from kvserver.transport.http_message import HttpError, HttpRequest, HttpResponse

BODILESS = frozenset((204, 304))


def text_response(status: int, message: str) -> HttpResponse:
    headers = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
    return HttpResponse(status, headers, f"{message}\n".encode())


def reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


async def respond(endpoint: Endpoint, request: HttpRequest) -> HttpResponse:
    if endpoint.http_handler is None:
        return text_response(404, "404 page not found")
    try:
        return await endpoint.http_handler(request)
    except HttpError as error:
        return text_response(error.status, error.message)
    except Exception as error:
        fields = {"path": request.path, "error": repr(error), "exc": error}
        endpoint.log("error", "http handler failed", fields)
        return text_response(500, "Internal Server Error")


def response_headers(response: HttpResponse, head_only: bool) -> list[tuple[str, str]]:
    """Name-value pairs in lower case, with date and content-length where they belong."""
    headers = [(name.lower(), str(value)) for name, value in response.headers.items()]
    names = {name for name, _ in headers}
    if "date" not in names:
        headers.append(("date", formatdate(usegmt=True)))
    body = response.body
    if (
        isinstance(body, bytes)
        and "content-length" not in names
        and response.status not in BODILESS
        and not (head_only and not body)
    ):
        headers.append(("content-length", str(len(body))))
    return [(name, _one_line(value)) for name, value in headers]


def _one_line(value: str) -> str:
    """A response must not be split by what a header value quotes."""
    return value.replace("\r", " ").replace("\n", " ")


async def close_body(body: bytes | AsyncIterator[bytes]) -> None:
    close = getattr(body, "aclose", None)
    if close is not None:
        await close()
