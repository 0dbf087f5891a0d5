"""The loop's side of a member: it owns raft, apply, reads and everything they change (design D1).

One turn: what clients proposed since the last one becomes one batch of raft entries; raft's
`Ready` is carried out in the order `plan_ready` gives; what is committed is applied, answered and
shown to watchers. The append and flush threads wait for disks; only values cross to them.

While an append is under way no new one starts: what arrives meanwhile is the next batch (group
commit). No request holds the loop for long: applying goes in slices (design D6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from kvserver import errors, failpoints
from kvserver.apply.applier import Applier
from kvserver.apply.command import HeaderEncoder, Kind, decode_command, encode_command
from kvserver.apply.redacted import redacted
from kvserver.auth.identity import NOBODY, Identity
from kvserver.clock import Clock
from kvserver.limits import (
    APPEND_HERE_BYTES_MAX,
    SLICE_SECONDS_MAX,
    SLOW_APPLY_SECONDS,
    UNAPPLIED_ENTRIES_MAX,
)
from kvserver.logs import Logger
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.member.proposal import (
    CallbackWaiter,
    ForwardedProposals,
    Proposal,
    Waiter,
    WaitingProposals,
)
from kvserver.membership.ids import RequestIds
from kvserver.proto import legacy_pb2, rpc_pb2
from kvserver.raft import (
    ConfChange,
    ConfChangeType,
    Entry,
    EntryType,
    ProposalDropped,
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
from kvserver.raft.types import DropReason, HardState, Snapshot
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.counters import Counters
from kvserver.runtime.mailbox import Mailbox
from kvserver.runtime.read_duty import ReadDuty
from kvserver.runtime.storage_duty import StorageDuty

ENTRIES_PER_CLOCK_LOOK = 8
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
        self.applied_index = applied_index
        self.applied_term = 0
        self.leader = 0
        self.is_leader = False
        self.is_learner = False
        self.is_stopped = False
        self.reads_at_once = False
        """Whether local state answers a linearizable read at once: the only voter has applied
        everything it ever acknowledged. As of the last turn, which every change of raft's state
        ends with."""
        self.warning_seconds = SLOW_APPLY_SECONDS
        self.quota_bytes = applier.quota_bytes
        self.request_timeout_seconds = request_timeout_seconds
        self._election_timeout_seconds = election_timeout_seconds
        self._stall_seconds = stall_seconds
        self._storage = storage
        self._append = append
        self._conf_changes = conf_changes
        self._request_bytes_max = request_bytes_max
        self._header_encoder = HeaderEncoder()
        self._refusal: type[errors.RequestError] | None = None
        """Why no proposal is taken at the moment."""
        self._now = clock.monotonic()
        """As of the last tick: fine enough for time-outs, and no clock is read per proposal."""
        self._new: list[Proposal] = []
        self._waiting = WaitingProposals()
        self._forwarded = ForwardedProposals()
        self._conf_waiters: dict[int, tuple[Waiter, float]] = {}
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
        self._to_apply: deque[Entry] = deque()
        self._appends_under_way = 0
        self._late_hard_state: HardState | None = None
        self._is_turn_scheduled = False
        self._is_apply_scheduled = False
        self._is_hub_scheduled = False
        self._on_leader = on_leader
        self._plan = plan
        self._log = log
        self._nospace_raised = False
        self._duties: dict[type, Callable[[Any], None]] = {
            AppendEntries: self._append_entries,
            ApplyEntries: self._apply_entries,
            NotifyReadStates: self._notify_read_states,
            SendMessages: self.mailbox.send,
            SendAfterPersist: self._send_after_persist,
            SaveSnapshot: self._save_snapshot,
            InstallSnapshot: self.mailbox.install,
        }

    # -- proposing

    def propose(
        self,
        kind: Kind,
        request: Any,
        body: bytes,
        waiter: Waiter | None,
        identity: Identity = NOBODY,
    ) -> None:
        """Put one command into the log in the name of `identity`; `waiter` hears the outcome once
        it is applied.

        Hot: no future, no task, no closure. Raises what a client must hear at once.
        """
        if self._refusal is not None:
            raise self._refusal
        request_id = self.request_ids.next()
        if identity is NOBODY:
            header = self._header_encoder.encode(request_id)
        else:
            header = self._header_encoder.encode_with(request_id, identity)
        data = encode_command(kind, body, header)
        if len(data) > self._request_bytes_max:
            raise errors.RequestTooLarge
        self._new.append(Proposal(kind, request, data, request_id, waiter, self._now, identity))
        if not self._is_turn_scheduled:
            self._is_turn_scheduled = True
            self.loop.call_soon(self._turn)

    def propose_legacy(self, request: legacy_pb2.Request, waiter: Waiter | None) -> None:
        """Put a v2 request into the log, for members of releases that know no other form
        (spec/raft-wire.md W6)."""
        if self._refusal is not None:
            raise self._refusal
        request.ID = self.request_ids.next()
        data = request.SerializeToString()
        self._new.append(Proposal(Kind.LEGACY, request, data, request.ID, waiter, self._now))
        self.wake()

    def propose_as_leader(
        self, kind: Kind, request: Any, body: bytes, waiter: Waiter | None, identity: Identity
    ) -> None:
        """Put a command into the log that only this reign may give: at once, under its own term.
        It is never forwarded, or a leader that was replaced without knowing would have its
        successor end leases that were renewed there (spec/lease.md E1). Raises `NotLeader`."""
        if not self.node.is_leader:
            raise errors.NotLeader
        self.propose(kind, request, body, waiter, identity)
        self._append_to_log([self._new.pop()])

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
            self.mailbox.step_inbox(self._now)
        if self._new:
            # Raft's own word: what was stepped just now may have ended our leadership, and a waiter
            # at an index that another leader fills would apply its request in the place of theirs.
            if self.node.is_leader:
                if not self._appends_under_way and not self._storage.is_choked:
                    proposals, self._new = self._new, []
                    self._append_to_log(proposals)
            elif self.node.leader:
                self._forward_new()
        if self._read_queue.has_waiting and self.leader:
            self._reads.ask(self._now)
        self.run_ready()

    def _append_to_log(self, proposals: list[Proposal]) -> None:
        first = self.node.last_index + 1
        try:
            self.node.propose([proposal.data for proposal in proposals])
        except ProposalDropped as dropped:
            if dropped.reason is DropReason.TRANSFER:
                # None was taken: they wait for whoever leads then, where etcd gives them back to
                # their callers (spec/kv.md E6).
                self._new = proposals
                return
            for proposal in proposals:
                proposal.fail(errors.RequestError("raft proposal dropped"))
            return
        self._waiting.add(first, self.node.term, proposals)

    def _forward_new(self) -> None:
        """To the leader, in one message; each is recognised when it comes back to be applied.
        Never sent a second time: it could be applied twice (spec/cluster.md §4)."""
        proposals, self._new = self._new, []
        try:
            self.node.propose([proposal.data for proposal in proposals])
        except ProposalDropped:  # the leader has just been lost: they wait for the next one
            self._new = proposals
            return
        self._forwarded.add(self.node.term, proposals)

    def propose_conf_change(
        self, kind: ConfChangeType, node_id: int, context: bytes, waiter: Waiter
    ) -> None:
        """One at a time: a second one while the first is under way would be lost
        (spec/raft.md §8). Raises `RequestError`."""
        if self._refusal is not None:
            raise self._refusal
        request_id = self.request_ids.next()
        try:
            self.node.propose_conf_change(ConfChange(request_id, kind, node_id, context))
        except ProposalDropped as dropped:
            if dropped.reason is DropReason.NO_LEADER:
                raise errors.NoLeader from None
            raise errors.RequestError("raft proposal dropped") from None
        self._conf_waiters[request_id] = waiter, self._now
        self.wake()

    def _take_conf_waiter(self, request_id: int) -> Waiter | None:
        found = self._conf_waiters.pop(request_id, None)
        return None if found is None else found[0]

    # -- other members

    def _send_after_persist(self, step: SendAfterPersist) -> None:
        """A conf change takes effect before we vouch for what follows it (spec/raft.md §2)."""
        if self._applies_before_sending:
            self._applies_before_sending = False
            while self._to_apply:
                self._apply_slice(self._to_apply)
        self.mailbox.send_after_persist(step)

    # -- snapshots of the leader

    def _save_snapshot(self, step: SaveSnapshot) -> None:
        self._storage.save_received(step.snapshot)

    def _install(self, snapshot: Snapshot) -> None:
        """Entries that wait to be applied are in it."""
        assert self.install is not None, "a database was received without being asked for"
        failpoints.hit("raftBeforeApplySnap")
        self._to_apply.clear()
        self.install(snapshot, lambda: self._installed(snapshot))

    def _installed(self, snapshot: Snapshot) -> None:
        self.applied_index, self.applied_term = snapshot.index, snapshot.term
        self.reads_at_once = False
        self.node.applied(snapshot.index)
        # Alarms, users and space are others now: what the shortcut of puts knew is void.
        self.applier.note_space()
        self.hub.history_replaced()
        self.schedule_hub()
        self._log.info("applied snapshot", snapshot_index=snapshot.index)
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
        self._apply_some()

    def _append_entries(self, step: AppendEntries) -> None:
        if not step.must_sync:
            self._late_hard_state = step.hard_state  # its loss costs nothing: goes with the next
            return
        hard_state = step.hard_state or self._late_hard_state
        self._late_hard_state = None
        batch = self._storage.encode(hard_state, step.entries)
        number = step.number
        if self._may_stand_still(len(batch.data)):
            took = self._append.run_here(lambda: self._storage.write(batch))
            if took is not None:
                self._storage.note_append(took)
                self.node.persisted(number)
                self.mailbox.persisted(number)
                return
        self._appends_under_way += 1
        self._append.submit(
            lambda: self._storage.write(batch), lambda took: self._persisted(number, took)
        )

    def _may_stand_still(self, append_bytes: int) -> bool:
        """Whether this follower may write an append on the loop itself: nobody waits for it."""
        return self.leader not in (0, self.member_id) and not (
            append_bytes > APPEND_HERE_BYTES_MAX
            or self._forwarded.by_data
            or self._new
            or self._read_queue.has_readers
            or self.hub.streams
        )

    def _persisted(self, number: int, took_seconds: float) -> None:
        self._appends_under_way -= 1
        if self.is_stopped:
            return
        self._storage.note_append(took_seconds)
        self.node.persisted(number)
        self.mailbox.persisted(number)
        self._turn()

    def _apply_entries(self, step: ApplyEntries) -> None:
        self._to_apply.extend(step.entries)
        if not self.is_leader and any(entry[2] for entry in step.entries):
            self._applies_before_sending = True
        if len(self._to_apply) > UNAPPLIED_ENTRIES_MAX:
            self._refusal = errors.RequestTooManyRequests

    def _notify_read_states(self, step: NotifyReadStates) -> None:
        for state in step.read_states:
            self._read_queue.confirm(state.context, state.index)

    def _note_leader(self, leader: int) -> None:
        if leader and leader != self.leader:
            self.counters.leader_changes += 1
            self._leader_since = self._now
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

    # -- applying

    def _apply_some(self) -> None:
        """Apply committed entries for at most one slice, then let the loop breathe."""
        self._is_apply_scheduled = False
        queue = self._to_apply
        if queue and not self.is_stopped:
            self._apply_slice(queue)
        self._read_queue.run(self.applied_index)
        if queue and not self._is_apply_scheduled:
            self._is_apply_scheduled = True
            self.loop.call_soon(self._apply_some)

    def _apply_slice(self, queue: deque[Entry]) -> None:
        monotonic = self.clock.monotonic
        now = looked = monotonic()
        end = now + SLICE_SECONDS_MAX
        left = ENTRIES_PER_CLOCK_LOOK
        while queue:
            entry = queue.popleft()
            self._apply_entry(entry, now)
            left -= 1
            if not left or not queue:
                left = ENTRIES_PER_CLOCK_LOOK
                looked, last_look = monotonic(), looked
                if looked - last_look > self.warning_seconds:
                    self._warn_of_slow_apply(entry, looked - last_look)
                if looked > end:
                    break
        if self._refusal is errors.RequestTooManyRequests and len(queue) < UNAPPLIED_ENTRIES_MAX:
            self._refusal = None
        self.node.applied(self.applied_index)
        self._storage.note_applied(self.applied_index, self.applied_term)
        self.applier.note_space()
        if self.applier.is_over_quota:
            self.applier.is_over_quota = False
            self.raise_nospace()

    def _warn_of_slow_apply(self, entry: Entry, took_seconds: float) -> None:
        """One of the last few entries was slow: this one, as far as the clock tells
        (spec/observability.md §6)."""
        self.counters.slow_applies += 1
        self._log.warn(
            "apply request took too long",
            took=took_seconds,
            expected_duration=self.warning_seconds,
            prefix="",
            request=_shown(entry),
            index=entry.index,
            size=len(entry.data),
        )

    def _apply_put(self, proposal: Proposal) -> None:
        """A put with no alarm, no auth and room enough. Hot: `_apply_command` and
        `Applier.apply` written out for the one command that comes by the hundred thousand."""
        waiter = proposal.waiter
        store = self.store
        try:
            revision, body = store.put(proposal.request)
        except errors.RequestError as error:
            if waiter is not None:
                waiter.fail(error.code, error.message)
            return
        if waiter is not None:
            waiter.reply(self.header(revision) + body)
        self.hub.notify(revision, store.take_events())

    def _apply_entry(self, entry: Entry, now: float) -> None:
        index, term, kind_of_entry, data = entry
        proposal = self._waiting.pop(index, term)
        if proposal is not None and proposal.data is not data and proposal.data != data:
            raise errors.FatalError(f"log entry {index} is not the one that was proposed here")
        if kind_of_entry != EntryType.NORMAL:
            self._conf_changes.apply(entry, self.node, self._take_conf_waiter)
            self.reads_at_once = False  # until the next turn knows who votes now
            self.wake()
        elif not data:
            self._apply_empty(entry, now)
        else:
            failpoints.hit("beforeApplyOneEntryNormal")
            if proposal is None and self._forwarded.by_data:
                proposal = self._forwarded.pop(data)
            if proposal is not None and proposal.kind is Kind.PUT and self.applier.takes_any_put:
                self._apply_put(proposal)
            else:
                self._apply_command(index, data, proposal, now)
        self.applied_index = index
        self.applied_term = term

    def _apply_command(
        self, index: int, data: bytes, proposal: Proposal | None, now: float
    ) -> None:
        if proposal is not None:
            kind, request, waiter = proposal.kind, proposal.request, proposal.waiter
            identity = proposal.identity
        else:
            kind, request, _, identity = decode_command(data, index)
            waiter = None
        try:
            revision, body = self.applier.apply(kind, request, now, identity, index)
        except errors.RequestError as error:
            if waiter is not None:
                waiter.fail(error.code, error.message)
        else:
            if waiter is not None:
                header = self.header(0 if kind >= Kind.CLUSTER_VERSION_SET else revision)
                waiter.reply(header + body)
        events = self.store.take_events()
        if events:
            self.hub.notify(events[0].main, events)

    def _apply_empty(self, entry: Entry, now: float) -> None:
        """A new leader's first entry: from here on its leases have deadlines (spec/lease.md P1),
        and whatever earlier leaders committed is applied."""
        self.counters.proposals_failed += self._waiting.fail_older(entry.term)
        self._forwarded.succeeded(entry.term, now)
        if self.is_leader and entry.term == self.node.term:
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
        """Wait until what is committed by now is applied here. Not `readable`: the only voter may
        be read while committed entries wait for their slice. Raises `RequestError`."""
        committed = self.node.committed
        if committed > self.applied_index:
            await self._reads.wait_applied(committed)

    # -- leading

    def leads_surely(self, now: float) -> bool:
        """Whether this leader has not stood still for longer than a few ticks since it last knew
        that it leads: nobody can have been elected meanwhile (spec/lease.md K7)."""
        return not self._has_stalled and now - self._now <= self._stall_seconds

    async def confirm_leadership(self) -> None:
        """Ask a quorum whether this member still leads. Raises `RequestError`, or returns: then
        it may have learned that it does not."""
        now = self.clock.monotonic()
        self._has_stalled = not self.leads_surely(now)
        self._now = now
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
        if now - self._now > self._stall_seconds and self.node.leader == self.member_id:
            self._has_stalled = True
        self._now = now
        self.node.tick()
        self._campaign_alone()
        before = now - self.request_timeout_seconds
        self.counters.proposals_failed += self._waiting.expire(before, self._timeout_of)
        self.counters.proposals_failed += self._forwarded.expire(before, self._timeout_of)
        self.counters.proposals_failed += self._forwarded.fail_lost(
            now - self._election_timeout_seconds
        )
        self._expire_new(before)
        self._expire_conf_changes(before)
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

    def _expire_conf_changes(self, before: float) -> None:
        late = [number for number, (_, since) in self._conf_waiters.items() if since < before]
        for number in late:
            waiter, _ = self._conf_waiters.pop(number)
            waiter.fail(errors.Timeout.code, errors.Timeout.message)

    def _expire_new(self, before: float) -> None:
        """Proposals that found no leader in time (spec/kv.md E4)."""
        while self._new and self._new[0].started_at < before:
            self.counters.proposals_failed += 1
            self._new.pop(0).fail(errors.DeadlineExceeded("context deadline exceeded"))

    def raft_status(self) -> Status:
        return self.node.status()

    @property
    def storage_version(self) -> str:
        """The storage version follows the cluster version (spec/cluster.md §6.3)."""
        return self.membership.version or ""

    @property
    def pending_proposals(self) -> int:
        return len(self._new) + len(self._waiting) + len(self._forwarded)

    def stop(self) -> None:
        """Take no more; tell everybody who waits (spec/kv.md E6)."""
        self.is_stopped = True
        self.mailbox.stop()
        self._refusal = errors.Stopped
        new, self._new = self._new, []
        for proposal in new:
            proposal.fail(errors.Stopped())
        self._waiting.fail_all(errors.Stopped())
        self._forwarded.fail_all(errors.Stopped())
        waiters, self._conf_waiters = list(self._conf_waiters.values()), {}
        for waiter, _ in waiters:
            waiter.fail(errors.Stopped.code, errors.Stopped.message)
        self._read_queue.fail_all(errors.Stopped())


def _shown(entry: Entry) -> str:
    """The entry's request for the log, without values and secrets."""
    if entry.type != EntryType.NORMAL or not entry.data:
        return ""
    kind, request, _, _ = decode_command(entry.data, entry.index)
    return f"{kind.name.lower()}:<{redacted(request)}>"
