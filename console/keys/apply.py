"""Plans applied: one batch at a time, each with its row in the audit log."""

from __future__ import annotations

from typing import Any

from console.audit.record import Outcome, etcdctl_for, recorded
from console.equivalent import Command
from console.gateway import ClusterError, FateUnknown, Writer
from console.keys.batches import BatchResult, Change, failed, result_of, txn_of
from console.models import Cluster

COMMAND_OPS_MAX = 8
"""Operations of a batch that its equivalent command spells out."""


def write_batch(
    actor: Any, writer: Writer, action: str, target: str, number: int, batch: list[Change]
) -> BatchResult:
    """`actor`: the request, or what stands for it in a job."""
    said = f"{target} · batch {number}, {len(batch)} key{'s' if len(batch) > 1 else ''}"
    command = command_of(actor.cluster, batch, len(batch))
    try:
        with recorded(actor, action, said, command=command) as row:
            result = result_of(number, batch, writer.txn(txn_of(batch)))
            row.outcome = Outcome.DONE if result.state == "done" else Outcome.CONFLICT
            row.revision_after = result.revision
            return result
    except ClusterError as error:
        state = "unknown" if isinstance(error, FateUnknown) else "failed"
        return failed(number, batch, state, f"{error.code}: {error.message}")


def command_of(cluster: Cluster, batch: list[Change], count: int) -> Command:
    """A batch as a command, cut where nobody would read it. `count`: how many it has, where not
    all are at hand."""
    tool = etcdctl_for(cluster)
    if len(batch) == count <= COMMAND_OPS_MAX:
        return tool.txn(txn_of(batch))
    shown = batch[:COMMAND_OPS_MAX]
    first = tool.txn(txn_of(shown))
    text = f"# the first {len(shown)} of {count} keys; all are one txn\n{first}"
    return Command(text, first.calls, first.endpoint, first.user)
