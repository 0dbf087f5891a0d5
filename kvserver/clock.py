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

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def thread_cpu_seconds(native_id: int) -> float:
    """Processor time that a thread of this process has used; 0 when it has ended. Linux: the
    number of a thread's clock is made of its id (CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK)."""
    try:
        return time.clock_gettime(~native_id << 3 | 0b110)
    except OSError:
        return 0.0


def utc(wall_seconds: float) -> datetime:
    """A wall time as those libraries want it that speak of dates."""
    return datetime.fromtimestamp(wall_seconds, UTC)


def local(wall_seconds: float) -> datetime:
    """The same as the clock on this machine's wall shows it."""
    return datetime.fromtimestamp(wall_seconds)
