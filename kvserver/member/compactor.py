"""Auto-compaction in both modes (spec/kv.md §10), as pure state machines.

`due(now, revision, is_leader)` is called by the runtime at least every `step_seconds` and answers
the revision to compact to, or None. `done(now, revision)` tells that a proposal succeeded (or that
the revision was compacted already, which counts the same).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

HOUR_SECONDS = 3600.0
REVISION_MODE_STEP_SECONDS = 300.0


class Compactor(Protocol):
    """What the runtime drives."""

    step_seconds: float

    def due(self, now: float, revision: int, is_leader: bool) -> int | None: ...

    def done(self, now: float, revision: int) -> None: ...


class PeriodicCompactor:
    """Keeps `retention_seconds` of history; samples ten revisions per interval (A3)."""

    def __init__(self, retention_seconds: float, now: float) -> None:
        interval = min(retention_seconds, HOUR_SECONDS)
        self.step_seconds = interval / 10
        self._interval = interval
        self._wait = retention_seconds
        self._samples: deque[int] = deque(maxlen=int(retention_seconds / self.step_seconds) + 1)
        self._last_success = now
        self._last_revision = 0
        self._next_sample = now

    def due(self, now: float, revision: int, is_leader: bool) -> int | None:
        if now < self._next_sample:
            return None
        first = self._next_sample + self.step_seconds
        self._next_sample = first if first > now else now + self.step_seconds
        wanted = self._judge(now) if is_leader else None
        self._samples.append(revision)
        return wanted

    def _judge(self, now: float) -> int | None:
        if not self._samples or now - self._last_success < self._wait:
            return None
        oldest = self._samples[0]
        return oldest if oldest != self._last_revision else None

    def done(self, now: float, revision: int) -> None:
        self._last_success = now
        self._last_revision = revision
        self._wait = self._interval


class RevisionCompactor:
    """Keeps the newest `retention` revisions: every five minutes compacts to current - n (A4)."""

    step_seconds = REVISION_MODE_STEP_SECONDS

    def __init__(self, retention: int, now: float) -> None:
        self._retention = retention
        self._last_revision = 0
        self._next = now + self.step_seconds

    def due(self, now: float, revision: int, is_leader: bool) -> int | None:
        if now < self._next:
            return None
        self._next = now + self.step_seconds
        wanted = revision - self._retention
        if not is_leader or wanted <= 0 or wanted == self._last_revision:
            return None
        return wanted

    def done(self, now: float, revision: int) -> None:
        self._last_revision = revision
