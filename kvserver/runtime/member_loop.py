"""The loop's side of a member: it owns raft, apply, reads and everything they change (design D1).

One turn: what clients proposed since the last one becomes one batch of raft entries
(`propose_duty`); raft's `Ready` is carried out in the order `plan_ready` gives; what is committed
is applied, answered and shown to watchers (`apply_duty`). The append and flush threads wait for
disks; only values cross to them.

While an append is under way no new one starts: what arrives meanwhile is the next batch (group
commit).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from kvserver import errors, failpoints
from kvserver.apply.applier import Applier
from kvserver.apply.command import Kind
from kvserver.clock import Clock
from kvserver.logs import Logger
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.member.proposal import (
    CallbackWaiter,
)
from kvserver.membership.ids import RequestIds
from kvserver.proto import rpc_pb2
from kvserver.raft import (
    RawNode,
    Ready,
    plan_ready,
)
from kvserver.raft.plan import (
    AppendEntries,
    ApplyEntries,
    InstallSnapshot,
    NotifyReadStates,
    SaveSnapshot,
    SendAfterPersist,
    SendMessages,
    Step,
)
from kvserver.raft.status import Status
from kvserver.raft.types import HardState, Snapshot
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.apply_duty import ApplyDuty
from kvserver.runtime.company import Company
from kvserver.runtime.counters import Counters
from kvserver.runtime.mailbox import Mailbox
from kvserver.runtime.propose_duty import ProposeDuty
from kvserver.runtime.read_duty import ReadDuty
from kvserver.runtime.storage_duty import StorageDuty

Plan = Callable[[Ready], Iterable[Step]]
"""`plan_ready`, or the simulator's, which may end the member between any two steps."""


class MemberLoop:
    """A running member. Owner: the loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        node: RawNode,
        member_id: int,
        applier: Applier,
        conf_changes: ConfChanges,
        storage: StorageDuty,
        append: AppendThread,
        request_ids: RequestIds,
        header: HeaderBytes,
        hub: Any,
        applied_index: int,
        request_bytes_max: int,
        request_timeout_seconds: float,
        election_timeout_seconds: float,
        stall_seconds: float,
        on_leader: Callable[[], None],
        log: Logger,
        plan: Plan = plan_ready,
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.node = node
        self.member_id = member_id
        self.applier = applier
        self.store = applier.store
        self.lessor = applier.lessor
        self.alarms = applier.alarms
        self.membership = applier.membership
        self.hub = hub
        self.header = header
        self.request_ids = request_ids
        self.counters = Counters()
        self.leader = 0
        self.is_leader = False
        self.is_learner = False
        self.is_stopped = False
        self.reads_at_once = False
        """Whether local state answers a linearizable read at once: the only voter has applied
        everything it ever acknowledged. As of the last turn, which every change of raft's state
        ends with."""
        self.quota_bytes = applier.quota_bytes
        self.request_timeout_seconds = request_timeout_seconds
        self._election_timeout_seconds = election_timeout_seconds
        self._stall_seconds = stall_seconds
        self._storage = storage
        self._append = append
        proposals = self._proposals = ProposeDuty(
            node=node,
            request_ids=request_ids,
            counters=self.counters,
            request_bytes_max=request_bytes_max,
            now=clock.monotonic(),
            wake=self.wake,
        )
        self.propose = proposals.propose
        self.propose_legacy = proposals.propose_legacy
        self.propose_as_leader = proposals.propose_as_leader
        self.propose_conf_change = proposals.propose_conf_change
        self.install: Callable[[Snapshot, Callable[[], None]], None] | None = None
        """Puts a received snapshot in the place of the state machines, then calls back."""
        self.mailbox = Mailbox(loop, node, self.wake, self._install)
        self._applies_before_sending = False
        self._leader_since = 0.0
        self._leader_watchers: list[asyncio.Future[None]] = []
        self._has_stalled = False
        """Whether this leader stood still for so long that another may lead by now."""
        self._reads = ReadDuty(loop, clock, node, request_ids, self.counters, self.wake)
        self._read_queue = self._reads.queue
        self.company = Company(proposals, self._read_queue, hub, self.mailbox, storage)
        self._apply = ApplyDuty(
            loop=loop,
            clock=clock,
            node=node,
            applier=applier,
            conf_changes=conf_changes,
            storage=storage,
            proposals=proposals,
            reads=self._read_queue,
            header=header,
            hub=hub,
            counters=self.counters,
            applied_index=applied_index,
            on_conf_change=self._note_conf_change,
            on_first_entry=self._note_first_entry,
            on_over_quota=self.raise_nospace,
            log=log,
        )
        self._appends_under_way = 0
        self._late_hard_state: HardState | None = None
        self._is_turn_scheduled = False
        self._is_hub_scheduled = False
        self._on_leader = on_leader
        self._promoted_term = 0
        self._plan = plan
        self._log = log
        self._nospace_raised = False
        self._answered: Callable[[], None] = lambda: None
        self.stood_still: Callable[[float], None] = lambda seconds: None
        """Told for how many seconds the loop has stood still for the disk."""
        self._duties: dict[type, Callable[[Any], None]] = {
            AppendEntries: self._append_entries,
            ApplyEntries: self._apply_entries,
            NotifyReadStates: self._notify_read_states,
            SendMessages: self.mailbox.send,
            SendAfterPersist: self._send_after_persist,
            SaveSnapshot: self._save_snapshot,
            InstallSnapshot: self.mailbox.install,
        }

    # -- space

    def check_quota(self, cost: int) -> None:
        """Refuse a request that does not fit and raise the alarm (spec/kv.md L5)."""
        if self.applier.has_room_for(cost):
            return
        self.raise_nospace()
        raise errors.NoSpace

    def raise_nospace(self) -> None:
        """Propose the NOSPACE alarm for this member, unless it is on its way already."""
        if self._nospace_raised:
            return
        self._nospace_raised = True

        def settled(error: errors.RequestError | None) -> None:
            self._nospace_raised = False

        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.ACTIVATE,
            memberID=self.member_id,
            alarm=rpc_pb2.NOSPACE,
        )
        self._log.warn("database space exceeded", quota_bytes=self.quota_bytes)
        self.propose(Kind.ALARM, request, request.SerializeToString(), CallbackWaiter(settled))

    def wake(self) -> None:
        """Take a turn soon."""
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turn_scheduled = False
        if self.is_stopped:
            return
        if self.mailbox.inbox:
            self.mailbox.step_inbox(self._proposals.now, leads=self.is_leader)
        if self._proposals.new:
            may_append = not self._appends_under_way and not self._storage.is_choked
            self._proposals.give_to_raft(may_append)
        if self._read_queue.has_waiting and self.leader:
            self._reads.ask(self._proposals.now)
        self.run_ready()
        self._answered()

    def when_answered(self, send: Callable[[], None]) -> None:
        """`send` is called when nobody is answered any more for a while: after each slice that was
        applied, and at the end of each turn."""
        self._answered = self._apply.answered = send

    # -- other members

    def _send_after_persist(self, step: SendAfterPersist) -> None:
        """A conf change takes effect before we vouch for what follows it (spec/raft.md §2)."""
        if self._applies_before_sending:
            self._applies_before_sending = False
            self._apply.run_all()
        self.mailbox.send_after_persist(step)

    # -- snapshots of the leader

    def _save_snapshot(self, step: SaveSnapshot) -> None:
        self._storage.save_received(step.snapshot)

    def _install(self, snapshot: Snapshot) -> None:
        """Entries that wait to be applied are in it."""
        assert self.install is not None, "a database was received without being asked for"
        failpoints.hit("raftBeforeApplySnap")
        self._apply.forget()
        self.install(snapshot, lambda: self._installed(snapshot))

    def _installed(self, snapshot: Snapshot) -> None:
        self.reads_at_once = False
        self._apply.installed(snapshot.index, snapshot.term)
        self.hub.history_replaced()
        self.schedule_hub()
        self._log.info("applied snapshot", snapshot_index=snapshot.index)
        failpoints.hit("raftAfterApplySnap")
        self.wake()

    async def move_leader(self, target: int) -> None:
        """Returns when `target` leads. Raises `RequestError` when it takes too long."""
        self.node.transfer_leader(target)
        self.wake()
        try:
            async with asyncio.timeout(self.request_timeout_seconds):
                while self.leader != target:
                    watcher: asyncio.Future[None] = self.loop.create_future()
                    self._leader_watchers.append(watcher)
                    await watcher
        except TimeoutError:
            raise errors.RequestError(
                "etcdserver: request timed out, leader transfer took too long"
            ) from None

    # -- raft's duties

    def run_ready(self) -> None:
        """Carry out everything that raft wants done now."""
        while self.node.has_ready():
            ready = self.node.ready()
            if ready.soft_state is not None:
                self._note_leader(ready.soft_state.leader)
            for step in self._plan(ready):
                self._duties[type(step)](step)
        self.reads_at_once = self.node.read_index_now() is not None
        self._apply.run()

    def _append_entries(self, step: AppendEntries) -> None:
        if not step.must_sync:
            self._late_hard_state = step.hard_state  # its loss costs nothing: goes with the next
            return
        hard_state = step.hard_state or self._late_hard_state
        self._late_hard_state = None
        batch = self._storage.encode(hard_state, step.entries)
        number = step.number
        if self.leader and self.company.is_none(
            len(step.entries), len(batch.data), leads=self.leader == self.member_id
        ):
            took = self._append.run_here(lambda: self._storage.write(batch))
            if took is not None:
                self.node.persisted(number)
                self.mailbox.persisted(number, leads=self.is_leader)  # somebody waits for it
                self.stood_still(took)
                self._storage.note_append(took)
                return
        self._appends_under_way += 1
        self._append.submit(
            lambda: self._storage.write(batch), lambda took: self._persisted(number, took)
        )

    def _persisted(self, number: int, took_seconds: float) -> None:
        self._appends_under_way -= 1
        if self.is_stopped:
            return
        self._storage.note_append(took_seconds)
        self.node.persisted(number)
        self.mailbox.persisted(number, leads=self.is_leader)
        self._turn()

    def _apply_entries(self, step: ApplyEntries) -> None:
        self._apply.add(step.entries)
        if not self.is_leader and any(entry[2] for entry in step.entries):
            self._applies_before_sending = True
        if self._proposals.forwarded.by_data:
            self._apply.run()  # clients of ours wait for it, and nobody for what we have to say

    def _notify_read_states(self, step: NotifyReadStates) -> None:
        for state in step.read_states:
            self._read_queue.confirm(state.context, state.index)

    def _note_leader(self, leader: int) -> None:
        if leader and leader != self.leader:
            self.counters.leader_changes += 1
            self._leader_since = self._proposals.now
            failed = self._read_queue.fail_unconfirmed(errors.LeaderChanged())
            self.counters.read_indexes_failed += failed
            self.mailbox.release_held()
        self.leader = leader
        watchers, self._leader_watchers = self._leader_watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
        was_leader, self.is_leader = self.is_leader, leader == self.member_id
        if not was_leader or not self.is_leader:
            self._has_stalled = False  # elected just now, or nothing to be sure of
        self.header.set_term(self.node.term)
        if was_leader and not self.is_leader:
            self.lessor.demote()

    # -- what is applied

    @property
    def applied_index(self) -> int:
        """Of the last entry whose effects are in the state machines."""
        return self._apply.applied_index

    @property
    def warning_seconds(self) -> float:
        """An entry that takes longer to apply is worth a line in the log."""
        return self._apply.warning_seconds

    @warning_seconds.setter
    def warning_seconds(self, seconds: float) -> None:
        self._apply.warning_seconds = seconds

    def _note_conf_change(self) -> None:
        self.reads_at_once = False  # until the next turn knows who votes now
        self._save_hard_state()
        self.wake()

    def _save_hard_state(self) -> None:
        """That a conf change is committed is not for the next append to tell: a member that forgot
        in a crash who was removed would wait for the vote of one that has gone for good."""
        if self._late_hard_state is None:
            return
        batch = self._storage.encode(self._late_hard_state, [])
        self._late_hard_state = None
        self._append.submit(lambda: self._storage.write(batch), self._storage.note_append)

    def _note_first_entry(self, term: int, now: float) -> None:
        """A new leader's first entry: from here on its leases have deadlines (spec/lease.md P1).

        Once a reign: an empty entry also stands in the place of a conf change that was not taken,
        and new deadlines would raise leases whose revocation is in the log already.
        """
        if self.is_leader and self._promoted_term < term == self.node.term:
            self._promoted_term = term
            self.lessor.promote(now, self._election_timeout_seconds)
            self._on_leader()

    # -- reading

    @property
    def has_leader(self) -> bool:
        return self.leader != 0

    def can_read_now(self) -> bool:
        return self.reads_at_once

    def read(self, call: Any, answer: Callable[[], bytes | None]) -> bytes | None:
        """Answer `call` when a linearizable read is possible; None when it must wait."""
        if self.can_read_now():
            return answer()

        self._reads.answer_later(call, answer)
        return None

    async def readable(self) -> None:
        """Wait until a linearizable read may run here. Raises `RequestError`."""
        if not self.can_read_now():
            await self._reads.wait()

    async def caught_up(self) -> None:
        """Wait until what anybody may have seen the effects of is applied here. Not `readable`: the
        only voter may be read while committed entries wait for their slice. Raises
        `RequestError`."""
        index = self.node.vouched
        if index > self.applied_index:
            await self._reads.wait_applied(index)

    # -- leading

    def leads_surely(self, now: float) -> bool:
        """Whether this leader has not stood still for longer than a few ticks since it last knew
        that it leads: nobody can have been elected meanwhile (spec/lease.md K7)."""
        return not self._has_stalled and now - self._proposals.now <= self._stall_seconds

    async def confirm_leadership(self) -> None:
        """Ask a quorum whether this member still leads. Raises `RequestError`, or returns: then
        it may have learned that it does not."""
        now = self.clock.monotonic()
        self._has_stalled = not self.leads_surely(now)
        self._proposals.now = now
        term = self.node.term
        await self.readable()
        if self.node.is_leader and self.node.term == term:
            self._has_stalled = False

    # -- watching

    def schedule_hub(self) -> None:
        """Let lagging watchers catch up, slice by slice, between other work."""
        if not self._is_hub_scheduled and not self.is_stopped:
            self._is_hub_scheduled = True
            self.loop.call_soon(self._step_hub)

    def _step_hub(self) -> None:
        self._is_hub_scheduled = False
        if self.hub.step():
            self.schedule_hub()

    # -- time

    def start(self) -> None:
        """Apply what is committed already; the only voter stands for election at once."""
        self.run_ready()
        self._campaign_alone()

    def _campaign_alone(self) -> None:
        """Nobody else can lead, so there is nothing to wait for (spec/cluster.md §4)."""
        if not self.leader and self.node.conf_state.voters == (self.member_id,):
            self.node.campaign()
            self.wake()

    def fast_forward(self, ticks: int) -> None:
        """Spend most of the first election timeout at once: whoever leads would have been heard
        by now (spec/cluster.md §4)."""
        if not self.leader and not self.is_stopped:
            for _ in range(ticks):
                self.node.tick()
            self.wake()

    def tick(self, now: float) -> None:
        """One heartbeat interval has passed."""
        if now - self._proposals.now > self._stall_seconds and self.node.leader == self.member_id:
            self._has_stalled = True
        self._proposals.now = now
        self.company.look(now)
        self.node.tick()
        self._campaign_alone()
        before = now - self.request_timeout_seconds
        grace = self._election_timeout_seconds
        self._proposals.expire(before, now - grace, self._timeout_of)
        self.mailbox.expire(before)
        if self.node.is_leader:
            self.mailbox.release_held()  # of a hand-over that came to nothing
        self.counters.read_indexes_failed += self._read_queue.expire(before)
        if self.leader:
            self._reads.ask_again(now)
        self.wake()

    def _timeout_of(self, started_at: float) -> errors.RequestError:
        """What a write of unknown outcome is told (spec/kv.md E5)."""
        earliest = self._leader_since - 2 * self._election_timeout_seconds
        if earliest <= started_at <= self._leader_since:
            return errors.TimeoutDueToLeaderFail()
        is_remote = self.leader not in (0, self.member_id)
        if is_remote and self.mailbox.network.active_since(self.leader) is None:
            return errors.TimeoutDueToConnectionLost()
        return errors.Timeout()

    def raft_status(self) -> Status:
        return self.node.status()

    @property
    def storage_version(self) -> str:
        """The storage version follows the cluster version (spec/cluster.md §6.3)."""
        return self.membership.version or ""

    @property
    def pending_proposals(self) -> int:
        return len(self._proposals)

    def stop(self) -> None:
        """Take no more; tell everybody who waits (spec/kv.md E6)."""
        self.is_stopped = True
        self.mailbox.stop()
        self._apply.stop()
        self._proposals.stop()
        self._read_queue.fail_all(errors.Stopped())
