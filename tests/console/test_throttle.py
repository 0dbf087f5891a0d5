from console.accounts.throttle import (
    FREE_TRIES,
    WAIT_SECONDS_FIRST,
    WAIT_SECONDS_MAX,
    WINDOW_SECONDS,
    wait_seconds,
)


def test_the_first_tries_are_free() -> None:
    assert wait_seconds([100.0] * (FREE_TRIES - 1), now=100.0) == 0


def test_then_the_wait_doubles_from_the_latest_failure() -> None:
    assert wait_seconds([100.0] * FREE_TRIES, now=100.0) == WAIT_SECONDS_FIRST
    assert wait_seconds([100.0] * FREE_TRIES, now=104.0) == WAIT_SECONDS_FIRST - 4
    assert wait_seconds([100.0] * (FREE_TRIES + 1), now=100.0) == 2 * WAIT_SECONDS_FIRST


def test_it_has_an_end() -> None:
    assert wait_seconds([100.0] * 500, now=100.0) == WAIT_SECONDS_MAX
    assert wait_seconds([100.0] * 500, now=100.0 + WINDOW_SECONDS) == 0
