"""The failpoint endpoint of tests: HTTP around `failpoints.answer`."""

from __future__ import annotations

from kvserver import failpoints
from kvserver.transport import HttpRequest, HttpResponse


async def answer_failpoints(request: HttpRequest) -> HttpResponse:
    status, text = failpoints.answer(request.method, request.path, request.body.decode())
    return HttpResponse(status, {"Content-Type": "text/plain; charset=utf-8"}, text.encode())
