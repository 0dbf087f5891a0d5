"""Transactions as values: what is compared, what is done then and else. No Django, no gRPC.

The same value is sent by the gateway, written as an etcdctl command and as a call of the JSON
gateway, so that what is shown is what happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from console.keys.paging import KeyRange, after

if TYPE_CHECKING:  # the gateway sends these values, and is not there yet when it asks for them
    from console.gateway.records import Key

OPS_MAX = 128
"""Of a transaction, on each side (spec/kv.md T2; --max-txn-ops)."""

BYTES_MAX = 1_000_000
"""Keys and values of a batch: well below --max-request-bytes (spec/kv.md L1)."""

TARGETS = ("mod", "create", "version", "lease", "value")
SIGNS = ("=", "!=", ">", "<")


@dataclass(frozen=True, slots=True)
class Guard:
    """`target(key) sign given`: holds for every key of `[key, end)` when there is an end
    (spec/kv.md C4). A value is bytes, the other targets are numbers."""

    key: bytes
    target: str
    sign: str
    given: int | bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Put:
    key: bytes
    value: bytes
    lease: int = 0
    keeps_lease: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Get:
    key: bytes
    end: bytes = b""
    limit: int = 0
    keys_only: bool = False


Operation = Put | Delete | Get


@dataclass(frozen=True, slots=True)
class Txn:
    guards: tuple[Guard, ...] = ()
    then: tuple[Operation, ...] = ()
    otherwise: tuple[Operation, ...] = ()

    @property
    def operations(self) -> tuple[Operation, ...]:
        return self.then + self.otherwise


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one operation: the keys a get found, of `count`; the number a delete deleted."""

    operation: Operation
    keys: tuple[Key, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True)
class TxnResult:
    succeeded: bool
    revision: int
    answers: tuple[Answer, ...]


def unchanged(key: bytes, mod_revision: int) -> Guard:
    """The key is as it was at `mod_revision`; 0: it does not exist (spec/kv.md C3)."""
    return Guard(key, "mod", "=", mod_revision)


def none_newer(keys: KeyRange, revision: int) -> Guard:
    """No key of the range was written after `revision`."""
    return Guard(keys.start, "mod", "<", revision + 1, keys.end)


def is_range(operation: Delete | Get | Guard) -> bool:
    return bool(operation.end) and operation.end != after(operation.key)


def danger(txn: Txn) -> int:
    """Its level on the danger ladder (console.md §5): by the worst it may do, whichever branch."""
    level = 0
    for operation in txn.operations:
        if isinstance(operation, Delete):
            level = max(level, 3 if is_range(operation) else 2)
        elif isinstance(operation, Put):
            level = max(level, 1)
    return level
