"""Plans applied: batch after batch, each with its row in the audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from console.audit.record import Outcome, etcdctl_for, recorded
from console.equivalent import Command
from console.gateway import ClusterError, FateUnknown
from console.keys.batches import BatchResult, Change, failed, result_of, run, txn_of

COMMAND_OPS_MAX = 8
"""Operations of a batch that its equivalent command spells out."""


@dataclass(frozen=True, slots=True)
class Applied:
    results: list[BatchResult]

    @property
    def written(self) -> int:
        return sum(result.changes for result in self.results if result.state == "done")

    @property
    def states(self) -> dict[str, int]:
        return dict(Counter(result.state for result in self.results))

    @property
    def is_whole(self) -> bool:
        return set(self.states) <= {"done"}


def write_batches(
    request: HttpRequest, action: str, target: str, changes: Iterable[Change]
) -> Applied:
    def write(number: int, batch: list[Change]) -> BatchResult:
        said = f"{target} · batch {number}, {len(batch)} key{'s' if len(batch) > 1 else ''}"
        command = command_of(request, batch)
        try:
            with recorded(request, action, said, command=command) as row:
                result = result_of(number, batch, request.gateway.txn(txn_of(batch)))
                row.outcome = Outcome.DONE if result.state == "done" else Outcome.CONFLICT
                row.revision_after = result.revision
                return result
        except ClusterError as error:
            state = "unknown" if isinstance(error, FateUnknown) else "failed"
            return failed(number, batch, state, f"{error.code}: {error.message}")

    return Applied(run(changes, write))


def command_of(request: HttpRequest, batch: list[Change]) -> Command:
    """A batch as a command, cut where nobody would read it."""
    tool = etcdctl_for(request.cluster)
    if len(batch) <= COMMAND_OPS_MAX:
        return tool.txn(txn_of(batch))
    first = tool.txn(txn_of(batch[:COMMAND_OPS_MAX]))
    text = f"# the first {COMMAND_OPS_MAX} of {len(batch)} keys; all are one txn\n{first}"
    return Command(text, first.calls, first.endpoint, first.user)


def results_context(applied: Applied) -> dict[str, Any]:
    return {"applied": applied, "results": applied.results}
