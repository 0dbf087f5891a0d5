"""The command: replay one seed with its trace, or hunt over many.

    python -m tests.support.sim --seed 7             one run, its trace, its verdict
    python -m tests.support.sim --minutes 60         fresh seeds until the time is over
    python -m tests.support.sim --runs 500 --jobs 2  so many, on so many cores

A hunt ends at the first failing seed and shows the end of its trace; with `--go-on` it does not.
Failing seeds are appended to a file as they are found, with what was violated.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.support.sim.cluster import SECONDS, Cluster
from tests.support.sim.faults import Profile
from tests.support.sim.world import Violation

FAILURES = Path(".cache/sim-failures.txt")
TRACE_LINES = 120
"""Of the end of a failing run's trace, where the whole is not asked for."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    seed: int
    failure: str
    simulated_seconds: float
    operations: int
    acknowledged: int
    cpu_seconds: float


def run_seed(seed: int, seconds: float = SECONDS, profile: Profile | None = None) -> Outcome:
    started = time.process_time()
    gc.collect()  # a run goes without
    cluster = Cluster(seed, seconds=seconds, profile=profile)
    failure = ""
    try:
        cluster.run()
    except Violation as violation:
        failure = str(violation)
    except Exception:
        failure = traceback.format_exc()
    return Outcome(
        seed,
        failure,
        cluster.world.now,
        len(cluster.history.operations),
        cluster.history.acknowledged,
        time.process_time() - started,
    )


def replay(seed: int, seconds: float = SECONDS) -> tuple[str, list[str], str]:
    """(what failed or "", trace, hash of the trace) of one run."""
    cluster = Cluster(seed, seconds=seconds, keeps_trace=True)
    failure = ""
    try:
        cluster.run()
    except Exception:
        failure = traceback.format_exc()
    return failure, cluster.world.lines or [], cluster.world.trace_hash


def replay_command(seed: int, seconds: float) -> str:
    shown = "" if seconds == SECONDS else f" SECONDS={seconds:g}"
    return f"make sim SEED={seed}{shown}"


def explain(seed: int, seconds: float, failure: str) -> str:
    """A failure as it is shown: what, the last of the trace, how to see it again."""
    again, lines, _ = replay(seed, seconds)
    tail = "\n".join(lines[-TRACE_LINES:])
    doubt = "" if again else "\n(the replay did not fail: something is not deterministic)"
    return f"{tail}\n\nseed {seed}: {failure}{doubt}\nreplay: {replay_command(seed, seconds)}"


def hunt(arguments: argparse.Namespace) -> int:
    """Runs seeds until time or runs are used up; the number of failures."""
    end = time.monotonic() + 60 * arguments.minutes if arguments.minutes else None
    first = arguments.first if arguments.first is not None else time.time_ns() // 1_000_000
    last = first + arguments.runs if arguments.runs else None
    failures = runs = 0
    simulated = cpu = 0.0
    with multiprocessing.Pool(arguments.jobs, maxtasksperchild=50) as pool:
        tasks = ((seed, arguments.seconds) for seed in seeds(first, last, end))
        for outcome in pool.imap_unordered(_run_task, tasks):
            runs += 1
            simulated += outcome.simulated_seconds
            cpu += outcome.cpu_seconds
            if outcome.failure:
                failures += 1
                text = f"seed {outcome.seed} ({arguments.seconds:g} s): {outcome.failure}\n"
                arguments.failures.parent.mkdir(parents=True, exist_ok=True)
                with arguments.failures.open("a") as file:
                    file.write(text)
                if not arguments.go_on:
                    print(explain(outcome.seed, arguments.seconds, outcome.failure))
                    break
                print(text + f"replay: {replay_command(outcome.seed, arguments.seconds)}")
            if runs % 25 == 0 or outcome.failure:
                pace = 3600 * runs / max(cpu, 1e-9)
                print(
                    f"{runs} runs from seed {first}, {simulated:.0f} simulated seconds, "
                    f"{failures} failures, {pace:.0f} runs an hour and core",
                    flush=True,
                )
    print(
        f"{runs} runs from seed {first}, {simulated:.0f} simulated seconds, {failures} failures, "
        f"{cpu:.0f} s of processor time",
        flush=True,
    )
    return failures


def seeds(first: int, last: int | None, end: float | None):  # type: ignore[no-untyped-def]
    """Ascending; a pool takes tasks ahead, so time is looked at when a task is taken."""
    seed = first
    while (last is None or seed < last) and (end is None or time.monotonic() < end):
        yield seed
        seed += 1


def _run_task(task: tuple[int, float]) -> Outcome:
    return run_seed(*task)


def main() -> int:
    parser = argparse.ArgumentParser(prog="sim", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="replay this seed and print its trace")
    parser.add_argument("--minutes", type=float, default=0.0, help="hunt for so long")
    parser.add_argument("--runs", type=int, default=0, help="hunt over so many seeds")
    parser.add_argument("--first", type=int, help="first seed of a hunt; else a fresh one")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="simulated, of each run")
    parser.add_argument("--jobs", type=int, default=1, help="processes of a hunt")
    parser.add_argument("--go-on", action="store_true", help="do not end at a failing seed")
    parser.add_argument("--failures", type=Path, default=FAILURES, help="where failing seeds go")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        failure, lines, digest = replay(arguments.seed, arguments.seconds)
        print("\n".join(lines))
        print(f"\nseed {arguments.seed}: {failure or 'all is well'}\ntrace {digest}")
        return bool(failure)
    if not arguments.minutes and not arguments.runs:
        parser.error("one of --seed, --minutes and --runs is needed")
    return bool(hunt(arguments))


if __name__ == "__main__":
    sys.exit(main())
