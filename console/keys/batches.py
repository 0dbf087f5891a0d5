"""Many changes in few transactions, each guarded and each with a result of its own.

A batch is written as a whole or not at all: only if every key in it still is as the plan saw it.
One that meets a conflict is left out and named, the others go on; a call that fails ends the run
(write_job.py), because whatever refused it would refuse the rest. No Django, no gRPC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from console.keys.txn import BYTES_MAX, OPS_MAX, Delete, Get, Put, Txn, TxnResult, unchanged


@dataclass(frozen=True, slots=True)
class Change:
    """One key to be put, or deleted when `value` is None. `base` is the mod_revision the plan saw,
    0 for a key that is to be new."""

    key: bytes
    base: int
    value: bytes | None
    lease: int = 0
    keeps_lease: bool = False

    @property
    def kind(self) -> str:
        if self.value is None:
            return "delete"
        return "change" if self.base else "create"

    @property
    def size_bytes(self) -> int:
        # The key stands in the guard, the operation and the read of a conflict.
        return 3 * len(self.key) + len(self.value or b"")


@dataclass(frozen=True, slots=True)
class BatchResult:
    """`state`: done, conflict (nothing of it was written), failed or unknown. `conflicts` are the
    keys that had changed."""

    number: int
    changes: int
    first: bytes
    last: bytes
    state: str
    revision: int = 0
    conflicts: tuple[bytes, ...] = ()
    detail: str = ""


def batched(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """At most OPS_MAX changes and BYTES_MAX bytes each; a larger change is alone."""
    batch: list[Change] = []
    size = 0
    for change in changes:
        if batch and (len(batch) == OPS_MAX or size + change.size_bytes > BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(change)
        size += change.size_bytes
    if batch:
        yield batch


def txn_of(batch: list[Change]) -> Txn:
    return Txn(
        tuple(unchanged(change.key, change.base) for change in batch),
        tuple(
            Delete(change.key)
            if change.value is None
            else Put(change.key, change.value, change.lease, change.keeps_lease)
            for change in batch
        ),
        tuple(Get(change.key, keys_only=True) for change in batch),
    )


def result_of(number: int, batch: list[Change], result: TxnResult) -> BatchResult:
    if result.succeeded:
        return _result(number, batch, "done", revision=result.revision)
    found = [answer.keys[0].mod_revision if answer.keys else 0 for answer in result.answers]
    conflicts = [c.key for c, mod in zip(batch, found, strict=True) if mod != c.base]
    return _result(number, batch, "conflict", revision=result.revision, conflicts=tuple(conflicts))


def failed(number: int, batch: list[Change], state: str, detail: str) -> BatchResult:
    return _result(number, batch, state, detail=detail)


def _result(
    number: int,
    batch: list[Change],
    state: str,
    revision: int = 0,
    conflicts: tuple[bytes, ...] = (),
    detail: str = "",
) -> BatchResult:
    first, last = batch[0].key, batch[-1].key
    return BatchResult(number, len(batch), first, last, state, revision, conflicts, detail)
