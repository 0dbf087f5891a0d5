"""How long a sign-in has to wait after refusals. Pure: times in, seconds out.

Counted for account and address together, so that nobody locks somebody else out from elsewhere,
and more generously for an address alone and for an account alone, against guessing spread out.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW_SECONDS = 900.0
FREE_TRIES = 5
FREE_TRIES_ADDRESS = 30
FREE_TRIES_ACCOUNT = 60
WAIT_SECONDS_FIRST = 10.0
WAIT_SECONDS_MAX = 300.0


def wait_seconds(failures: Sequence[float], now: float, free_tries: int = FREE_TRIES) -> float:
    """Seconds until the next try is let through; 0 for at once. `failures` in any order.

    The first `free_tries` in the window cost nothing; each further one doubles the wait, counted
    from the latest failure.
    """
    recent = [at for at in failures if now - at < WINDOW_SECONDS]
    over = len(recent) - free_tries
    if over < 0:
        return 0.0
    wait = min(WAIT_SECONDS_FIRST * 2.0 ** min(over, 10), WAIT_SECONDS_MAX)
    return max(0.0, max(recent) + wait - now)
