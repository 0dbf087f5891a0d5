"""Where this process spends its time: sampled stacks, in the format that `go tool pprof` reads.

Python has no profiles as Go's, but it can be asked the same question. While somebody wants to know,
the system interrupts this process after each hundredth of a second of processor time (SIGPROF), and
every thread is charged with what it has used since the interrupt before, at the place where it is.
So a thread that waits costs nothing. A thread that looks at the others would not do: it gets to run
where they wait, and would find them there. Nothing is measured while nobody asks.

A stack is names of functions and numbers of lines: no value of a variable is ever looked at.
"""

from __future__ import annotations

import gzip
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import TypeVar

from kvserver.limits import PROFILE_DEPTH_MAX, PROFILE_SAMPLES_PER_SECOND, PROFILE_STACKS_MAX
from kvserver.proto import profile_pb2

T = TypeVar("T")
NANOSECONDS = 1_000_000_000
Spot = tuple[CodeType, int]
"""A function and the line it has come to."""
Stack = tuple[Spot, ...]
"""Innermost first."""
Cost = tuple[int, ...]
Unit = tuple[str, str]
"""What is counted, and in what: ("cpu", "nanoseconds")."""
CPU_UNITS: tuple[Unit, ...] = (("samples", "count"), ("cpu", "nanoseconds"))
THREAD_UNITS: tuple[Unit, ...] = (("threads", "count"),)


def stack_of(frame: FrameType | None) -> Stack:
    spots: list[Spot] = []
    while frame is not None and len(spots) < PROFILE_DEPTH_MAX:
        spots.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return tuple(spots)


def stacks_now() -> Iterable[tuple[threading.Thread, Stack]]:
    """Of every thread of Python's, the one that asks among them."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread.ident in frames:
            yield thread, stack_of(frames[thread.ident])


class Sampler:
    """Owner: the loop, in the main thread, which is where Python runs handlers of signals."""

    _current: Sampler | None = None
    """Who is told of interrupts. Late ones find nobody; the handler stays, for without it they
    would end the process."""

    def __init__(self, cpu_seconds: Callable[[int], float]) -> None:
        """`cpu_seconds`: what a thread, by its native id, has used so far."""
        self._cpu_seconds = cpu_seconds
        self._used = {
            thread.native_id: cpu_seconds(thread.native_id)
            for thread in threading.enumerate()
            if thread.native_id is not None
        }
        self.costs: dict[tuple[str, Stack], list[int]] = {}
        """(name of the thread, stack) -> samples, nanoseconds."""

    def start(self) -> None:
        """ValueError outside the main thread."""
        signal.signal(signal.SIGPROF, _interrupted)
        signal.siginterrupt(signal.SIGPROF, False)
        Sampler._current = self
        seconds = 1 / PROFILE_SAMPLES_PER_SECOND
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Sampler._current = None

    def look(self, frame: FrameType | None) -> None:
        """`frame`: where the thread that asks was interrupted."""
        own = threading.get_ident()
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread.native_id is None or thread.ident not in frames:
                continue
            used = self._cpu_seconds(thread.native_id)
            spent = used - self._used.get(thread.native_id, 0.0)
            self._used[thread.native_id] = used
            if spent > 0:
                place = frame if thread.ident == own else frames[thread.ident]
                self._charge(thread.name, stack_of(place), spent)

    def _charge(self, thread: str, stack: Stack, spent_seconds: float) -> None:
        if (thread, stack) not in self.costs and len(self.costs) >= PROFILE_STACKS_MAX:
            stack = stack[-1:]  # the outermost function stands for what is left out
        cost = self.costs.setdefault((thread, stack), [0, 0])
        cost[0] += 1
        cost[1] += round(spent_seconds * NANOSECONDS)


def _interrupted(number: int, frame: FrameType | None) -> None:
    if Sampler._current is not None:
        Sampler._current.look(frame)


def packed_profile(
    units: tuple[Unit, ...],
    costs: Iterable[tuple[str, Stack, Cost]],
    started_seconds: float,
    took_seconds: float,
) -> bytes:
    """`costs`: (name of the thread, stack, one value for each unit). Wall-clock seconds."""
    profile = profile_pb2.Profile(
        time_nanos=round(started_seconds * NANOSECONDS),
        duration_nanos=round(took_seconds * NANOSECONDS),
        period=NANOSECONDS // PROFILE_SAMPLES_PER_SECOND,
    )
    texts: _Numbers[str] = _Numbers(0)
    texts[""]  # number 0
    for name, unit in units:
        profile.sample_type.add(type=texts[name], unit=texts[unit])
    profile.period_type.CopyFrom(profile.sample_type[-1])
    locations: _Numbers[Spot] = _Numbers(1)
    functions: _Numbers[CodeType] = _Numbers(1)
    for thread, stack, cost in costs:
        sample = profile.sample.add(location_id=[locations[spot] for spot in stack], value=cost)
        sample.label.add(key=texts["thread"], str=texts[thread])
    for (code, line), location in locations.items():
        profile.location.add(id=location).line.add(function_id=functions[code], line=line)
    for code, function in functions.items():
        name_of_it = texts[f"{_module(code)}.{code.co_qualname}"]
        profile.function.add(
            id=function,
            name=name_of_it,
            system_name=name_of_it,
            filename=texts[code.co_filename],
            start_line=code.co_firstlineno,
        )
    profile.string_table.extend(texts)
    return gzip.compress(profile.SerializeToString(), mtime=0)


def _module(code: CodeType) -> str:
    """As much of the path as tells functions of one name apart."""
    return code.co_filename.rpartition(".")[0].rpartition("/")[2] or "?"


def stack_lines(stack: Stack) -> str:
    return "".join(
        f"\t{_module(code)}.{code.co_qualname}\n\t\t{code.co_filename}:{line}\n"
        for code, line in stack
    )


class _Numbers(dict[T, int]):
    """Numbers things from `first` on, as they are asked for."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, thing: T) -> int:
        number = self[thing] = self._first + len(self)
        return number
