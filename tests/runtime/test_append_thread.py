"""The append thread: jobs in order, failure told once, how long each took."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kvserver.limits import APPEND_HERE_AGAIN_SECONDS, APPEND_HERE_SECONDS_MAX
from kvserver.runtime.append_thread import AppendThread


class StepClock:
    """Each job takes the next of the durations it was given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.durations: list[float] = []
        self._is_start = True

    def monotonic(self) -> float:
        if not self._is_start and self.durations:
            self.now += self.durations.pop(0)
        self._is_start = not self._is_start
        return self.now

    def wall(self) -> float:
        return self.now


class Rig:
    def __init__(self) -> None:
        self.clock = StepClock()
        self.errors: list[BaseException] = []
        self.thread = AppendThread(asyncio.get_running_loop(), self.clock, self.errors.append)
        self.thread.start()


@pytest.fixture
async def rig() -> "Iterator[Rig]":
    rig = Rig()
    yield rig
    rig.thread.stop()


async def test_jobs_run_in_the_order_they_were_given(rig: Rig) -> None:
    ran: list[int] = []
    last: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    for number in range(50):
        rig.thread.submit(lambda number=number: ran.append(number), lambda took: None)
    rig.thread.submit(lambda: None, last.set_result)
    await last
    assert ran == list(range(50))


async def test_a_failed_job_is_told_once_and_nothing_runs_after_it(rig: Rig) -> None:
    """A failed sync must never be retried (verification, lessons)."""
    ran: list[str] = []

    def fail() -> None:
        raise OSError("no space")

    rig.thread.submit(fail, lambda took: ran.append("done"))
    rig.thread.submit(lambda: ran.append("later"), lambda took: None)
    rig.thread.stop()
    await asyncio.sleep(0)
    assert [str(error) for error in rig.errors] == ["no space"]
    assert ran == []


async def test_the_time_a_job_took_is_told(rig: Rig) -> None:
    rig.clock.durations.append(0.25)
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    rig.thread.submit(lambda: None, done.set_result)
    assert await done == pytest.approx(0.25)


async def test_a_short_job_runs_at_once_where_it_was_asked(rig: Rig) -> None:
    rig.clock.durations += [0.0, 0.002]
    ran: list[str] = []
    assert rig.thread.run_here(lambda: ran.append("here")) is not None
    assert ran == ["here"]


async def test_nothing_runs_here_past_what_was_submitted(rig: Rig) -> None:
    """The log's bytes are written in their order."""
    gate = threading.Event()
    last: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    rig.thread.submit(lambda: gate.wait(60) and None, last.set_result)
    assert rig.thread.run_here(lambda: None) is None
    gate.set()
    await last
    assert rig.thread.run_here(lambda: None) is not None


async def test_after_a_slow_job_the_thread_is_used_for_a_while(rig: Rig) -> None:
    clock = rig.clock
    ran: list[float] = []

    def slow() -> None:
        clock.durations.append(APPEND_HERE_SECONDS_MAX * 2)

    assert rig.thread.run_here(slow) == pytest.approx(APPEND_HERE_SECONDS_MAX * 2)
    assert rig.thread.run_here(lambda: ran.append(clock.now)) is None
    clock.now += APPEND_HERE_AGAIN_SECONDS + 1
    assert rig.thread.run_here(lambda: ran.append(clock.now)) is not None
    assert len(ran) == 1


async def test_a_job_that_failed_here_is_the_last(rig: Rig) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise OSError("no space")

    assert rig.thread.run_here(fail) is None
    rig.thread.submit(fail, lambda took: ran.append("done"))
    rig.thread.submit(lambda: ran.append("later"), lambda took: None)
    rig.thread.stop()
    await asyncio.sleep(0)
    assert [str(error) for error in rig.errors] == ["no space"]
    assert ran == []
