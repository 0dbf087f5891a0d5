"""/debug/pprof/ on the client port, with `--enable-pprof` or at log level debug
(spec/wire-api.md §6.1): the paths of Go's profiles, answered with what a Python process has.

`go tool pprof http://…/debug/pprof/profile?seconds=5` reads the processor time, `…/goroutine` shows
where every thread stands. Heap, block, mutex and execution traces do not exist here, and that is
what their paths say. As with etcd nobody is asked for a token; one profile is taken at a time, and
not for longer than a minute.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from kvserver.clock import Clock, thread_cpu_seconds
from kvserver.config.sources import shown_arguments
from kvserver.limits import (
    PROFILE_SECONDS_DEFAULT,
    PROFILE_SECONDS_MAX,
    PROFILE_TASKS_MAX,
)
from kvserver.profiling import (
    CPU_UNITS,
    THREAD_UNITS,
    Sampler,
    packed_profile,
    stack_lines,
    stacks_now,
)
from kvserver.transport import HttpError, HttpRequest, HttpResponse

ROOT = "/debug/pprof"
TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
ABSENT = ("allocs", "block", "heap", "mutex", "trace")
INDEX = f"""{ROOT}/

profile      processor time by stack: ?seconds=N, {PROFILE_SECONDS_DEFAULT} unless said, \
at most {PROFILE_SECONDS_MAX}
goroutine    where every thread stands; ?debug=1 as text, ?debug=2 with the loop's tasks
threadcreate the same
cmdline      the command line
symbol       nothing to look up: profiles hold the names

Not in a Python process: {", ".join(ABSENT)}.
"""

Page = Callable[[dict[str, list[str]]], Awaitable[HttpResponse]]


class Pprof:
    """Owner: the loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_profiling = False
        self._pages: dict[str, Page] = {
            "": self._index,
            "cmdline": self._cmdline,
            "goroutine": self._threads,
            "profile": self._profile,
            "symbol": self._symbol,
            "threadcreate": self._threads,
        }

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Of a path that is `ROOT` or below it. Raises `HttpError`."""
        name = request.path[len(ROOT) + 1 :]
        page = self._pages.get(name)
        if page is None:
            why = " in a Python process" if name in ABSENT else ""
            raise HttpError(404, f"Unknown profile{why}: {name}")
        return await page(parse_qs(request.query))

    async def _index(self, query: dict[str, list[str]]) -> HttpResponse:
        return HttpResponse(200, TEXT, INDEX.encode())

    async def _cmdline(self, query: dict[str, list[str]]) -> HttpResponse:
        return HttpResponse(200, TEXT, "\0".join(shown_arguments(sys.argv)).encode())

    async def _symbol(self, query: dict[str, list[str]]) -> HttpResponse:
        return HttpResponse(200, TEXT, b"num_symbols: 0\n")

    async def _threads(self, query: dict[str, list[str]]) -> HttpResponse:
        detail = _number(query, "debug", 0)
        if not detail:
            costs = [(thread.name, stack, (1,)) for thread, stack in stacks_now()]
            return _packed(packed_profile(THREAD_UNITS, costs, self._clock.wall(), 0.0))
        parts = [f"thread {thread.name}\n{stack_lines(stack)}" for thread, stack in stacks_now()]
        if detail > 1:
            tasks = list(asyncio.all_tasks())
            for task in tasks[:PROFILE_TASKS_MAX]:
                stack = tuple((frame.f_code, frame.f_lineno) for frame in task.get_stack()[::-1])
                parts.append(f"task {task.get_name()}\n{stack_lines(stack)}")
            if len(tasks) > PROFILE_TASKS_MAX:
                parts.append(f"and {len(tasks) - PROFILE_TASKS_MAX} tasks more\n")
        return HttpResponse(200, TEXT, "\n".join(parts).encode())

    async def _profile(self, query: dict[str, list[str]]) -> HttpResponse:
        seconds = _number(query, "seconds", PROFILE_SECONDS_DEFAULT)
        if not 0 < seconds <= PROFILE_SECONDS_MAX:
            raise HttpError(400, f"seconds must be from 1 to {PROFILE_SECONDS_MAX}")
        if self._is_profiling:
            raise HttpError(500, "Could not enable CPU profiling: cpu profiling already in use")
        sampler = Sampler(thread_cpu_seconds)
        started, since = self._clock.wall(), self._clock.monotonic()
        self._is_profiling = True
        try:
            sampler.start()
            await asyncio.sleep(seconds)
        finally:  # whoever asked may have gone
            sampler.stop()
            self._is_profiling = False
        costs = ((name, stack, tuple(cost)) for (name, stack), cost in sampler.costs.items())
        took = self._clock.monotonic() - since
        return _packed(packed_profile(CPU_UNITS, costs, started, took))


def _packed(body: bytes) -> HttpResponse:
    return HttpResponse(200, {"Content-Type": "application/octet-stream"}, body)


def _number(query: dict[str, list[str]], name: str, default: int) -> int:
    text = query.get(name, [str(default)])[0]
    try:
        return int(text)
    except ValueError:
        raise HttpError(400, f"{name} must be a number, not {text!r}") from None
