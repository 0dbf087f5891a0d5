"""The hub: every watcher of this member, and the one place that moves them between phases.

It is told each applied revision once, in order, and delivers it to the live watchers. All others
catch up from the store in `step`. Guarantees (spec/watch.md V3-V8, W12): per watcher revisions only
rise, each wanted event is sent once, a revision is never split, and a progress response follows
everything up to its revision.

Owner: the loop. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from kvserver.limits import GRPC_OVERHEAD_BYTES, REQUEST_BYTES_MAX
from kvserver.watch import messages
from kvserver.watch.catch_up import STEP_WORK_MAX, CatchUp
from kvserver.watch.encoded import EncodedEvents, History, deliver, is_filtered, prev_kv_of
from kvserver.watch.live import Group, LiveIndex
from kvserver.watch.messages import Event, event_entry
from kvserver.watch.stream import Authorize, WatchStream, allow_all
from kvserver.watch.watcher import PREV_KV, Phase, Sink, Watcher

_BEHIND = frozenset({Phase.LAGGING, Phase.FUTURE})


class Hub:
    """All watch streams of a member.

    `history` is the store; `header(revision)` gives the encoded response header for a revision,
    and is asked again for every response because the term in it changes. `fragment_bytes` is the
    F of spec/watch.md D6.
    """

    def __init__(
        self,
        history: History,
        header: Callable[[int], bytes],
        fragment_bytes: int = REQUEST_BYTES_MAX + GRPC_OVERHEAD_BYTES,
    ) -> None:
        self.revision = history.revision
        """Everything up to here was told to the hub; live watchers have it all."""
        self.events_sent = 0
        self.streams: dict[WatchStream, None] = {}
        """A dict as an ordered set: what is sent in its order is the same in every replay."""
        self._history = history
        self._header = header
        self._fragment_bytes = fragment_bytes
        self._live = LiveIndex()
        self._catch_up = CatchUp(history, fragment_bytes, self._served)
        self._future: list[tuple[int, int, Watcher]] = []
        self._sequence = 0
        self._lagging = 0

    # -- what the runtime calls

    def open_stream(self, sink: Sink, authorize: Authorize = allow_all) -> WatchStream:
        stream = WatchStream(self, sink, authorize)
        self.streams[stream] = None
        return stream

    def notify(self, revision: int, events: Sequence[Event]) -> None:
        """One revision was applied. Must be called for every revision, in order."""
        assert revision == self.revision + 1, "the hub is told every revision once, in order"
        self.revision = revision
        if self._future:
            for _, watcher in self._take_due():
                self._go_live(watcher)
        if self._live.size:
            slow = self._show_one(events[0]) if len(events) == 1 else self._show_many(events)
            for watcher in slow:
                self._park(watcher, revision)

    def step(self) -> bool:
        """Do a slice of catching up; True when more can be done at once."""
        work = 0
        while work < STEP_WORK_MAX:
            watcher = self._catch_up.next_served()
            if watcher is not None:
                work += self._serve(watcher)
            elif self._settle_head():
                work += 1
            elif self._catch_up.ready:
                work += self._catch_up.read(self.revision)
            else:
                if not self._lagging:
                    self._catch_up.forget_slice()
                return False
        return self.has_work

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._catch_up.ready)

    def history_replaced(self) -> None:
        """The store was replaced by a snapshot of a later state (M4): nobody is live any more.

        Every watcher goes on from its next needed revision in the new store.
        """
        next_revision = self.revision + 1
        assert self._history.revision >= self.revision, "a snapshot never takes revisions back"
        self.revision = self._history.revision
        self._catch_up.forget_slice()
        for stream in self.streams:
            for watcher in stream.watchers.values():
                if watcher.phase is Phase.LIVE:
                    self._live.remove(watcher)
                    self._fall_behind(watcher, next_revision)
        for start, watcher in self._take_due():
            self._fall_behind(watcher, start)

    @property
    def watcher_count(self) -> int:
        return sum(len(stream.watchers) for stream in self.streams)

    @property
    def slow_watcher_count(self) -> int:
        """Watchers that are not live, as etcd's slow_watcher_total counts them."""
        return sum(stream.behind for stream in self.streams)

    @property
    def pending_revisions(self) -> int:
        """How far watchers whose stream takes no more are behind, summed."""
        return sum(
            self.revision + 1 - watcher.next_revision
            for stream in self.streams
            for watcher in stream.parked
        )

    # -- what streams call

    def header(self, revision: int) -> bytes:
        return self._header(revision)

    def start(self, watcher: Watcher, start_revision: int) -> None:
        """Place a new watcher by its start_revision, 0 meaning from now on (W5)."""
        if start_revision == 0:
            self._go_live(watcher)
        elif start_revision > self.revision:
            self._enter(watcher, Phase.FUTURE)
            self._sequence += 1  # breaks ties, so that watchers are never compared
            heappush(self._future, (start_revision, self._sequence, watcher))
        elif start_revision < self._history.compact_revision:
            self._cancel_compacted(watcher)
        else:
            self._fall_behind(watcher, start_revision)

    def stop(self, watcher: Watcher) -> None:
        """The watcher is over: its client cancelled it or its stream closed."""
        if watcher.phase is Phase.LIVE:
            self._live.remove(watcher)
        elif watcher.phase is Phase.LAGGING:
            self._catch_up.ready.pop(watcher, None)
            watcher.stream.parked.pop(watcher, None)
        self._enter(watcher, Phase.CANCELED)  # by which the heap of future watchers skips it

    def resume(self, watchers: Sequence[Watcher]) -> None:
        """Their sink takes responses again."""
        for watcher in watchers:
            self._catch_up.ready[watcher] = None

    # -- phases

    def _enter(self, watcher: Watcher, phase: Phase) -> None:
        """The only way into a phase; keeps the counts of watchers that are not live."""
        stream, former = watcher.stream, watcher.phase
        stream.behind += (phase in _BEHIND) - (former in _BEHIND)
        self._lagging += (phase is Phase.LAGGING) - (former is Phase.LAGGING)
        watcher.phase = phase

    def _go_live(self, watcher: Watcher) -> None:
        self._enter(watcher, Phase.LIVE)
        self._live.add(watcher)

    def _fall_behind(self, watcher: Watcher, next_revision: int) -> None:
        self._enter(watcher, Phase.LAGGING)
        watcher.next_revision = next_revision
        self._catch_up.ready[watcher] = None

    def _park(self, watcher: Watcher, revision: int) -> None:
        """A live watcher's sink is full (D1): it reads `revision` from the store later."""
        self._live.remove(watcher)
        self._enter(watcher, Phase.LAGGING)
        watcher.next_revision = revision
        watcher.stream.parked[watcher] = None

    def _take_due(self) -> Iterator[tuple[int, Watcher]]:
        """Future watchers whose start has come, taken out of their heap."""
        while self._future and self._future[0][0] <= self.revision:
            start, _, watcher = heappop(self._future)
            if watcher.phase is Phase.FUTURE:
                yield start, watcher

    def _served(self, watcher: Watcher, next_revision: int) -> None:
        """A lagging watcher has everything before `next_revision`."""
        watcher.next_revision = next_revision
        if next_revision > self.revision:
            self._go_live(watcher)
        else:
            self._catch_up.ready[watcher] = None

    def _cancel_compacted(self, watcher: Watcher) -> None:
        """D3. The id stays taken until the client cancels it (W10)."""
        self._enter(watcher, Phase.CANCELED)
        compact_revision = self._history.compact_revision
        watcher.sink.send(messages.compacted(self._header(0), watcher.id, compact_revision))

    # -- details of notify and step

    def _show_one(self, event: Event) -> list[Watcher]:
        """A revision of one event, as most are; returns watchers whose sink is full.

        Hot path: `_show_many` would do, but takes three times as long for one event.
        """
        slow: list[Watcher] = []
        groups = self._live.find(event.key)
        if not groups:
            return slow
        header = self._header(event.main)
        plain = with_prev = None
        for group in groups:
            for kind, watchers in group.by_kind.items():
                if kind & ~PREV_KV and is_filtered(event, kind):
                    continue
                if not kind & PREV_KV:
                    entry = plain = plain or event_entry(event, None)
                else:
                    entry = with_prev = with_prev or event_entry(
                        event, prev_kv_of(event, self._history)
                    )
                self.events_sent += len(watchers)
                full = deliver(watchers, (entry,), header, self._fragment_bytes, {})
                if full:
                    slow += full
        return slow

    def _show_many(self, events: Sequence[Event]) -> list[Watcher]:
        """A revision of several events: each watcher gets all it wants in one response (V4)."""
        slow: list[Watcher] = []
        wanted: dict[Group, list[int]] = {}
        for position, event in enumerate(events):
            for group in self._live.find(event.key):
                wanted.setdefault(group, []).append(position)
        if not wanted:
            return slow
        header = self._header(self.revision)
        encoded = EncodedEvents(events, self._history)
        for group, positions in wanted.items():
            for kind, watchers in group.by_kind.items():
                entries = encoded.select(positions, kind)
                if entries:
                    self.events_sent += len(entries) * len(watchers)
                    slow += deliver(watchers, entries, header, self._fragment_bytes, {}) or ()
        return slow

    def _settle_head(self) -> bool:
        """Take out the longest waiting watcher if it needs no reading of history."""
        ready = self._catch_up.ready
        if not ready:
            return False
        watcher = next(iter(ready))
        if watcher.next_revision > self.revision:
            del ready[watcher]
            self._go_live(watcher)
            return True
        return self._ended_by_compaction(watcher)

    def _ended_by_compaction(self, watcher: Watcher) -> bool:
        if watcher.next_revision >= self._history.compact_revision:
            return False
        del self._catch_up.ready[watcher]
        self._cancel_compacted(watcher)
        return True

    def _serve(self, watcher: Watcher) -> int:
        if self._ended_by_compaction(watcher):
            return 1
        work, is_sent = self._catch_up.serve(watcher, lambda: self._header(self.revision))
        if not is_sent:
            del self._catch_up.ready[watcher]
            watcher.stream.parked[watcher] = None
        return work
