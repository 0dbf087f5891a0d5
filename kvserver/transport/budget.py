"""How much a peer may make us do without moving a request forward (verification.md, lessons).

Empty DATA, PRIORITY, SETTINGS, PING, RST_STREAM, WINDOW_UPDATE and unknown frames are each cheap
to send and cost us a parse or an answer. Each adds to a debt. The calls that ended, the messages
of streams and the bytes that were sent pay for as many frames as they are worth, because an honest
peer's resets, window updates and pings go with those; time pays the rest, at a rate. Nothing is
computed until the debt reaches the burst.
"""

from __future__ import annotations

BYTES_PER_FRAME = 64
"""Bytes sent to the peer that pay for one frame of it."""

FRAMES_PER_MESSAGE = 2
"""Frames that a message of a stream pays for: clients give each message's window back on the
stream and on the connection, and keep-alives come and go one by one."""


class NuisanceBudget:
    __slots__ = ("_burst", "_debt", "_rate", "_spent", "_then")

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst = burst
        self._rate = per_second
        self._debt = 0.0
        self._then = now
        self._spent = 0.0
        """Of what the peer ever earned, what has been used."""

    def near(self, cost: int = 1) -> bool:
        """Adds `cost`; whether the debt has to be looked at with `exceeded`."""
        self._debt += cost
        return self._debt > self._burst

    def exceeded(
        self, now: float, bytes_sent: int, calls_ended: int, messages_moved: int = 0
    ) -> bool:
        """Pays with what was earned since the connection began, then with time."""
        earned = bytes_sent / BYTES_PER_FRAME + calls_ended + messages_moved * FRAMES_PER_MESSAGE
        paid = min(self._debt, earned - self._spent)
        self._spent += paid
        self._debt -= paid
        self._debt = max(0.0, self._debt - (now - self._then) * self._rate)
        self._then = now
        return self._debt > self._burst
