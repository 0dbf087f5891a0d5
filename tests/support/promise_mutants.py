"""Bugs in promises (kvserver/raft/commits.py), to be planted in random raft clusters and in the
simulator."""

from __future__ import annotations

import pytest

from kvserver.raft import Message, MessageType, commits, replication
from kvserver.raft.progress import ProgressState
from kvserver.raft.state import Raft
from kvserver.raft.types import PROMISE


def reads_behind_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    request_read = replication.request_read

    def forgetful(raft: Raft, from_: int, context: bytes) -> None:
        promised, raft.promised = raft.promised, 0
        request_read(raft, from_, context)
        raft.promised = promised

    monkeypatch.setattr(replication, "request_read", forgetful)


def promises_where_two_are_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    def whatever_is_on_disk(raft: Raft, to: int) -> Message | None:
        progress, index = raft.tracker.progress.get(to), raft.log.persisted
        if progress is None or progress.state is not ProgressState.REPLICATE:
            return None
        if index >= progress.next:
            return None
        progress.promised = raft.promised = index
        kind, term = MessageType.APPEND, raft.log.term(index) or 0
        return Message(kind, to, raft.id, raft.term, term, index, context=PROMISE)

    monkeypatch.setattr(commits, "promise", whatever_is_on_disk)


def keeps_a_promise_of_another_term(monkeypatch: pytest.MonkeyPatch) -> None:
    reset = Raft._reset

    def keep(self: Raft, term: int) -> None:
        promised = self.promised
        reset(self, term)
        self.promised = promised

    monkeypatch.setattr(Raft, "_reset", keep)
