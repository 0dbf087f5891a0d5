"""An asyncio event loop whose time is the world's: the real code's tasks, futures and timeouts run
on it as they are. One per process; when the process ends nothing of it runs any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from kvserver.errors import RequestError
from tests.support.sim.world import Handle, World


class SimClock:
    """The clocks of one machine. The monotonic one drifts, the wall clock jumps as well."""

    def __init__(self, world: World, wall: float = 1_700_000_000.0) -> None:
        self._world = world
        self._base = 0.0
        self._since = 0.0
        self.rate = 1.0
        """Seconds of this machine per true second."""
        self.wall_offset = wall
        self.stutter = 0.0
        """Seconds that seem to pass between two looks at one moment: a slow processor, on which
        work in slices needs many of them."""
        self._seen_at = self._seen = 0.0

    def set_rate(self, rate: float) -> None:
        self._base, self._since = self.monotonic(), self._world.now
        self.rate = rate

    def monotonic(self) -> float:
        now = self._world.now
        true = self._base + (now - self._since) * self.rate
        if not self.stutter:
            return true
        again = self._seen + self.stutter if now == self._seen_at else 0.0
        self._seen_at, self._seen = now, max(true, again, self._seen)
        return self._seen

    def wall(self) -> float:
        return self.monotonic() + self.wall_offset


class Listener:
    """An open port: its own only socket."""

    def __init__(self, host: str, port: int) -> None:
        self._name = host, port
        self.sockets = (self,)

    def getsockname(self) -> tuple[str, int]:
        return self._name


class SimLoop(asyncio.AbstractEventLoop):
    """What asyncio and the runtime use of a loop, and no more."""

    def __init__(
        self,
        world: World,
        clock: SimClock,
        on_death: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.world = world
        self.clock = clock
        self.on_death = on_death
        self.on_failure = on_failure
        self.is_dead = False
        self.paused: list[Handle] | None = None
        """What should have run while the process was stopped; None when it is not."""
        self.dial: Callable[..., Coroutine[Any, Any, Any]] | None = None
        """(what makes a protocol, host): the way to other machines."""
        self.accept: Callable[[], asyncio.BaseProtocol] | None = None
        """What makes the protocol of a connection from another machine; None: nobody listens."""
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # -- asyncio's side

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        return self.world.call_soon(self, callback, *args)

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> Any:
        when = self.world.now + delay / self.clock.rate
        return self.world.call_at(when, self, callback, *args)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> Any:
        return self.call_later(when - self.clock.monotonic(), callback, *args)

    def time(self) -> float:
        return self.clock.monotonic()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name or "task")
        self._tasks[task] = None
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, RequestError):  # an outcome like any other
            self.on_failure(error)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: str, port: int, **options: Any
    ) -> Any:
        assert self.dial is not None
        return await self.dial(protocol_factory, host)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], Any], host: str, port: int, **options: Any
    ) -> Any:
        self.accept = protocol_factory
        return Listener(host, port)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Executors are the simulator's own (transfer.py)."""
        return executor.run(func, *args)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.is_dead and "task" not in context:  # one that is only let go of
            error = context.get("exception") or RuntimeError(str(context.get("message")))
            self.on_failure(error)

    # -- the simulator's side

    def kill(self) -> None:
        """Nothing of this process happens any more, not even what its coroutines do on their way
        out."""
        self.is_dead = True
        tasks, self._tasks = list(self._tasks), {}
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):
                task.get_coro().close()

    def pause(self) -> None:
        if self.paused is None:
            self.paused = []

    def resume(self) -> None:
        if self.paused is not None:
            handles, self.paused = self.paused, None
            self.world.release(handles)
