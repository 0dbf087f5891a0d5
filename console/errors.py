"""Pages for what went wrong: each says what happened, what was tried and what to do next."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.clusters.secrets import SecretLost
from console.gateway import (
    ClusterError,
    Compacted,
    Denied,
    FateUnknown,
    NoLeader,
    TooLarge,
    Unreachable,
)

STATES: dict[type[ClusterError], tuple[str, int, str]] = {
    Unreachable: (
        "The cluster does not answer",
        503,
        "No endpoint of this connection answered in time. Nothing was changed.",
    ),
    NoLeader: (
        "The cluster has no leader",
        503,
        "Members answer, but without a leader none of them may tell this: a quorum of the voters "
        "is missing. Nothing was changed.",
    ),
    Compacted: (
        "This revision has been compacted",
        410,
        "The cluster no longer keeps the state asked for. The newest state is still there.",
    ),
    Denied: (
        "The cluster refuses this connection",
        403,
        "The etcd user of this connection may not do this, or could not sign in.",
    ),
    TooLarge: (
        "The answer is too large for a page",
        502,
        "The cluster answered with more than the console takes in one message.",
    ),
    FateUnknown: (
        "It is not known whether this was written",
        504,
        "The write was sent and no answer came. Look at what is there before sending it again.",
    ),
    ClusterError: (
        "The cluster refused",
        502,
        "The call reached the cluster, which answered with an error. Nothing was changed.",
    ),
}


def cluster_error(
    request: HttpRequest, error: ClusterError, tried: str, **context: Any
) -> HttpResponse:
    """The state of a page whose data could not be had. `tried` is a sentence without its end."""
    headline, status, explanation = STATES[type(error)]
    return render(
        request,
        "errors/cluster.html",
        {
            "title": headline,
            "headline": headline,
            "explanation": explanation,
            "error": error,
            "tried": tried,
            # A write is not offered again by the same click: the retry is a look.
            "retry": request.get_full_path() if request.method in {"GET", "HEAD"} else None,
            "is_compacted": isinstance(error, Compacted),
            "is_denied": isinstance(error, Denied),
            **context,
        },
        status=status,
    )


def form_again(
    request: HttpRequest, template: str, error: ClusterError, context: dict[str, Any]
) -> HttpResponse:
    """The form with what was typed into it, and why it could not be carried out."""
    headline, status, explanation = STATES[type(error)]
    context = context | {
        "failure": error,
        "headline": headline,
        "explanation": explanation,
        "is_denied": isinstance(error, Denied),
    }
    return render(request, template, context, status=status)


class ErrorPagesMiddleware:
    """Turns a domain error that a view let through into its page."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, ClusterError):
            return cluster_error(request, error, _tried(request))
        if isinstance(error, SecretLost):
            return plain(request, "A secret cannot be read", str(error), 500)
        return None


def _tried(request: HttpRequest) -> str:
    """For views that leave their errors to the middleware."""
    doing = "Opening" if request.method in {"GET", "HEAD"} else "Sending a form to"
    return f"{doing} {request.path}"


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return plain(request, "This request makes no sense here", _said(exception), 400)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return plain(request, "You may not do this", _said(exception), 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    text = _said(exception)
    # An unresolved URL's exception is a dump of the URLconf.
    return plain(request, "There is nothing here", "" if "tried" in text else text, 404)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    text = "The form was opened in another session. Nothing was changed: open it again."
    return plain(request, "This form is no longer valid", text, 403)


def server_error(request: HttpRequest) -> HttpResponse:
    text = "The console failed on this page. The details are in its log."
    return plain(request, "Something went wrong", text, 500)


def plain(
    request: HttpRequest, headline: str, text: str, status: int, *, back: str = ""
) -> HttpResponse:
    """`back`: an address of ours that leads on from here."""
    is_look = request.method in {"GET", "HEAD"}
    context = {
        "title": headline,
        "headline": headline,
        "text": text,
        "status": status,
        "back": back,
        "retry": request.get_full_path() if status >= 500 and is_look else None,
    }
    return render(request, "errors/plain.html", context, status=status)


def _said(exception: Exception | None) -> str:
    return str(exception) if exception else ""
