"""How users, roles and ranges are written."""

from __future__ import annotations

from django import template
from django.urls import reverse

from console.keys.addresses import query_url
from console.keys.byte_text import show
from console.models import Cluster
from console.users.lint import odd_range
from console.users.rules import Permission
from console.users.spans import Span, shape_fields

register = template.Library()


@register.filter
def name(text: str) -> str:
    """A user's or role's name, visible as a whole; the template escapes it like any text."""
    return show(text.encode())


@register.filter
def interval(span: Span) -> str:
    """`[start, end)` as the server understands it; one key as itself."""
    if span.is_one_key:
        return show(span.start)
    return f"[{show(span.start)}, {show(span.end) if span.end is not None else '∞'})"


@register.filter
def oddity(permission: Permission) -> str:
    """What is odd about its bounds, if anything is."""
    found = odd_range(permission)
    return found[2] if found else ""


@register.simple_tag
def access_url(cluster: Cluster, view: str, **names: str | bytes) -> str:
    shown = {k: show(v.encode() if isinstance(v, str) else v) for k, v in names.items()}
    return query_url(reverse(view, args=[cluster.slug]), **shown)


@register.simple_tag
def span_url(cluster: Cluster, view: str, span: Span, **names: str) -> str:
    """A page's address with its range fields filled in."""
    return access_url(cluster, view, **names, **shape_fields(span))
