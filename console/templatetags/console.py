"""How bytes, numbers, sizes and times are written on every page."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2s

from django import template
from django.template import Context
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from console.history.moments import told, when
from console.icons import PATHS
from console.keys import addresses
from console.keys.byte_text import show as show_bytes
from console.keys.paging import FROM_NUL
from console.keys.txn import Guard, Operation, Put
from console.models import Cluster

register = template.Library()

PREVIEW_BYTES = 160


@register.filter
def show(data: bytes) -> str:
    """Bytes as byte text; the template escapes it like any text."""
    return show_bytes(data)


@register.filter
def show_part(data: bytes) -> str:
    """Bytes out of the middle of others: a blank at an end is just a blank."""
    return show_bytes(b"|" + data + b"|")[1:-1]


@register.filter
def tree_id(path: bytes) -> str:
    """The id of a folder's rows in the tree."""
    return f"t{blake2s(path, digest_size=8).hexdigest()}"


@register.filter
def preview(value: bytes) -> str:
    """The beginning of a value on one line."""
    head = value[:PREVIEW_BYTES]
    if len(value) > PREVIEW_BYTES:
        # A character cut in two would show as stray bytes.
        head = head.decode(errors="ignore").encode() or head
    text = " ".join(show_bytes(head).replace(r"\x0a", " ").replace(r"\x09", " ").split())
    return text + "…" if len(value) > PREVIEW_BYTES else text


@register.simple_tag
def num(value: object) -> SafeString | str:
    """A number in groups of three that are copied as one number: the gaps are CSS."""
    if not isinstance(value, int):  # the template had none
        return "–"
    digits = str(abs(value))
    head = len(digits) % 3 or 3
    groups = [digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))]
    if len(groups) == 1:
        return str(value)
    sign = "−" if value < 0 else ""
    spans = format_html_join("", "<i>{}</i>", ((group,) for group in groups))
    return format_html('<span class="num">{}{}</span>', sign, spans)


@register.filter
def bytesize(size: int | None) -> str:
    """1536 → 1.5 KiB. A no-break space, so that number and unit stay together."""
    if size is None:
        return "–"
    if size < 1024:
        return f"{size}\N{NO-BREAK SPACE}B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1024 or unit == "TiB":
            break
    digits = 0 if amount >= 100 else 1
    return f"{amount:.{digits}f}\N{NO-BREAK SPACE}{unit}"


@register.filter
def duration(seconds: float | None) -> str:
    """42 → 42 s, 192 → 3:12, 7500 → 2 h 05 min, 200000 → 2 d 7 h."""
    if seconds is None:
        return "–"
    left = int(seconds)
    if left < 60:
        return f"{left}\N{NO-BREAK SPACE}s"
    if left < 3600:
        return f"{left // 60}:{left % 60:02d}"
    if left < 86400:
        return f"{left // 3600}\N{NO-BREAK SPACE}h {left % 3600 // 60:02d}\N{NO-BREAK SPACE}min"
    return f"{left // 86400}\N{NO-BREAK SPACE}d {left % 86400 // 3600}\N{NO-BREAK SPACE}h"


@register.filter
def ago(seconds: float | None) -> str:
    if seconds is None:
        return "not seen"
    return "now" if seconds < 3 else f"{duration(seconds)} ago"


@register.filter
def utc(second: int) -> str:
    """A second of the epoch, as a moment."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


@register.simple_tag
def reached_when(cluster: Cluster, revision: int) -> str:
    """Between which moments the store reached a revision, where the console's samples tell."""
    found = when(cluster, revision)
    if found is None:
        return ""
    since, until = found
    if since is None:
        return f"reached by {told(until)}"
    if since.date() == until.date():
        return f"reached {since:%Y-%m-%d}, {since:%H:%M:%S} to {until:%H:%M:%S} UTC"
    return f"reached between {told(since)} and {told(until)}"


@register.filter
def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f}\N{NO-BREAK SPACE}ms"


LENS_VIEWS = {"key", "key_raw", "key_history"}
"""Pages about a key that are looked at through a lens (console/keys/lens.py)."""


@register.simple_tag(takes_context=True)
def key_url(
    context: Context, cluster: Cluster, key: bytes, view: str = "key", **more: object
) -> str:
    """The address of a page about a key. What is given as nothing is left out, the lens' too."""
    lens = context.get("lens")
    params = lens.params() if lens and view in LENS_VIEWS else {}
    params |= {name.rstrip("_"): value for name, value in more.items()}
    return addresses.key_url(cluster, key, view, **{k: v for k, v in params.items() if v})


@register.simple_tag(takes_context=True)
def prefix_url(context: Context, cluster: Cluster, prefix: bytes) -> str:
    return addresses.list_url(cluster, prefix, lens=context.get("lens"))


@register.simple_tag(takes_context=True)
def export_url(context: Context, kind: str) -> str:
    """The listed range as a file."""
    path = reverse("export_keys", args=[context["cluster"].slug])
    lens = {n: v for n, v in context["lens"].params().items() if n != "sep"}
    return addresses.query_url(path, prefix=show_bytes(context["prefix"]), format=kind, **lens)


@register.simple_tag
def icon(name: str) -> SafeString:
    """A decorative drawing; the words beside it carry the meaning."""
    return format_html(
        '<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">{}</svg>',
        mark_safe(PATHS[name]),
    )


@register.filter
def op_name(operation: Operation) -> str:
    return type(operation).__name__.lower()


@register.filter
def op_range(operation: Operation) -> str:
    """The key, or the exact range (console.md §3 trap 13)."""
    end = b"" if isinstance(operation, Put) else operation.end
    if not end:
        return show_bytes(operation.key)
    return f"[{show_bytes(operation.key)}, {'∞' if end == FROM_NUL else show_bytes(end)})"


@register.simple_tag
def given(guard: Guard) -> str:
    """What a compare compares with."""
    if isinstance(guard.given, bytes):
        return show_bytes(guard.given)
    return f"{guard.given:x}" if guard.target == "lease" else str(guard.given)


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def undo_url(tags: str) -> str:
    """The address in a message's tags that takes back what the message tells of."""
    return next((t.removeprefix("undo:") for t in tags.split(" ") if t.startswith("undo:")), "")
