"""Without the true log: a log is sought that explains every answer.

Acknowledged writes stand at the revisions of their headers. Each revision between them is tried
with every call of unknown outcome that fits: sent before anybody saw that revision, not used yet,
and storing what later answers show of that revision. After each revision all who saw it are asked.
A dead end goes back to the last choice; a state that was reached before by the same calls is not
tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kvserver.proto import kv_pb2
from tests.support.linearizability.compare import (
    answer_fault,
    is_candidate,
    is_judged,
    witnesses,
)
from tests.support.linearizability.history import Operation, Start, Violation, kvs_shown
from tests.support.linearizability.order import Bounds
from tests.support.linearizability.timeline import Records, Timeline, as_events


class GivenUp(Exception):
    """More trials than allowed."""


@dataclass(slots=True)
class _Choice:
    """Who may have made the revision after `revision`; `chosen` is being tried."""

    revision: int
    left: list[tuple[Operation, Records]]
    chosen: Operation | None = None


class Search:
    """One history. `violation` is None when a log was found: it is in `timeline` then."""

    def __init__(self, operations: Sequence[Operation], start: Start, steps_max: int) -> None:
        self.timeline = Timeline(start)
        self.makers = {each.revision: each for each in operations if each.has_changed}
        self.start = start
        self._acknowledged = dict(self.makers)
        self._last = max((each.revision for each in operations), default=start.revision)
        self._seen_by: dict[int, list[Operation]] = defaultdict(list)
        for each in operations:
            if is_judged(each) and not each.has_changed:
                self._seen_by[each.revision].append(each)
        self._usable = sorted(
            (each for each in operations if is_candidate(each)), key=lambda each: each.invoked
        )
        self._bounds = Bounds(operations)
        self._shown: dict[int, dict[bytes, kv_pb2.KeyValue]] = defaultdict(dict)
        for each in operations:
            if each.is_acknowledged:
                for kv in kvs_shown(each.response):
                    self._shown[kv.mod_revision].setdefault(kv.key, kv)
        self._used: set[Operation] = set()
        self._choices: list[_Choice] = []
        self._visited: set[object] = set()
        self._steps_left = steps_max
        self._deepest: tuple[int, Violation] = (-1, Violation("origin", "nothing"))

    @property
    def unknown_that_happened(self) -> int:
        return sum(each.is_unknown for each in self._used)

    def events(self) -> dict[int, list[kv_pb2.Event]]:
        first = self.start.revision + 1
        everything: dict[int, Records] = {r: [] for r in range(first, self.timeline.revision + 1)}
        for record in self.timeline.records_of([(b"\0", b"\0")], self._last, all_of=True):
            if record.main >= first:
                everything[record.main].append(record)
        return {revision: as_events(records) for revision, records in everything.items()}

    def violation(self) -> Violation | None:
        """Raises GivenUp."""
        if not self._all_agree() and not self._go_back():
            return self._deepest[1]
        while self.timeline.revision < self._last:
            if not self._go_on() and not self._go_back():
                return self._deepest[1]
        return None

    def _go_on(self) -> bool:
        """One revision further; False at a dead end."""
        revision = self.timeline.revision + 1
        known = self._acknowledged.get(revision)
        if known is None:
            self._choices.append(_Choice(revision - 1, self._candidates(revision)))
            return self._try_next()
        self._count()
        fault, records = answer_fault(self.timeline, known)
        if fault:
            self._note(known, fault)
            return False
        self.timeline.append(records)
        return self._all_agree()

    def _go_back(self) -> bool:
        """To the last choice that has something left; False when there is none."""
        while self._choices:
            choice = self._choices[-1]
            self.timeline.cut(choice.revision)
            if choice.chosen is not None:
                self._used.discard(choice.chosen)
                self.makers.pop(choice.revision + 1, None)
                choice.chosen = None
            if not choice.left:
                self._choices.pop()
            elif self._try_next():
                return True
        return False

    def _try_next(self) -> bool:
        choice = self._choices[-1]
        if not choice.left:
            text = f"no call fits revision {choice.revision + 1}"
            self._note_violation(Violation("origin", text, self._around(choice.revision + 1)))
            return False
        operation, records = choice.left.pop(0)
        choice.chosen = operation
        self._used.add(operation)
        self.makers[choice.revision + 1] = operation
        self.timeline.append(records)
        return self._all_agree()

    def _candidates(self, revision: int) -> list[tuple[Operation, Records]]:
        configuration = (revision, frozenset(self._used), self.timeline.live_now())
        if configuration in self._visited:
            return []
        self._visited.add(configuration)
        found: list[tuple[Operation, Records]] = []
        alike: set[tuple[type, bytes]] = set()
        for each in self._usable:
            if each in self._used or not self._bounds.allow(each, revision):
                continue
            # Of calls that ask the same, any may be taken: each fits all later revisions too.
            request = (type(each.request), each.request.SerializeToString(deterministic=True))
            if each.is_unknown and request in alike:
                continue
            records = self._fitting(each, revision)
            if records:
                alike.add(request)
                found.append((each, records))
        return found

    def _fitting(self, operation: Operation, revision: int) -> Records:
        """What it would store at `revision`; nothing when that is not what was shown of it."""
        shown = self._shown.get(revision, {})
        self._count()
        effect = self.timeline.effect(operation.request, revision - 1)
        if isinstance(effect, str):
            return []
        stored = {record.key: record.kv for record in effect.records}
        return effect.records if all(stored.get(k) == kv for k, kv in shown.items()) else []

    def _all_agree(self) -> bool:
        """With the newest revision: all who saw it."""
        for each in self._seen_by.get(self.timeline.revision, ()):
            self._count()
            fault, _ = answer_fault(self.timeline, each)
            if fault:
                self._note(each, fault)
                return False
        return True

    def _count(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise GivenUp

    def _note(self, operation: Operation, fault: str) -> None:
        involved = witnesses(operation, self.timeline, self.makers)
        self._note_violation(Violation("replay", f"a wrong answer: {fault}", involved))

    def _note_violation(self, violation: Violation) -> None:
        """What stopped the attempt that came furthest is what is told in the end."""
        if self.timeline.revision > self._deepest[0]:
            self._deepest = (self.timeline.revision, violation)

    def _around(self, revision: int) -> tuple[Operation, ...]:
        """Whose answers show that there was such a revision: the nearest ones."""
        above = [each for each in self._acknowledged.values() if each.revision > revision]
        for seen in self._seen_by.values():
            above.extend(each for each in seen if each.revision >= revision)
        below = [each for each in self._acknowledged.values() if each.revision < revision]
        nearest_below = sorted(below, key=lambda each: each.revision)[-1:]
        return (*nearest_below, *sorted(above, key=lambda each: each.revision)[:2])
