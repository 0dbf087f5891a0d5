"""Who may ask what of the client port over plain HTTP: host names, web origins, certificates
(spec/wire-api.md §3.4, §4.5, §4.7; the package says where this goes beyond etcd).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kvserver.errors import Code
from kvserver.services.access import Access
from kvserver.services.gateway import answers
from kvserver.transport import HttpRequest, HttpResponse

ANY = "*"
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_CORS_HEADERS = {
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE",
    "Access-Control-Allow-Headers": "accept, content-type, authorization",
}


class Door:
    """`origins` and `hosts` as the flags --cors and --host-whitelist name them; none is all."""

    def __init__(self, access: Access, origins: Collection[str], hosts: Collection[str]) -> None:
        self._access = access
        self._origins = None if not origins or ANY in origins else frozenset(origins)
        self._hosts = None if not hosts or ANY in hosts else frozenset(hosts)

    def refuse_host(self, request: HttpRequest) -> HttpResponse | None:
        """Plain text only: a name that somebody made point here is how a foreign page would read
        our answers as if they were its own."""
        if self._hosts is None or request.peer.is_tls:
            return None
        host = _hostname(request.headers.get("host", ""))
        if host in self._hosts:
            return None
        text = f"host {host!r} is not in --host-whitelist of this member; add it there or use TLS\n"
        return HttpResponse(421, _TEXT, text.encode())

    def cors_headers(self, request: HttpRequest) -> Mapping[str, str]:
        if self._origins is None:
            return {**_CORS_HEADERS, "Access-Control-Allow-Origin": ANY}
        origin = request.headers.get("origin")
        if origin in self._origins:
            return {**_CORS_HEADERS, "Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return {"Vary": "Origin"}

    def refuse_caller(self, request: HttpRequest) -> HttpResponse | None:
        """For the gateway's paths: a certificate's name that would be ignored, a foreign page."""
        text = self._access.gateway_refusal(request.peer.common_name)
        if text is not None:
            return HttpResponse(400, _TEXT, text.encode() + b"\n")
        headers = request.headers
        origin = headers.get("origin")
        if origin is None and headers.get("sec-fetch-site", "none") == "none":
            return None  # no page's doing
        is_own = origin is not None and origin.partition("://")[2] == headers.get("host")
        if not is_own and self._origins is not None and origin not in self._origins:
            text = f"origin {origin or 'unknown'} is not in --cors of this member"
            return answers.refusal(Code.PERMISSION_DENIED, text)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            text = "a web page must send content-type application/json"
            return answers.refusal(Code.INVALID_ARGUMENT, text, status=415)
        return None


def _hostname(host: str) -> str:
    """Without the port; a bracketed IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and ":" not in name else host
