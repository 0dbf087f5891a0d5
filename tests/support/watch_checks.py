"""The watch guarantees, checked on what a client received (spec/watch.md §2, §3, W12).

ordered      revisions never go back
unique       no event comes twice
atomic       the events of one revision come in one response (or its fragments)
reliable     no wanted event is missing
resumable    a watch begun at last revision + 1 goes on without gap or repeat
bookmarkable a progress response of revision P comes after every event <= P and before all others
prev_kv      the key's state one revision earlier, missing only for creations or when compacted
filters      no event of a filtered kind

The truth is a plain history: for each revision its events in order, `prev_kv` filled for all that
had one. It may come from a model, or from a reference client that watched everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kvserver.proto import kv_pb2, rpc_pb2

NUL = b"\x00"
Truth = Mapping[int, Sequence[kv_pb2.Event]]


@dataclass(frozen=True, slots=True)
class Interest:
    """What one watcher asked for; `first_revision` is the first it is to hear of."""

    key: bytes
    end: bytes
    first_revision: int
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False

    @classmethod
    def of(cls, request: rpc_pb2.WatchCreateRequest, revision: int) -> Interest:
        """From a create request and the header revision of its answer."""
        filters = rpc_pb2.WatchCreateRequest
        return cls(
            key=request.key or NUL,
            end=request.range_end,
            first_revision=request.start_revision or revision + 1,
            prev_kv=request.prev_kv,
            no_put=filters.NOPUT in request.filters,
            no_delete=filters.NODELETE in request.filters,
        )

    def wants(self, event: kv_pb2.Event) -> bool:
        key = event.kv.key
        if not self.end:
            is_inside = key == self.key
        else:
            is_inside = self.key <= key and (self.end == NUL or key < self.end)
        is_filtered = self.no_delete if event.type == kv_pb2.Event.DELETE else self.no_put
        return is_inside and not is_filtered


@dataclass(slots=True)
class WatcherLog:
    """What one watcher was sent, in order, and the faults found in it."""

    interest: Interest
    events: list[kv_pb2.Event] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    compact_revision: int = 0
    """Not 0: the watcher was ended by a compaction."""
    is_over: bool = False
    last_revision: int = 0
    """Of the newest event."""
    bookmark: int = 0
    """The newest progress: nothing up to it may follow."""
    progress_seen: list[int] = field(default_factory=list)
    _pieces: list[kv_pb2.Event] = field(default_factory=list)

    def add(self, response: rpc_pb2.WatchResponse) -> None:
        if self.is_over and not (response.canceled and not response.events):
            self.faults.append(f"a response after the watcher's end: {response}")
        if response.canceled:
            self.is_over = True
            self.compact_revision = self.compact_revision or response.compact_revision
            if response.compact_revision and response.header.revision != 0:
                self.faults.append("a compaction cancel whose header has a revision (D3)")
        elif response.fragment or self._pieces:
            self._pieces.extend(response.events)
            if not response.fragment:
                pieces, self._pieces = self._pieces, []
                self._add_events(pieces, response.header.revision)
        elif response.events:
            self._add_events(response.events, response.header.revision)
        else:
            self.add_progress(response.header.revision)

    def add_progress(self, revision: int) -> None:
        if self._pieces:
            self.faults.append("progress between the fragments of one response (D6)")
        self.progress_seen.append(revision)
        self.bookmark = max(self.bookmark, revision)

    def _add_events(self, events: Iterable[kv_pb2.Event], header_revision: int) -> None:
        events = list(events)
        first, last = events[0].kv.mod_revision, events[-1].kv.mod_revision
        if first <= self.last_revision:
            self.faults.append(f"revision {first} after {self.last_revision}: not ordered or split")
        if first <= self.bookmark:
            self.faults.append(f"revision {first} after progress {self.bookmark} (W12)")
        if header_revision < last:
            self.faults.append(f"header revision {header_revision} before event {last} (V5)")
        self.last_revision = last
        self.events.extend(events)

    def check(self, truth: Truth, compacted: int = -1, complete_to: int | None = None) -> list[str]:
        """All faults. Up to the newest event or progress nothing may be missing, nor up to
        `complete_to` unless the watcher ended; previous values before `compacted` may be."""
        known_to = max(self.last_revision, self.bookmark)
        if complete_to is not None and not self.is_over:
            known_to = max(known_to, complete_to)
        first = self.interest.first_revision
        expected = [
            event
            for revision in sorted(truth)
            if first <= revision <= known_to
            for event in truth[revision]
            if self.interest.wants(event)
        ]
        faults = list(self.faults)
        if [_plain(e) for e in self.events] != [_plain(e) for e in expected]:
            faults.append(
                f"{self.interest}: got {_brief(self.events)}, expected {_brief(expected)}"
            )
            return faults
        for got, want in zip(self.events, expected, strict=True):
            fault = _prev_fault(got, want, self.interest.prev_kv, compacted)
            if fault:
                faults.append(fault)
        return faults


def _prev_fault(
    got: kv_pb2.Event, want: kv_pb2.Event, is_asked: bool, compacted: int
) -> str | None:
    revision = want.kv.mod_revision
    if not got.HasField("prev_kv"):
        if is_asked and want.HasField("prev_kv") and revision - 1 >= compacted:
            return f"no prev_kv at revision {revision} (N1)"
    elif not is_asked:
        return f"a prev_kv nobody asked for at revision {revision}"
    elif got.prev_kv != want.prev_kv:
        return f"prev_kv of revision {revision} is {got.prev_kv}, not {want.prev_kv} (N1)"
    return None


def _plain(event: kv_pb2.Event) -> tuple[int, bytes]:
    return event.type, event.kv.SerializeToString(deterministic=True)


def _brief(events: Iterable[kv_pb2.Event]) -> list[tuple[int, bytes, str]]:
    return [(e.kv.mod_revision, e.kv.key, kv_pb2.Event.EventType.Name(e.type)) for e in events]


class StreamLog:
    """Everything one stream answered, sorted by watcher."""

    def __init__(self) -> None:
        self.watchers: list[WatcherLog] = []
        """In the order of their creation."""
        self.refusals: list[str] = []
        self.faults: list[str] = []
        self._open: dict[int, WatcherLog] = {}
        self._requests: list[rpc_pb2.WatchCreateRequest] = []

    def asked(self, request: rpc_pb2.WatchCreateRequest) -> None:
        """A create was sent; the answers come in the same order (W4)."""
        self._requests.append(request)

    def add(self, response: rpc_pb2.WatchResponse) -> None:
        if response.created:
            self._add_created(response)
        elif response.watch_id == -1 and not response.events and not response.canceled:
            for log in self._open.values():
                if not log.is_over:
                    log.add_progress(response.header.revision)
        elif response.watch_id in self._open:
            self._open[response.watch_id].add(response)
        else:
            self.faults.append(f"a response for a watcher nobody made: {response}")

    def _add_created(self, response: rpc_pb2.WatchResponse) -> None:
        if not self._requests:
            self.faults.append("a created response nobody asked for")
            return
        request = self._requests.pop(0)
        if response.canceled:
            self.refusals.append(response.cancel_reason)
            return
        if response.events:
            self.faults.append("events in a created response (W4)")
        log = WatcherLog(Interest.of(request, response.header.revision))
        self.watchers.append(log)
        self._open[response.watch_id] = log

    def check(self, truth: Truth, compacted: int = -1, complete_to: int | None = None) -> list[str]:
        faults = list(self.faults)
        for log in self.watchers:
            faults.extend(log.check(truth, compacted, complete_to))
        return faults


def check_resumed(parts: Sequence[WatcherLog], truth: Truth, complete_to: int) -> list[str]:
    """Watches that each went on where the one before stopped are as good as one (resumable)."""
    whole = WatcherLog(parts[0].interest)
    for part in parts:
        if part.interest.first_revision <= max(whole.last_revision, whole.bookmark) - 1:
            whole.faults.append("a watch resumed before its bookmark")
        whole.events.extend(part.events)
        whole.last_revision = max(whole.last_revision, part.last_revision)
        whole.bookmark = max(whole.bookmark, part.bookmark)
        whole.faults.extend(part.faults)
    return whole.check(truth, complete_to=complete_to)
