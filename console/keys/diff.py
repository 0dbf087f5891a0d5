"""Line differences of two texts, as rows for a template. No Django in here."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher

from console.keys.decoders import decode_hex, is_text, visible

CONTEXT_LINES = 3
LINES_MAX = 5_000
"""Beyond this many lines on a side the comparison would hold a page for seconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: kind is `same`, `add`, `del` or `gap` (lines left out, counted in `text`)."""

    kind: str
    text: str

    @property
    def sign(self) -> str:
        return {"add": "+", "del": "−", "same": " ", "gap": "⋯"}[self.kind]


@dataclass(frozen=True, slots=True)
class Diff:
    rows: tuple[Row, ...]
    added: int
    removed: int
    is_too_long: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.added and not self.removed and not self.is_too_long


def compare(before: str, after: str) -> Diff:
    """What changes from `before` to `after`, with three lines of context around each change."""
    old, new = _lines(before), _lines(after)
    if max(len(old), len(new)) > LINES_MAX:
        return Diff((), 0, 0, is_too_long=before != after)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    rows: list[Row] = []
    added = removed = end = 0
    for group in matcher.get_grouped_opcodes(CONTEXT_LINES):
        _gap(rows, group[0][1] - end)
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                rows += [Row("same", line) for line in old[old_from:old_to]]
                continue
            rows += [Row("del", line) for line in old[old_from:old_to]]
            rows += [Row("add", line) for line in new[new_from:new_to]]
            removed += old_to - old_from
            added += new_to - new_from
        end = group[-1][2]
    if rows:
        _gap(rows, len(old) - end)
    return Diff(tuple(rows), added, removed)


def compare_bytes(before: bytes | None, after: bytes | None) -> Diff:
    """Two values line by line: as text where both are text, else as a hex dump. None: no value."""
    sides = [value or b"" for value in (before, after)]
    if all(is_text(value) for value in sides):
        return compare(*(visible(value.decode()) for value in sides))
    return compare(*(decode_hex(value).text + "\n" if value else "" for value in sides))


def _gap(rows: list[Row], lines: int) -> None:
    if lines:
        rows.append(Row("gap", f"{lines} unchanged line{'s' if lines > 1 else ''}"))


def _lines(text: str) -> list[str]:
    """Lines without their ends; a missing newline at the end of the text is a line's own fact."""
    if not text:
        return []
    lines = text.split("\n")
    if lines[-1] == "":
        return lines[:-1]
    return [*lines[:-1], lines[-1] + "  (no newline at the end)"]
