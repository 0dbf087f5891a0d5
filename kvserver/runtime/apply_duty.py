"""What is committed becomes state, in log order (spec/kv.md §4, design D6).

Each entry is applied, its waiter answered and its events shown to watchers before the next one.
Entries go in slices, so that they do not hold the loop for long. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from kvserver import errors, failpoints
from kvserver.apply.applier import Applier
from kvserver.apply.command import Kind, decode_command
from kvserver.apply.redacted import redacted
from kvserver.clock import Clock
from kvserver.limits import SLICE_SECONDS_MAX, SLOW_APPLY_SECONDS, UNAPPLIED_ENTRIES_MAX
from kvserver.logs import Logger
from kvserver.member.conf_changes import ConfChanges
from kvserver.member.header import HeaderBytes
from kvserver.member.proposal import Proposal
from kvserver.member.reads import ReadQueue
from kvserver.raft import Entry, EntryType, RawNode
from kvserver.runtime.counters import Counters
from kvserver.runtime.propose_duty import ProposeDuty
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.watch import Hub

ENTRIES_PER_CLOCK_LOOK = 8


class ApplyDuty:
    """The entries between the log and the state machines."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        node: RawNode,
        applier: Applier,
        conf_changes: ConfChanges,
        storage: StorageDuty,
        proposals: ProposeDuty,
        reads: ReadQueue,
        header: HeaderBytes,
        hub: Hub,
        counters: Counters,
        applied_index: int,
        on_conf_change: Callable[[], None],
        on_first_entry: Callable[[int, float], None],
        on_over_quota: Callable[[], None],
        log: Logger,
    ) -> None:
        """`on_first_entry(term, now)`: a leader's first entry, after which whatever earlier leaders
        committed is applied."""
        self.applied_index = applied_index
        self.applied_term = 0
        self.warning_seconds = SLOW_APPLY_SECONDS
        self.answered: Callable[[], None] = lambda: None
        """Told as soon as a slice is applied: what it answered need not wait for the rest."""
        self._queue: deque[Entry] = deque()
        self._loop = loop
        self._monotonic = clock.monotonic
        self._node = node
        self._applier = applier
        self._store = applier.store
        self._conf_changes = conf_changes
        self._storage = storage
        self._proposals = proposals
        self._reads = reads
        self._header = header
        self._hub = hub
        self._counters = counters
        self._on_conf_change = on_conf_change
        self._on_first_entry = on_first_entry
        self._on_over_quota = on_over_quota
        self._log = log
        self._is_scheduled = False
        self._is_stopped = False

    def add(self, entries: Iterable[Entry]) -> None:
        """Entries that are committed now; the next `run` begins with them."""
        self._queue.extend(entries)
        if len(self._queue) > UNAPPLIED_ENTRIES_MAX:
            self._proposals.refusal = errors.RequestTooManyRequests

    def installed(self, index: int, term: int) -> None:
        """A database from the leader is in the place of ours."""
        self.applied_index, self.applied_term = index, term
        self._node.applied(index)
        # Alarms, users and space are others now: what the shortcut of puts knew is void.
        self._applier.note_space()

    def forget(self) -> None:
        """Entries that wait are in the snapshot that is being installed."""
        self._queue.clear()

    def stop(self) -> None:
        self._is_stopped = True

    # -- slices

    def run(self) -> None:
        """Apply for at most one slice, then let the loop breathe; run the reads that may run."""
        self._is_scheduled = False
        queue = self._queue
        if queue and not self._is_stopped:
            self._apply_slice(queue)
        self._reads.run(self.applied_index)
        if queue and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.run)

    def run_all(self) -> None:
        """Apply all that is committed, however long it takes."""
        while self._queue:
            self._apply_slice(self._queue)

    def _apply_slice(self, queue: deque[Entry]) -> None:
        monotonic = self._monotonic
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
        self.answered()
        refusal = self._proposals.refusal
        if refusal is errors.RequestTooManyRequests and len(queue) < UNAPPLIED_ENTRIES_MAX:
            self._proposals.refusal = None
        self._node.applied(self.applied_index)
        self._storage.note_applied(self.applied_index, self.applied_term)
        applier = self._applier
        applier.note_space()
        if applier.is_over_quota:
            applier.is_over_quota = False
            self._on_over_quota()

    def _warn_of_slow_apply(self, entry: Entry, took_seconds: float) -> None:
        """One of the last few entries was slow: this one, as far as the clock tells
        (spec/observability.md §6)."""
        self._counters.slow_applies += 1
        self._log.warn(
            "apply request took too long",
            took=took_seconds,
            expected_duration=self.warning_seconds,
            prefix="",
            request=_shown(entry),
            index=entry.index,
            size=len(entry.data),
        )

    # -- one entry

    def _apply_entry(self, entry: Entry, now: float) -> None:
        index, term, kind_of_entry, data = entry
        proposals = self._proposals
        proposal = proposals.waiting.pop(index, term)
        if proposal is not None and proposal.data is not data and proposal.data != data:
            raise errors.FatalError(f"log entry {index} is not the one that was proposed here")
        if kind_of_entry != EntryType.NORMAL:
            self._conf_changes.apply(entry, self._node, proposals.take_conf_waiter)
            self._on_conf_change()
        elif not data:
            proposals.leader_committed(term, now)
            self._on_first_entry(term, now)
        else:
            failpoints.hit("beforeApplyOneEntryNormal")
            if proposal is None and proposals.forwarded.by_data:
                proposal = proposals.forwarded.pop(data)
            if proposal is not None and proposal.kind is Kind.PUT and self._applier.takes_any_put:
                self._apply_put(proposal)
            else:
                self._apply_command(index, data, proposal, now)
        self.applied_index = index
        self.applied_term = term

    def _apply_put(self, proposal: Proposal) -> None:
        """A put with no alarm, no auth and room enough. Hot: `_apply_command` and
        `Applier.apply` written out for the one command that comes by the hundred thousand."""
        waiter = proposal.waiter
        store = self._store
        try:
            revision, body = store.put(proposal.request)
        except errors.RequestError as error:
            if waiter is not None:
                waiter.fail(error.code, error.message)
            return
        if waiter is not None:
            waiter.reply(self._header(revision) + body)
        self._hub.notify(revision, store.take_events())

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
            revision, body = self._applier.apply(kind, request, now, identity, index)
        except errors.RequestError as error:
            if waiter is not None:
                waiter.fail(error.code, error.message)
        else:
            if waiter is not None:
                header = self._header(0 if kind >= Kind.CLUSTER_VERSION_SET else revision)
                waiter.reply(header + body)
        events = self._store.take_events()
        if events:
            self._hub.notify(events[0].main, events)


def _shown(entry: Entry) -> str:
    """The entry's request for the log, without values and secrets."""
    if entry.type != EntryType.NORMAL or not entry.data:
        return ""
    kind, request, _, _ = decode_command(entry.data, entry.index)
    return f"{kind.name.lower()}:<{redacted(request)}>"
