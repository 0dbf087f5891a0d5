"""Bugs in what sends whole databases and receives them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvserver.errors import KeydeckError
from kvserver.mvcc.backend.api import FileBackend, Job
from kvserver.peers.paced import PacedBody
from kvserver.peers.received_files import ReceivedBackend
from kvserver.peers.snapshot_receiver import SnapshotReceiver
from kvserver.peers.snapshot_sender import SnapshotSender
from kvserver.runtime.applied_state import AppliedState
from tests.sim.mutants.plant import Mutant
from tests.support.sim.faults import DATABASE
from tests.support.sim.machine import Settings
from tests.support.sim.network import SimNetwork

MANY = {"settings": Settings(snapshot_entries=10, catch_up_entries=1)}
"""As many databases as there can be."""


def tells_raft_before_the_database_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_nothing(self: SnapshotReceiver, *arguments: Any) -> None:
        """The envelope will do."""

    monkeypatch.setattr(SnapshotReceiver, "_take", take_nothing)


def tells_raft_before_the_name_is_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsynced(self: ReceivedBackend) -> None:
        self._close()
        self._fs.rename(self._building, self._final)

    monkeypatch.setattr(ReceivedBackend, "give_name", unsynced)


def tells_raft_before_the_last_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin_only(self: SnapshotReceiver, backend: FileBackend) -> None:
        """It will get there."""

    monkeypatch.setattr(SnapshotReceiver, "_flush", begin_only)


def reports_a_broken_transfer_as_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    send = SnapshotSender._send

    async def hopeful(self: SnapshotSender, *arguments: Any) -> None:
        try:
            await send(self, *arguments)
        except (KeydeckError, OSError):
            return

    monkeypatch.setattr(SnapshotSender, "_send", hopeful)


def reports_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    run = SnapshotSender._run

    async def again(self: SnapshotSender, peer: Any, message: Any) -> None:
        await run(self, peer, message)
        self._state.report_snapshot(peer.id, False)

    monkeypatch.setattr(SnapshotSender, "_run", again)


def never_reports_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    report = AppliedState.report_snapshot

    def only_good_news(self: AppliedState, member: int, is_success: bool) -> None:
        if is_success:
            report(self, member, is_success)

    monkeypatch.setattr(AppliedState, "report_snapshot", only_good_news)


def takes_the_database_of_a_removed_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimNetwork, "check_sender", lambda self, number: None)


def waits_for_a_sender_without_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours once: databases are taken one at a time, so it took no other ever after."""

    async def patient(self: PacedBody) -> bytes:
        return await anext(self._chunks)

    monkeypatch.setattr(PacedBody, "__anext__", patient)


def closes_a_file_under_the_flush_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours once."""

    async def impatient(self: SnapshotReceiver, backend: FileBackend) -> None:
        job = backend.begin_flush()
        assert job is not None
        ended: asyncio.Future[None] = self._loop.create_future()

        def done(job: Job) -> None:
            backend.finish_flush(job)
            if not ended.done():
                ended.set_result(None)

        self._flusher.submit(job, done)
        await ended

    monkeypatch.setattr(SnapshotReceiver, "_flush", impatient)


def _at_databases(plant: Any, seed: int, words: str) -> Mutant:
    return Mutant(plant, seed, words, faults=(DATABASE,), changes=MANY)


MUTANTS: dict[str, Mutant] = {
    "tells raft before the database has come": _at_databases(
        tells_raft_before_the_database_has_come, 1, "its disk has None"
    ),
    "tells raft before the name is on disk": _at_databases(
        tells_raft_before_the_name_is_on_disk, 1, "its disk has None"
    ),
    "tells raft before the last flush": _at_databases(
        tells_raft_before_the_last_flush, 1, "its disk has (0, 0)"
    ),
    "reports a broken transfer as a success": _at_databases(
        reports_a_broken_transfer_as_a_success, 1, "has not taken"
    ),
    "reports twice": _at_databases(reports_twice, 1, "that is not sent"),
    "never reports a failure": _at_databases(
        never_reports_a_failure, 1, "has been sending a database"
    ),
    "takes the database of a removed member": Mutant(
        takes_the_database_of_a_removed_member, schedule="database of a removed member"
    ),
    "closes a file under the flush thread": Mutant(
        closes_a_file_under_the_flush_thread,
        schedule="database of a sender that dies during a flush",
    ),
    "waits for a sender without power": Mutant(
        waits_for_a_sender_without_power, schedule="database of a sender without power"
    ),
}
