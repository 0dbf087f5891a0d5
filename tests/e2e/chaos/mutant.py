"""A member with classic bugs planted in it: `python -m tests.e2e.chaos.mutant BUG,BUG FLAGS…`."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence

from kvserver.__main__ import main
from kvserver.mvcc.event import Event
from kvserver.mvcc.store import Store
from kvserver.runtime.member_loop import MemberLoop
from kvserver.watch.hub import Hub

EVERY = 7


def stale_reads() -> None:
    """Linearizable reads are answered from what is here, and nobody else is asked."""
    MemberLoop.can_read_now = lambda self: True  # type: ignore[method-assign]


def diverging_state() -> None:
    """One member stores now and then something else than the others."""
    if not any(argument == "--name=m1" for argument in sys.argv):
        return
    counter, good = itertools.count(1), Store.write_put

    def write_put(self: Store, key: bytes, value: bytes, lease: int, main: int, sub: int) -> None:
        wrong = value + b"?" if next(counter) % EVERY == 0 else value
        good(self, key, wrong, lease, main, sub)

    Store.write_put = write_put  # type: ignore[method-assign]


def lost_events() -> None:
    """Watchers that are up to date are not shown every revision."""
    counter, good = itertools.count(1), Hub.notify

    def notify(self: Hub, revision: int, events: Sequence[Event]) -> None:
        good(self, revision, [] if next(counter) % EVERY == 0 else events)

    Hub.notify = notify  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug for bug in (stale_reads, diverging_state, lost_events)
}

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        BUGS[name]()
    main()
