"""The order of duties (spec/raft.md §2, design D9)."""

from __future__ import annotations

from kvserver.raft import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ReadState,
    Ready,
    Role,
    Snapshot,
    plan,
    plan_ready,
)

ENTRY = Entry(5, 2, EntryType.NORMAL, b"a")
NOW = Message(MessageType.HEARTBEAT_RESPONSE, 2, 1, 2)
LATER = Message(MessageType.APPEND_RESPONSE, 2, 1, 2, index=5)
NOTHING = Ready(
    number=7,
    role=Role.FOLLOWER,
    soft_state=None,
    hard_state=None,
    snapshot=None,
    entries=[],
    must_sync=False,
    committed_entries=[],
    read_states=[],
    messages_now=[],
    messages_after_persist=[],
    rests_on=0,
)


def test_nothing_to_do() -> None:
    assert plan_ready(NOTHING) == []


def test_full_round() -> None:
    state, read = HardState(2, 0, 4), ReadState(4, b"r")
    ready = NOTHING._replace(
        hard_state=state,
        entries=[ENTRY],
        must_sync=True,
        committed_entries=[ENTRY],
        read_states=[read],
        messages_now=[NOW],
        messages_after_persist=[LATER],
        rests_on=7,
    )
    assert plan_ready(ready) == [
        plan.SendMessages([NOW]),
        plan.AppendEntries(7, state, [ENTRY], must_sync=True),
        plan.ApplyEntries([ENTRY]),
        plan.NotifyReadStates([read]),
        plan.SendAfterPersist([LATER], after_persist=7),
    ]


def test_a_snapshot_is_saved_before_the_log_and_installed_when_it_is_on_disk() -> None:
    snapshot = Snapshot(9, 2, ConfState((1, 2)))
    ready = NOTHING._replace(
        snapshot=snapshot,
        hard_state=HardState(2, 0, 9),
        must_sync=True,
        messages_after_persist=[LATER],
        rests_on=7,
    )
    assert plan_ready(ready) == [
        plan.SaveSnapshot(snapshot),
        plan.AppendEntries(7, HardState(2, 0, 9), [], must_sync=True),
        plan.SendAfterPersist([LATER], after_persist=7),
        plan.InstallSnapshot(snapshot, after_persist=7),
    ]


def test_answers_wait_for_an_earlier_write_too() -> None:
    ready = NOTHING._replace(messages_after_persist=[LATER], rests_on=6)
    assert plan_ready(ready) == [plan.SendAfterPersist([LATER], after_persist=6)]


def test_a_commit_alone_is_a_write_without_a_sync() -> None:
    ready = NOTHING._replace(hard_state=HardState(2, 0, 4))
    assert plan_ready(ready) == [plan.AppendEntries(7, HardState(2, 0, 4), [], must_sync=False)]
