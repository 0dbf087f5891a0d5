"""Output in the forms of etcd's tools (spec/tools.md §1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SIZE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
SIZE_BASE = 1000


def human_size(size_bytes: int) -> str:
    """`20 kB`, `1.5 MB`: powers of a thousand, one decimal below ten."""
    if size_bytes < 10:
        return f"{size_bytes} B"
    exponent = 0
    while size_bytes >= SIZE_BASE ** (exponent + 1):
        exponent += 1
    tenths = int(size_bytes * 10 / SIZE_BASE**exponent + 0.5)
    number = f"{tenths / 10:.1f}" if tenths < 100 else f"{tenths / 10:.0f}"
    return f"{number} {SIZE_UNITS[exponent]}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A box with centred titles and cells to the right, ending in a newline."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [rule, _line(map(_centred, header, widths)), rule]
    lines += [_line(map(str.rjust, row, widths)) for row in rows]
    return "\n".join([*lines, rule, ""])


def _centred(text: str, width: int) -> str:
    return (" " * ((width - len(text)) // 2) + text).ljust(width)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
