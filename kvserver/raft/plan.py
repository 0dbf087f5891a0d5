"""The order of duties as data (design D9, spec/raft.md §2).

`plan_ready` turns a Ready into steps. The runtime and the simulator both walk them in order and
decide nothing about order themselves; a crash may come between any two steps. A step with
`after_persist` waits until RawNode.persisted(n) has been called with n >= that number (0: at
once). Steps that wait may be overtaken by those that follow, never by each other.

    SendMessages      at once. A leader's appends leave before its own write begins.
    SaveSnapshot      the snapshot's file, then its record in the log; synced.
    AppendEntries     entries, then hard state; one write, synced if must_sync. When this Ready
                      and all before it are on disk: RawNode.persisted(number). Without must_sync
                      it may be put off and written with the next one.
    ApplyEntries      to the state machine, in order; conf changes go to RawNode.apply_conf_change.
                      Then RawNode.applied(index of the last one). These entries are on disk, so
                      this need not wait for AppendEntries, which may still be syncing.
    NotifyReadStates  reads whose index is known; they wait until it is applied.
    SendAfterPersist  votes, requests for votes, acknowledgements: they vouch for what is on disk.
    InstallSnapshot   the state machine starts over from the snapshot, which is on disk. Then
                      RawNode.applied(snapshot.index).

Applying comes before SendAfterPersist, so a conf change takes effect before we vouch for the
entries after it.

Steps are tuples because some are made for every write of a lone client.
"""

from __future__ import annotations

from typing import NamedTuple

from kvserver.raft.ready import Ready
from kvserver.raft.types import Entry, HardState, Message, ReadState, Snapshot


class SendMessages(NamedTuple):
    messages: list[Message]
    after_persist: int = 0


class SaveSnapshot(NamedTuple):
    snapshot: Snapshot
    after_persist: int = 0


class AppendEntries(NamedTuple):
    number: int
    hard_state: HardState | None
    entries: list[Entry]
    must_sync: bool
    after_persist: int = 0


class ApplyEntries(NamedTuple):
    entries: list[Entry]
    after_persist: int = 0


class NotifyReadStates(NamedTuple):
    read_states: list[ReadState]
    after_persist: int = 0


class SendAfterPersist(NamedTuple):
    messages: list[Message]
    after_persist: int


class InstallSnapshot(NamedTuple):
    snapshot: Snapshot
    after_persist: int


Step = (
    SendMessages
    | SaveSnapshot
    | AppendEntries
    | ApplyEntries
    | NotifyReadStates
    | SendAfterPersist
    | InstallSnapshot
)


def plan_ready(ready: Ready) -> list[Step]:
    """The steps of a Ready, those with nothing to do left out."""
    steps: list[Step] = []
    if ready.messages_now:
        steps.append(SendMessages(ready.messages_now))
    if ready.snapshot is not None:
        steps.append(SaveSnapshot(ready.snapshot))
    if ready.hard_state is not None or ready.entries or ready.must_sync:
        steps.append(AppendEntries(ready.number, ready.hard_state, ready.entries, ready.must_sync))
    if ready.committed_entries:
        steps.append(ApplyEntries(ready.committed_entries))
    if ready.read_states:
        steps.append(NotifyReadStates(ready.read_states))
    if ready.messages_after_persist:
        steps.append(SendAfterPersist(ready.messages_after_persist, ready.rests_on))
    if ready.snapshot is not None:
        steps.append(InstallSnapshot(ready.snapshot, ready.number))
    return steps
