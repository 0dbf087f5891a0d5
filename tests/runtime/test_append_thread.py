"""The append thread: jobs in order, failure told once, small jobs on the loop when the disk is
quick."""

import asyncio
from collections.abc import Iterator

import pytest

from kvserver.runtime.append_thread import AVERAGED_APPENDS, QUICK_APPEND_SECONDS, AppendThread


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

    async def append(self, seconds: float) -> None:
        """One job through the thread, which takes so long by the clock."""
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.clock.durations.append(seconds)
        self.thread.submit(lambda: None, done.set_result)
        assert await done == pytest.approx(seconds)


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


async def test_a_disk_is_slow_until_it_has_proven_otherwise(rig: Rig) -> None:
    assert rig.thread.run_here(lambda: None) is None
    for _ in range(AVERAGED_APPENDS * 8):
        await rig.append(QUICK_APPEND_SECONDS / 10)
    ran: list[int] = []
    rig.clock.durations.append(QUICK_APPEND_SECONDS / 10)
    assert rig.thread.run_here(lambda: ran.append(1)) == pytest.approx(QUICK_APPEND_SECONDS / 10)
    assert ran == [1]


async def test_one_stall_and_the_thread_is_used_again(rig: Rig) -> None:
    for _ in range(AVERAGED_APPENDS * 8):
        await rig.append(QUICK_APPEND_SECONDS / 10)
    rig.clock.durations.append(QUICK_APPEND_SECONDS * 100)
    assert rig.thread.run_here(lambda: None) is not None
    assert rig.thread.run_here(lambda: None) is None


async def test_nothing_overtakes_a_job_of_the_thread(rig: Rig) -> None:
    for _ in range(AVERAGED_APPENDS * 8):
        await rig.append(QUICK_APPEND_SECONDS / 10)
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    rig.clock.durations.append(0.0)
    rig.thread.submit(lambda: None, done.set_result)
    assert rig.thread.run_here(lambda: None) is None
    await done
