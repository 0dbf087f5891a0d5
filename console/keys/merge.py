"""Two edits of one text put together, where they do not touch each other. No Django in here."""

from __future__ import annotations

from difflib import SequenceMatcher

LINES_MAX = 5_000


def merge(base: str, theirs: str, yours: str) -> str | None:
    """Both changes of `base`, line by line; None where they meet: then a person decides.

    Changes that touch adjoining lines count as meeting: which comes first is not ours to say. The
    same change made by both is one change.
    """
    lines = base.splitlines(keepends=True)
    if max(len(lines), theirs.count("\n"), yours.count("\n")) > LINES_MAX:
        return None
    changes = sorted({*_changes(lines, theirs), *_changes(lines, yours)})
    merged: list[str] = []
    at = 0
    last_end = -1
    for start, end, text in changes:
        if start <= last_end:
            return None
        merged += [*lines[at:start], text]
        at = last_end = end
    return "".join([*merged, *lines[at:]])


def _changes(lines: list[str], edited: str) -> list[tuple[int, int, str]]:
    """(first line, line behind the last, what stands there instead)."""
    new = edited.splitlines(keepends=True)
    matcher = SequenceMatcher(None, lines, new, autojunk=False)
    return [
        (old_from, old_to, "".join(new[new_from:new_to]))
        for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes()
        if tag != "equal"
    ]
