"""What the console does by itself goes on after a turn that failed."""

import threading

from console.serving.ticker import Ticker

SECONDS_MAX = 20


def test_a_turn_that_fails_is_not_the_last(caplog) -> None:
    turns, third = [], threading.Event()

    def turn() -> None:
        turns.append(None)
        if len(turns) == 1:
            raise OSError("the database is away")
        if len(turns) == 3:
            third.set()

    ticker = Ticker("tests", lambda: 0.0, turn)
    ticker.begin()
    assert third.wait(SECONDS_MAX)
    ticker.stop()
    count = len(turns)
    assert "the database is away" in caplog.text
    assert len(turns) == count  # stopped


def test_one_that_never_began_stops_too() -> None:
    Ticker("tests", lambda: 0.0, lambda: None).stop()
