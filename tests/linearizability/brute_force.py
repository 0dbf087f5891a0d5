"""Linearizability by its definition: some order of the calls, tried one by one.

For histories of a handful of calls. Shares nothing with the checker but the messages and the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any

from kvserver import errors
from kvserver.proto import rpc_pb2 as rpc
from tests.support.linearizability import Operation
from tests.support.linearizability.timeline import plain
from tests.support.model import Model


def is_explained(operations: Sequence[Operation]) -> bool:
    local = [each for each in operations if each.is_local and each.is_acknowledged]
    if not _local_reads_advance(local):
        return False
    strict = [each for each in operations if not each.is_local]
    certain = [each for each in strict if each.is_acknowledged]
    unknown = [each for each in strict if each.is_unknown]
    for count in range(len(unknown) + 1):
        for happened in combinations(unknown, count):
            if any(_explains(order, local) for order in _orders([*certain, *happened])):
                return True
    return False


def precedes(one: Operation, other: Operation) -> bool:
    return one.completed is not None and one.completed < other.invoked


def _orders(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    for order in permutations(operations):
        if not any(precedes(b, a) for i, a in enumerate(order) for b in order[i + 1 :]):
            yield order


def _local_reads_advance(local: Sequence[Operation]) -> bool:
    return not any(
        a.member == b.member and precedes(a, b) and a.revision > b.revision
        for a in local
        for b in local
    )


@dataclass(slots=True)
class Outcomes:
    """A store, and every call that was run on it with what it found."""

    model: Model = field(default_factory=Model)
    makers: list[Operation] = field(default_factory=list)

    def run(self, operation: Operation) -> bool:
        """Whether it answers what the history says."""
        try:
            answer = run(self.model, operation.request)
        except errors.RequestError:
            return not operation.is_acknowledged
        if len(self.makers) < self.model.revision - 1:
            self.makers.append(operation)
        if operation.is_unknown:
            return True
        is_same = plain(answer) == plain(operation.response)
        return is_same and operation.revision == self.model.revision


def _explains(order: Sequence[Operation], local: Sequence[Operation]) -> bool:
    outcomes = Outcomes()
    left = list(local)
    for operation in (None, *order):
        if operation is not None and not outcomes.run(operation):
            return False
        left = [read for read in left if not _is_shown_now(outcomes, read)]
    return not left


def _is_shown_now(outcomes: Outcomes, read: Operation) -> bool:
    if read.revision != outcomes.model.revision:
        return False
    if any(precedes(read, maker) for maker in outcomes.makers):
        return False
    return plain(run(outcomes.model, read.request)) == plain(read.response)


def run(model: Model, request: Any) -> Any:
    if isinstance(request, rpc.PutRequest):
        return model.put(request)
    if isinstance(request, rpc.DeleteRangeRequest):
        return model.delete_range(request)
    if isinstance(request, rpc.TxnRequest):
        return model.txn(request)
    return model.range_(request)
