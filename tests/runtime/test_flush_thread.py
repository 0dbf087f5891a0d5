"""The flush thread and its hand-over with the loop (design D1): who runs when, never how fast."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kvserver.errors import FatalError
from kvserver.mvcc.backend.api import Grant, Job
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.grant import SliceGrant

PATIENCE_SECONDS = 60.0


class CallableJob:
    def __init__(self, body: Callable[[Grant], None]) -> None:
        self._body = body

    def run(self, grant: Grant) -> None:
        self._body(grant)


class Rig:
    """A flush thread, what it reported, and a loop that is never idle while `is_busy`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.fatal: list[BaseException] = []
        self.thread = FlushThread(self.loop, self.fatal.append)
        self.trace: list[str] = []
        self.is_busy = True
        self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.trace.append("turn")
        if self.is_busy:
            self.loop.call_soon(self._turn)

    async def run(self, body: Callable[[Grant], None]) -> None:
        done = asyncio.Event()
        self.thread.submit(CallableJob(body), lambda job: done.set())
        await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    made.thread.start()
    yield made
    made.is_busy = False
    await made.thread.close()


def traced_slices(trace: list[str], count: int) -> Callable[[Grant], None]:
    """Slices that give the GIL up in their middle, as LMDB calls do."""
    pause = threading.Event()

    def body(grant: Grant) -> None:
        for _ in range(count):
            with grant:
                trace.append("begin")
                pause.wait(0.001)
                trace.append("end")

    return body


async def test_the_loop_stands_still_during_a_slice_and_runs_between_slices(rig: Rig) -> None:
    rig.thread.grant = SliceGrant(rig.loop, seconds_max=PATIENCE_SECONDS)
    await rig.run(traced_slices(rig.trace, 20))
    assert rig.thread.grant.slices_total == 20
    assert rig.thread.grant.slices_overdue_total == 0
    begins = [at for at, what in enumerate(rig.trace) if what == "begin"]
    assert len(begins) == 20
    for at, following in zip(begins, [*begins[1:], len(rig.trace)], strict=True):
        assert rig.trace[at + 1] == "end"
        assert "turn" in rig.trace[at + 2 : following]


async def test_an_overdue_slice_does_not_hold_the_loop_and_the_next_is_exclusive_again(
    rig: Rig,
) -> None:
    rig.thread.grant = SliceGrant(rig.loop, seconds_max=0.001)
    loop_went_on = threading.Event()

    def body(grant: Grant) -> None:
        with grant:
            rig.loop.call_soon_threadsafe(loop_went_on.set)
            assert loop_went_on.wait(PATIENCE_SECONDS)
        rig.thread.grant._seconds_max = PATIENCE_SECONDS
        traced_slices(rig.trace, 5)(grant)

    await rig.run(body)
    assert rig.thread.grant.slices_overdue_total == 1
    for at, what in enumerate(rig.trace):
        if what == "begin":
            assert rig.trace[at + 1] == "end"


async def test_a_slice_that_raises_gives_the_loop_back(rig: Rig) -> None:
    def body(grant: Grant) -> None:
        with pytest.raises(ValueError, match="in a slice"), grant:
            raise ValueError("in a slice")
        traced_slices(rig.trace, 1)(grant)

    await rig.run(body)
    assert "end" in rig.trace


async def test_free_grants_wait_for_nobody(rig: Rig) -> None:
    """At the end of the loop: a thread in the middle of a job must not wait for turns that never
    come, wherever it is when the grant is freed."""
    started, finished = threading.Event(), threading.Event()

    def body(grant: Grant) -> None:
        started.set()
        traced_slices(rig.trace, 10)(grant)
        finished.set()

    rig.thread.submit(CallableJob(body), lambda job: None)
    assert started.wait(PATIENCE_SECONDS)
    rig.thread.grant.set_free()
    assert finished.wait(PATIENCE_SECONDS)  # while the loop stands here


async def test_a_granted_slice_when_the_grant_is_freed(rig: Rig) -> None:
    """Freed between two slices: the loop is not left waiting for an end that nobody reports."""

    def body(grant: Grant) -> None:
        with grant:
            rig.trace.append("asked")
        is_free = threading.Event()
        rig.loop.call_soon_threadsafe(rig.thread.grant.set_free)
        rig.loop.call_soon_threadsafe(is_free.set)
        assert is_free.wait(PATIENCE_SECONDS)
        with grant:
            rig.trace.append("free")

    await rig.run(body)
    assert [what for what in rig.trace if what != "turn"] == ["asked", "free"]


def test_a_loop_that_ended_unannounced_holds_no_thread() -> None:
    for is_closed in (True, False):
        loop = asyncio.new_event_loop()
        thread = FlushThread(loop, lambda error: None)
        finished = threading.Event()

        def body(grant: Grant, finished: threading.Event = finished) -> None:
            with grant:
                pass
            with grant:
                finished.set()

        if is_closed:
            loop.close()
        thread.start()
        thread.submit(CallableJob(body), lambda job: None)
        assert finished.wait(PATIENCE_SECONDS)
        thread.abandon()
        assert thread.join(PATIENCE_SECONDS)
        loop.close()


async def test_callbacks_come_on_the_loop_in_the_order_of_the_jobs(rig: Rig) -> None:
    order: list[int] = []
    loop_thread = threading.get_ident()

    def done(number: int) -> Callable[[Job], None]:
        def note(job: Job) -> None:
            assert threading.get_ident() == loop_thread
            order.append(number)

        return note

    ran_on: list[int] = []
    for number in range(5):
        job = CallableJob(lambda grant: ran_on.append(threading.get_ident()))
        rig.thread.submit(job, done(number))
    await rig.thread.close()
    assert order == [0, 1, 2, 3, 4]
    assert len(set(ran_on)) == 1 and ran_on[0] != loop_thread


async def test_an_exception_is_fatal_once_and_later_jobs_do_not_run(rig: Rig) -> None:
    """A failed flush is never retried (lessons: a failed fsync retried)."""
    ran: list[str] = []

    def fail(grant: Grant) -> None:
        raise FatalError("the disk is gone")

    rig.thread.submit(CallableJob(fail), lambda job: ran.append("failed job's callback"))
    rig.thread.submit(CallableJob(lambda grant: ran.append("later")), lambda job: None)
    await rig.thread.close()
    assert [str(error) for error in rig.fatal] == ["the disk is gone"]
    assert ran == []


async def test_close_without_start() -> None:
    await FlushThread(asyncio.get_running_loop(), lambda error: None).close()


async def test_a_backend_is_flushed_and_defragmented_beside_a_busy_loop(
    rig: Rig, tmp_path: Path
) -> None:
    backend = LmdbBackend(str(tmp_path / "db"), 64 * 1024 * 1024)
    for main in range(1, 3501):
        backend.append(main.to_bytes(8) + b"_" + bytes(8), b"record")
        backend.commit_marks(main, 1, b"")
    finished = asyncio.Event()
    results: list[object] = []

    def after_close(job: Job) -> None:
        finished.set()

    def after_defragment(job: Job) -> None:
        result, close_old = backend.finish_defragment(job)
        results.append(result)
        rig.thread.submit(close_old, after_close)

    def after_flush(job: Job) -> None:
        results.append(backend.finish_flush(job))
        defragment = backend.begin_defragment()
        assert defragment is not None
        rig.thread.submit(defragment, after_defragment)

    flush = backend.begin_flush()
    assert flush is not None
    rig.thread.submit(flush, after_flush)
    await asyncio.wait_for(finished.wait(), PATIENCE_SECONDS)
    assert results[0] == 3500
    assert rig.thread.grant.slices_total >= 4  # 3500 records, 1000 a slice
    assert sum(len(piece) for piece in backend.scan_all()) == 3500
    backend.close()
