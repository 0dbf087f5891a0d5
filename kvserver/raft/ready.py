"""What a member has to do now: one round's duties, taken from RawNode.ready().

The order in which they are done is `plan.plan_ready`'s business.
"""

from __future__ import annotations

from typing import NamedTuple

from kvserver.raft.types import Entry, HardState, Message, ReadState, Role, Snapshot, SoftState


class Ready(NamedTuple):
    """Everything in it is handed over: it is not offered again, and its lists are the caller's.

    A tuple because one is made for every write of a lone client: 1.5 us less than a dataclass.

    Readys are numbered from 1. Several may be outstanding; their writes go to the disk in order,
    and `RawNode.persisted(number)` reports the newest that is there.
    """

    number: int
    role: Role
    soft_state: SoftState | None
    """Leader and role, if they changed."""
    hard_state: HardState | None
    """Term, vote and commit, if they changed."""
    snapshot: Snapshot | None
    """Received from the leader: to be saved, then installed as the state machine's state."""
    entries: list[Entry]
    """To be written to the local log, replacing whatever is there from the first one's index on."""
    must_sync: bool
    """Whether persisted() has to be called for this Ready: its entries, term, vote or snapshot
    must be on disk before anything that rests on them counts. False: at most a commit index to
    write, whose loss costs nothing."""
    committed_entries: list[Entry]
    """To be applied; all are on the local disk."""
    read_states: list[ReadState]
    messages_now: list[Message]
    """May leave at once, before anything of this Ready is written."""
    messages_after_persist: list[Message]
    """May leave once persisted(n) has been called with n >= rests_on."""
    rests_on: int
    """Number of the newest Ready, this one or an earlier one, that waits for the disk."""
