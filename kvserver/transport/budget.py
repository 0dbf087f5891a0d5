"""How much a peer may make us do without moving a request forward (verification.md, lessons).

Empty DATA, PRIORITY, SETTINGS, PING, RST_STREAM, WINDOW_UPDATE and unknown frames are each cheap
to send and cost us a parse or an answer. Each adds to a debt; time pays it off, and so do the
calls that ended and the bytes that were sent since, because an honest peer's resets and window
updates go with those. Nothing is computed until the debt reaches the burst.
"""

from __future__ import annotations

BYTES_PER_FRAME = 64
"""Bytes sent to the peer that pay for one frame of it."""
CALLS_PER_FRAME = 1


class NuisanceBudget:
    __slots__ = ("_burst", "_bytes_then", "_calls_then", "_debt", "_rate", "_then")

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._rate = per_second
        self._debt = 0.0
        self._then = now
        self._bytes_then = 0
        self._calls_then = 0

    def near(self, cost: int = 1) -> bool:
        """Adds `cost`; whether the debt has to be looked at with `exceeded`."""
        self._debt += cost
        return self._debt > self._burst

    def exceeded(self, now: float, bytes_sent: int, calls_ended: int) -> bool:
        """Pays off what time and work since the last look allow; whether too much is left."""
        paid = (
            (now - self._then) * self._rate
            + (bytes_sent - self._bytes_then) / BYTES_PER_FRAME
            + (calls_ended - self._calls_then) / CALLS_PER_FRAME
        )
        self._then = now
        self._bytes_then = bytes_sent
        self._calls_then = calls_ended
        self._debt = max(0.0, self._debt - paid)
        return self._debt > self._burst
