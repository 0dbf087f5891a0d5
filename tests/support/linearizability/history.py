"""Calls and answers as values, and what an answer says about its place among the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvserver.proto import kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.watch_checks import Truth

NEVER = float("inf")
WRITES = (rpc.PutRequest, rpc.DeleteRangeRequest, rpc.TxnRequest)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One call. Without `response` its outcome is unknown unless it `is_refused`."""

    client: str
    member: str
    request: Any
    invoked: float
    completed: float | None = None
    response: Any = None
    is_refused: bool = False

    @property
    def is_acknowledged(self) -> bool:
        return self.response is not None

    @property
    def is_unknown(self) -> bool:
        return self.response is None and not self.is_refused

    @property
    def revision(self) -> int:
        """Of the answer's header; 0 when there is none."""
        return int(self.response.header.revision) if self.is_acknowledged else 0

    @property
    def has_changed(self) -> bool:
        """The answer says that this call made the revision of its header (M3, M8)."""
        return self.is_acknowledged and _has_changed(self.response)

    @property
    def place(self) -> int:
        """Twice the revision for the write that made it, one more for who saw it."""
        return 2 * self.revision + (not self.has_changed)

    @property
    def is_local(self) -> bool:
        """Answered from one member's own state, which may be old (R12, T7)."""
        return is_local(self.request)

    def __str__(self) -> str:
        until = "        ?" if self.completed is None else f"{self.completed:9.3f}"
        return (
            f"[{self.invoked:9.3f} {until}] {self.client} @{self.member} "
            f"{_brief_request(self.request)} -> {self._brief_outcome()}"
        )

    def _brief_outcome(self) -> str:
        if self.is_refused:
            return "refused"
        return _brief_answer(self.response) if self.is_acknowledged else "unknown"


@dataclass(frozen=True, slots=True)
class Start:
    """The store before the first operation."""

    revision: int = 1
    kvs: Sequence[kv_pb2.KeyValue] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that no order of the calls explains; `operations` in the order of their sending."""

    kind: str
    text: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        calls = sorted(self.operations, key=lambda operation: operation.invoked)
        return "\n".join([f"{self.kind}: {self.text}", *(f"    {call}" for call in calls)])


@dataclass(slots=True)
class Report:
    """What `check` found. `events` is the log that explains the history, as far as there is one."""

    operations: int
    violations: list[Violation] = field(default_factory=list)
    events: Truth = field(default_factory=dict)
    is_undecided: bool = False
    unknown_that_happened: int = 0

    @property
    def is_linearizable(self) -> bool:
        return not self.violations and not self.is_undecided

    def __str__(self) -> str:
        lines = [f"{self.operations} operations, {len(self.violations)} violations"]
        if self.is_undecided:
            lines.append("undecided: the search was given up")
        return "\n".join([*lines, *(str(violation) for violation in self.violations)])


def is_local(request: Any) -> bool:
    if isinstance(request, rpc.RangeRequest):
        return bool(request.serializable)
    if isinstance(request, rpc.TxnRequest):
        ops = [*request.success, *request.failure]
        return all(
            op.WhichOneof("request") == "request_range" and op.request_range.serializable
            for op in ops
        )
    through_the_log = (rpc.LeaseRevokeRequest, rpc.LeaseGrantRequest, rpc.CompactionRequest)
    return not isinstance(request, (*WRITES, *through_the_log))


def _has_changed(response: Any) -> bool:
    if isinstance(response, rpc.PutResponse):
        return True
    if isinstance(response, rpc.DeleteRangeResponse):
        return response.deleted > 0
    if isinstance(response, rpc.TxnResponse):
        return any(_has_changed(answer) for answer in parts(response))
    return False


def parts(response: rpc.TxnResponse) -> Iterator[Any]:
    """The answers of a txn's operations, in order."""
    for each in response.responses:
        yield getattr(each, each.WhichOneof("response"))


def kvs_shown(response: Any) -> Iterator[kv_pb2.KeyValue]:
    """Every whole pair that an answer shows, each with the revision that made it.

    A txn shows its own puts to its own reads; those pairs have the revision of the txn.
    """
    if isinstance(response, rpc.RangeResponse):
        yield from response.kvs
    elif isinstance(response, rpc.PutResponse) and response.HasField("prev_kv"):
        yield response.prev_kv
    elif isinstance(response, rpc.DeleteRangeResponse):
        yield from response.prev_kvs
    elif isinstance(response, rpc.TxnResponse):
        for answer in parts(response):
            yield from kvs_shown(answer)


def _brief_request(request: Any) -> str:
    name = type(request).__name__.removesuffix("Request")
    if isinstance(request, rpc.TxnRequest):
        compares = ", ".join(_brief_fields(compare) for compare in request.compare)
        then, otherwise = _ops(request.success), _ops(request.failure)
        return f"Txn(if {compares or 'true'} then {then} else {otherwise})"
    return f"{name}({_brief_fields(request)})"


def _ops(ops: Iterable[rpc.RequestOp]) -> str:
    return (
        "["
        + ", ".join(_brief_request(getattr(op, str(op.WhichOneof("request")))) for op in ops)
        + "]"
    )


def _brief_fields(message: Any) -> str:
    return " ".join(f"{each.name}={value!r}" for each, value in message.ListFields())


def _brief_answer(response: Any) -> str:
    text = f"revision {response.header.revision}"
    if isinstance(response, rpc.TxnResponse):
        text += " succeeded" if response.succeeded else " failed"
    pairs = [f"{kv.key!r}={kv.value!r}@{kv.mod_revision}" for kv in kvs_shown(response)]
    return text + (f" [{', '.join(pairs)}]" if pairs else "")
