"""What addresses and forms of the access pages say, and the frame all of them share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.audit.record import etcdctl_for
from console.errors import cluster_error, plain
from console.etcdctl import Etcdctl
from console.gateway import ClusterError, Denied, auth
from console.gateway.directory import directories
from console.keys.addresses import BadAddress, bytes_of, query_url
from console.keys.byte_text import show
from console.keys.paging import KeyRange
from console.overview.sampler import sampler
from console.roles import Role
from console.users.identity import own_name
from console.users.rules import KINDS, Directory, Permission
from console.users.spans import Span, bounds, wire_of

NAME_BYTES_MAX = 200
PASSWORD_BYTES_MAX = 72  # bcrypt takes no more (spec/auth.md §1)


def frame(request: HttpRequest, part: str, title: str, *crumbs: str) -> dict[str, Any]:
    """`part`: users, roles, permissions or own_access, the entry of the rail."""
    cluster = request.cluster
    is_admin = request.role >= Role.ADMIN
    why = "The connection is read-only" if cluster.is_read_only else "This needs the role admin"
    words = PARTS[part]
    return {
        "title": title,
        "rail_current": part,
        "crumbs": [(words, part), *((crumb, None) for crumb in crumbs)],
        "may_change": is_admin and not cluster.is_read_only,
        "may_look": request.role >= Role.OPERATOR,
        "why_not": why,
        "own": own_name(cluster),
    }


PARTS = {
    "users": "Users",
    "roles": "Roles",
    "permissions": "Permissions",
    "own_access": "My access",
}


def named(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Answers for a view whose address names nothing, or something the cluster does not have."""

    @wraps(view)
    def answered(request: HttpRequest) -> HttpResponse:
        try:
            sampler.check_leader(request.cluster)
            return view(request)
        except BadAddress as error:
            text = f"In it {error}."
            return plain(request, "This address names no user, role or range", text, 400)
        except Denied as error:
            return refused(request, error)
        except ClusterError as error:
            if auth.is_absent(error):
                said = error.message.removeprefix("etcdserver: ")
                return plain(request, "There is nothing of this name", f"{said}.", 404)
            tried = f"{view.__name__.replace('_', ' ').capitalize()}"
            return cluster_error(request, error, tried)

    return answered


def refused(request: HttpRequest, error: Denied) -> HttpResponse:
    """Users and roles are for etcd's role root: a page that says so, and where to go instead."""
    context = frame(request, "users", "You may not see this", "Refused") | {"denied": error}
    return render(request, "users/refused.html", context, status=403)


def name_of(request: HttpRequest, field: str = "name") -> str:
    name = text_of(request.GET.get(field, ""))
    if not name:
        raise BadAddress("a name is missing")
    return name


def text_of(field: str) -> str:
    """A name from byte text; names are UTF-8 on the wire."""
    try:
        return bytes_of(field).decode()
    except UnicodeDecodeError:
        raise BadAddress("the name is no UTF-8 text") from None


def new_name(field: str, errors: dict[str, str]) -> str:
    name = ""
    try:
        name = text_of(field)
    except BadAddress as error:
        errors["name"] = sentence(error)
        return name
    if not name:
        errors["name"] = "A name is needed."
    elif len(name.encode()) > NAME_BYTES_MAX:
        errors["name"] = f"At most {NAME_BYTES_MAX} bytes."
    return name


def new_password(request: HttpRequest, errors: dict[str, str]) -> str:
    password = request.POST.get("password", "")
    if not password:
        errors["password"] = "A password is needed."
    elif len(password.encode()) > PASSWORD_BYTES_MAX:
        errors["password"] = f"At most {PASSWORD_BYTES_MAX} bytes: the server takes no more."
    elif password != request.POST.get("again", ""):
        errors["again"] = "The two passwords are not the same."
    return password


def permission_of(fields: Any, errors: dict[str, str]) -> Permission | None:
    """A permission from `kind`, `shape`, `key` and `end`; None when they mean none."""
    kind = fields.get("kind", "")
    if kind not in KINDS:
        errors["kind"] = "Choose what it allows."
    wire = range_of(fields, errors)
    return Permission(kind, *wire) if wire and not errors else None


def range_of(fields: Any, errors: dict[str, str]) -> tuple[bytes, bytes] | None:
    shape = fields.get("shape", "")
    try:
        end = bytes_of(fields.get("end", "")) if shape == "range" else b""
        return bounds(shape, bytes_of(fields.get("key", "")), end)
    except ValueError as error:
        errors["key"] = sentence(error)
        return None


def count_of(request: HttpRequest, span: Span) -> int | None:
    """How many keys there are in it now; None when that may not be told or counted."""
    if span.is_empty:
        return 0
    key, range_end = wire_of(span)
    try:
        return int(request.gateway.count(KeyRange(key, range_end)))
    except ClusterError:
        return None


def sentence(error: Exception) -> str:
    return f"{str(error)[:1].upper()}{str(error)[1:]}."


def refusal(error: ClusterError) -> str:
    """The server's own words, as a sentence."""
    said = error.message.removeprefix("etcdserver: ") or error.code
    return f"The cluster refused: {said}."


def directory_of(request: HttpRequest) -> Directory:
    """Users and roles as far as they are read by now; the page says how far that is."""
    return directories.read(request.gateway)


def is_dialog(request: HttpRequest) -> bool:
    return request.headers.get("HX-Target") == "dialog"


def ctl(request: HttpRequest) -> Etcdctl:
    return etcdctl_for(request.cluster)


def url(path: str, **names: str | bytes) -> str:
    shown = {k: show(v.encode() if isinstance(v, str) else v) for k, v in names.items()}
    return query_url(path, **shown)


def bounds_text(permission: Permission) -> str:
    span = permission.span
    if span.is_one_key:
        return show(permission.key)
    return f"[{show(span.start)}, {show(span.end) if span.end is not None else '∞'})"
