"""What the sender and the receiver of databases share (spec/peer.md §4.2)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from kvserver.limits import (
    PEER_SNAPSHOTS_MAX,
    SNAPSHOT_ANSWER_SECONDS,
    SNAPSHOT_LOG_HOLD_SECONDS,
    SNAPSHOT_STALL_SECONDS,
)


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """What no flag changes, and a test makes tiny."""

    transfers_max: int = PEER_SNAPSHOTS_MAX
    stall_seconds: float = SNAPSHOT_STALL_SECONDS
    """For which the other side takes nothing, or gives nothing."""
    answer_seconds: float = SNAPSHOT_ANSWER_SECONDS
    log_hold_seconds: float = SNAPSHOT_LOG_HOLD_SECONDS


def let_go(thread: Executor, work: Callable[[], object]) -> None:
    """Have a thread close or remove what it worked on, after whatever it is at: nobody waits for
    that. Once it takes nothing more it is done here."""
    try:
        thread.submit(work)
    except RuntimeError:
        work()
