"""The only import of time on the server's side: everything else is given a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the server needs to know of time. Seconds, as floats."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def utc(wall_seconds: float) -> datetime:
    """A wall time as those libraries want it that speak of dates."""
    return datetime.fromtimestamp(wall_seconds, UTC)


def local(wall_seconds: float) -> datetime:
    """The same as the clock on this machine's wall shows it."""
    return datetime.fromtimestamp(wall_seconds)
