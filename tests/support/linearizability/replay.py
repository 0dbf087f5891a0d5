"""With the true log: each call judged by itself, and each revision traced to a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.support.linearizability.compare import (
    answer_fault,
    brief,
    can_store,
    is_candidate,
    is_judged,
    may_store,
    same_changes,
    witnesses,
)
from tests.support.linearizability.history import Operation, Start, Violation
from tests.support.linearizability.order import Bounds
from tests.support.linearizability.timeline import Timeline, as_records
from tests.support.watch_checks import Truth


class Replay:
    """One history against one log. `violations` may be iterated once."""

    def __init__(self, operations: Sequence[Operation], start: Start, events: Truth) -> None:
        self.operations = operations
        self.start = start
        self.timeline = Timeline(start)
        self.events = {revision: as_records(events[revision]) for revision in sorted(events)}
        self.makers = {each.revision: each for each in operations if each.has_changed}
        """By the revision each made: acknowledged ones, and what is traced later."""
        self.unknown_that_happened = 0

    def violations(self) -> Iterator[Violation]:
        yield from self._read_log()
        for operation in self.operations:
            if is_judged(operation):
                yield from self._judge(operation)
        yield from self._trace()

    def _read_log(self) -> Iterator[Violation]:
        for revision, records in self.events.items():
            if revision <= self.start.revision:
                continue
            if revision != self.timeline.revision + 1 or not records:
                text = f"the log goes from revision {self.timeline.revision} to {revision}"
                yield Violation("replay", text)
                return
            self.timeline.append(records)

    def _judge(self, operation: Operation) -> Iterator[Violation]:
        revision, last = operation.revision, self.timeline.revision
        if revision > last:
            what = "a write was lost" if operation.has_changed else "a read from nowhere"
            text = f"{what}: revision {revision} is beyond the log's end, {last}"
            yield Violation("replay", text, (operation,))
            return
        if revision - operation.has_changed < self.start.revision:
            return  # A member that lagged at the start: what it had then is not known here.
        fault, records = answer_fault(self.timeline, operation)
        if fault:
            involved = witnesses(operation, self.timeline, self.makers)
            yield Violation("replay", f"a wrong answer: {fault}", involved)
        elif operation.has_changed and not same_changes(records, self.events[revision]):
            text = (
                f"an acknowledged write is not in the log: revision {revision} should be "
                f"{brief(records)} and is {brief(self.events[revision])}"
            )
            yield Violation("replay", text, (operation,))

    def _trace(self) -> Iterator[Violation]:
        """Every other revision to a call of its own: a matching, grown by augmenting paths."""
        bounds = Bounds(self.operations)
        usable = [each for each in self.operations if is_candidate(each)]
        candidates: dict[int, list[Operation]] = defaultdict(list)
        first = self.start.revision + 1
        gaps = [r for r in range(first, self.timeline.revision + 1) if r not in self.makers]
        for revision in gaps:
            for each in usable:
                if bounds.allow(each, revision) and self._made(each, revision):
                    candidates[revision].append(each)
        taken: dict[Operation, int] = {}
        for revision in gaps:
            if not _assign(revision, candidates, taken, set()):
                yield self._orphan(revision, usable, bounds)
        self.makers.update({revision: each for each, revision in taken.items()})
        self.unknown_that_happened = sum(each.is_unknown for each in taken)

    def _made(self, operation: Operation, revision: int) -> bool:
        records = self.events[revision]
        if not may_store(operation.request, records):
            return False
        effect = self.timeline.effect(operation.request, revision - 1)
        return not isinstance(effect, str) and same_changes(effect.records, records)

    def _orphan(self, revision: int, usable: Sequence[Operation], bounds: Bounds) -> Violation:
        records = self.events[revision]
        alike = [
            each
            for each in self.operations
            if can_store(each.request) and may_store(each.request, records)
        ]
        text = f"no call of its own made revision {revision}: {brief(records)}"
        if any(each.is_refused for each in alike):
            text += "; a refused one would have"
        elif any(each in usable and not bounds.allow(each, revision) for each in alike):
            text += "; it was seen before it was sent"
        elif alike:
            text += "; applied twice?"
        return Violation("origin", text, tuple(alike))


def _assign(
    revision: int,
    candidates: dict[int, list[Operation]],
    taken: dict[Operation, int],
    tried: set[Operation],
) -> bool:
    for each in candidates[revision]:
        if each in tried:
            continue
        tried.add(each)
        if each not in taken or _assign(taken[each], candidates, taken, tried):
            taken[each] = revision
            return True
    return False
