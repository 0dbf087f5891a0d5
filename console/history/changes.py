"""What one event changed. No Django in here."""

from __future__ import annotations

from console.gateway.records import Event
from console.keys.diff import Diff, compare_bytes


def describe(event: Event, bytes_max: int) -> Diff | None:
    """Old → new of one event; None when the values are too long to be shown with others."""
    if event.size_bytes > bytes_max:
        return None
    before = event.prev.value if event.prev else None
    return compare_bytes(before, event.now.value if event.now else None)
