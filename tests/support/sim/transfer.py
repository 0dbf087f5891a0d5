"""Whole databases from one member to another, in place of peers.SnapshotSender and -Receiver: the
same moments (what is sent is the applied state; the file is complete before raft hears of it; raft
hears once how each one ended), without images and sockets in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.membership.codec import encode_conf_state
from kvserver.mvcc.backend.memory import Contents
from kvserver.mvcc.backend.tables import CONF_STATE, CONSISTENT_INDEX, META, TABLES, TERM
from kvserver.raft import Message, Snapshot
from kvserver.runtime.applied_state import AppliedState

if TYPE_CHECKING:
    from tests.support.sim.machine import Process

TRANSFERS_MAX = 16
LOG_HOLD_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 5.0


class Transfers:
    """What one process sends."""

    def __init__(self, process: Process, state: AppliedState) -> None:
        self.process = process
        self.state = state
        self.under_way = 0

    def send(self, message: Message) -> None:
        """Called while raft's messages go out: nothing here calls raft back at once."""
        if self.under_way >= TRANSFERS_MAX:
            self.process.loop.call_soon(self.state.report_snapshot, message.to, False)
            return
        Transfer(self, message)


class Transfer:
    """One database on its way."""

    def __init__(self, transfers: Transfers, message: Message) -> None:
        self._transfers = transfers
        self._process = transfers.process
        self._to = message.to
        self._is_over = False
        transfers.under_way += 1
        state = transfers.state
        state.hold_log()
        snapshot = state.snapshot()
        self._filled = message._replace(snapshot=snapshot)
        self._name = f"snapshot {snapshot.index}:{snapshot.term}"
        view = state.open_view()
        self._contents: Contents = {
            table: dict(pair for piece in view.items(table) for pair in piece) for table in TABLES
        }
        view.close()
        _mark(self._contents, snapshot)
        process = self._process
        process.world.trace(process.name, f"{self._name} for {self._receiver()} begins")
        process.loop.call_later(process.rng.uniform(0.01, 0.5), self._sent)

    def _receiver(self) -> str:
        return self._process.fabric.names.get(self._to, "")

    def _sent(self) -> None:
        process, fabric = self._process, self._process.fabric
        name = self._receiver()
        links = {(process.name, name), (name, process.name)}
        if links & fabric.cut or process.rng.random() < 0.1:
            process.loop.call_later(process.rng.uniform(0.1, 3.0), self._ended, False)
            return
        fabric.connect((process.name, name), self._arrived, lambda: self._later(False))
        # Should the link be cut on the way, nobody answers.
        process.loop.call_later(ANSWER_SECONDS_MAX, self._ended, False)

    def _arrived(self, other: Process) -> None:
        """At the receiver: a file of its own, then raft."""
        other.on_end.append(lambda: self._later(False))
        other.loop.call_later(other.rng.uniform(0.01, 0.3), self._received, other)

    def _received(self, other: Process) -> None:
        sender = self._process.member_id
        snapshot = self._filled.snapshot
        assert snapshot is not None
        if other.core.state.membership.is_removed(sender) or other.member_id != self._to:
            self._later(False)
            return
        contents = {table: dict(rows) for table, rows in self._contents.items()}
        other.machine.disk.add_database(other.snapshot_path(snapshot.index), contents)
        other.world.trace(other.name, f"{self._name} received")
        other.receive(sender, [self._filled])
        self._later(True)

    def _later(self, is_success: bool) -> None:
        """The answer, or the broken connection, reaches the sender."""
        self._process.world.call_later(0.002, self._process.loop, self._ended, is_success)

    def _ended(self, is_success: bool) -> None:
        if self._is_over:
            return
        self._is_over = True
        process, state = self._process, self._transfers.state
        process.world.trace(process.name, f"{self._name} ended: {is_success}")
        self._transfers.under_way -= 1
        if not is_success:
            state.report_unreachable(self._to)
        state.report_snapshot(self._to, is_success)
        hold = process.rng.uniform(0, LOG_HOLD_SECONDS_MAX) if is_success else 0.0
        process.loop.call_later(hold, state.release_log)


def _mark(contents: Contents, snapshot: Snapshot) -> None:
    meta = contents[META]
    meta[CONSISTENT_INDEX] = snapshot.index.to_bytes(8)
    meta[TERM] = snapshot.term.to_bytes(8)
    meta[CONF_STATE] = encode_conf_state(snapshot.conf_state)
