"""The append thread: jobs in order, failure told once, how long each took."""

import asyncio
from collections.abc import Iterator

import pytest

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
