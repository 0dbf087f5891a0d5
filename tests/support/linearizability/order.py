"""Real time against revisions: what needs no store to be seen as wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from tests.support.linearizability.history import NEVER, Operation, Violation


def order_violations(operations: Sequence[Operation], start: int) -> Iterator[Violation]:
    """`start`: the revision before the first operation."""
    shown = [each for each in operations if each.revision]
    yield from _twice(shown)
    writes = [each for each in shown if each.has_changed]
    strict = [each for each in shown if not each.is_local]
    for each in strict:
        if each.revision - each.has_changed < start:
            text = f"revision {each.revision} was answered, but {start} was there before"
            yield Violation("order", text, (each,))
    local = [each for each in shown if each.is_local]
    yield from _backwards(strict, strict)
    yield from _future(local, writes)
    by_member = defaultdict(list)
    for each in local:
        by_member[each.member].append(each)
    for reads in by_member.values():
        for violation in _backwards(reads, reads):
            text = f"a local read went back on one member; {violation.text}"
            yield Violation("local", text, violation.operations)


def _twice(operations: Iterable[Operation]) -> Iterator[Violation]:
    made: dict[int, Operation] = {}
    for each in operations:
        if not each.has_changed:
            continue
        other = made.setdefault(each.revision, each)
        if other is not each:
            text = f"revision {each.revision} was acknowledged to two writes"
            yield Violation("order", text, (other, each))


def _backwards(before: Sequence[Operation], after: Sequence[Operation]) -> Iterator[Violation]:
    """Calls whose place is lower than that of one complete before they were sent."""
    for highest, each in _with_highest_before(before, after):
        is_after = each.place > highest.place
        if not is_after and (each.place < highest.place or each.has_changed):
            text = (
                f"revision {each.revision} was answered to a call sent after "
                f"revision {highest.revision} had been seen"
            )
            yield Violation("order", text, (highest, each))


def _future(reads: Sequence[Operation], writes: Sequence[Operation]) -> Iterator[Violation]:
    """Local reads that show what was only asked for after they were complete."""
    for highest, write in _with_highest_before(reads, writes):
        if highest.revision >= write.revision:
            text = f"revision {highest.revision} was read before the write of it was sent"
            yield Violation("order", text, (highest, write))


def _with_highest_before(
    before: Sequence[Operation], after: Sequence[Operation]
) -> Iterator[tuple[Operation, Operation]]:
    """Each of `after` with the one of highest place among those complete before it was sent."""
    complete = sorted(
        (each for each in before if each.completed is not None),
        key=lambda each: each.completed or 0,
    )
    highest: Operation | None = None
    position = 0
    for each in sorted(after, key=lambda each: each.invoked):
        while position < len(complete) and (complete[position].completed or 0) < each.invoked:
            candidate = complete[position]
            position += 1
            if highest is None or candidate.place > highest.place:
                highest = candidate
        if highest is not None:
            yield highest, each


class Bounds:
    """For each revision, by when somebody had seen it: who made it was sent until then."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._seen: dict[int, float] = {}
        for each in operations:
            if each.revision and each.completed is not None:
                # A write shows the revision before its own; everybody else the one they name.
                shown = each.revision - 1 if each.has_changed else each.revision
                self._seen[shown] = min(self._seen.get(shown, NEVER), each.completed)
        earliest = NEVER
        for revision in range(max(self._seen, default=0), -1, -1):
            earliest = self._seen[revision] = min(earliest, self._seen.get(revision, NEVER))

    def allow(self, operation: Operation, revision: int) -> bool:
        """An acknowledged revoke may be what made the revision it names, and no other."""
        if operation.revision:
            return operation.revision == revision
        return operation.invoked <= self.seen_by(revision)

    def seen_by(self, revision: int) -> float:
        """By then the revision was there: the first answer that shows it or a later one."""
        return self._seen.get(revision, NEVER)
