"""The lag probe: how long the event loop keeps others waiting (design D6)."""

from __future__ import annotations

import asyncio

from kvserver.clock import Clock
from kvserver.metrics.histogram import Histogram, exponential

PROBE_SECONDS = 0.01
WINDOW_SECONDS = 60.0


class LagProbe:
    """Asks to be called every 10 ms and notes by how much it was late. Owner: the loop.

    `max_seconds` is the worst of this minute and the last, so that a scrape every 15 s or 30 s
    cannot miss a pause.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, probe_seconds: float = PROBE_SECONDS
    ) -> None:
        self.histogram = Histogram(exponential(0.0005, 2, 12))
        self._loop = loop
        self._clock = clock
        self._probe_seconds = probe_seconds
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._worst = self._worst_before = 0.0
        self._window_end = 0.0

    @property
    def max_seconds(self) -> float:
        return max(self._worst, self._worst_before)

    def start(self) -> None:
        self._window_end = self._clock.monotonic() + WINDOW_SECONDS
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self) -> None:
        self._due = self._clock.monotonic() + self._probe_seconds
        self._handle = self._loop.call_later(self._probe_seconds, self._probe)

    def _probe(self) -> None:
        now = self._clock.monotonic()
        late = max(now - self._due, 0.0)
        self.histogram.observe(late)
        if now > self._window_end:
            self._window_end = now + WINDOW_SECONDS
            self._worst_before, self._worst = self._worst, 0.0
        self._worst = max(self._worst, late)
        self._arm()
