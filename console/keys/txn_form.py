"""A transaction as a form carries it: rows of text, and what is wrong with them. No Django."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from console.keys.byte_text import parse
from console.keys.decoders import submitted_bytes
from console.keys.draft import lease_error
from console.keys.paging import FROM_NUL, prefix_range
from console.keys.txn import SIGNS, TARGETS, Delete, Get, Guard, Operation, Put, Txn

INT64_MAX = 2**63 - 1
ROWS_MAX = 128
GET_LIMIT = 100
"""Keys that a get over a range shows."""

COMPARE_FIELDS = ("target", "key", "sign", "given")
OPERATION_FIELDS = ("op", "key", "span", "value", "lease")
SPANS = (("key", "this key"), ("prefix", "prefix"), ("from", "from it on"))
OPS = ("put", "get", "delete")


@dataclass(slots=True)
class Row:
    """One line of the form. `error` says why it cannot be read; `fields` are as typed."""

    fields: dict[str, str]
    error: str = ""

    @property
    def is_blank(self) -> bool:
        return not self.fields["key"]


@dataclass(slots=True)
class TxnForm:
    compares: list[Row] = field(default_factory=list)
    then: list[Row] = field(default_factory=list)
    otherwise: list[Row] = field(default_factory=list)

    @classmethod
    def from_lists(cls, values: Callable[[str], list[str]]) -> TxnForm:
        """`values(name)`: every value of a field, in the order of the rows."""

        def rows(prefix: str, names: tuple[str, ...]) -> list[Row]:
            columns = [values(f"{prefix}_{name}")[:ROWS_MAX] for name in names]
            return [Row(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=False)]

        return cls(
            rows("if", COMPARE_FIELDS),
            rows("then", OPERATION_FIELDS),
            rows("else", OPERATION_FIELDS),
        )

    @property
    def rows(self) -> list[Row]:
        return self.compares + self.then + self.otherwise

    @property
    def has_errors(self) -> bool:
        return any(row.error for row in self.rows)

    def with_blanks(self) -> TxnForm:
        """What was typed, and a line to type in, in each part."""
        compare = {"target": "mod", "key": "", "sign": "=", "given": ""}
        operation = {"op": "put", "key": "", "span": "key", "value": "", "lease": ""}
        return TxnForm(
            [*_typed(self.compares), Row(dict(compare))],
            [*_typed(self.then), Row(dict(operation))],
            [*_typed(self.otherwise), Row(dict(operation))],
        )

    def txn(self) -> Txn:
        """What it means; lines that mean nothing get their error and are left out."""
        guards = [_read(row, _guard) for row in _typed(self.compares)]
        then, otherwise = (
            [_read(row, _operation) for row in _typed(rows)] for rows in (self.then, self.otherwise)
        )
        return Txn(_all(guards), _all(then), _all(otherwise))


def _typed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.is_blank]


def _all(found: list[object]) -> tuple:  # type: ignore[type-arg]
    return tuple(one for one in found if one is not None)


def _read(row: Row, meaning: Callable[[dict[str, str]], object]) -> object:
    try:
        return meaning(row.fields)
    except ValueError as error:
        row.error = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return None


def _guard(fields: dict[str, str]) -> Guard:
    target, sign, text = fields["target"], fields["sign"], fields["given"].strip()
    if target not in TARGETS or sign not in SIGNS:
        raise ValueError("there is no such comparison")
    key = parse(fields["key"])
    if target == "value":
        return Guard(key, target, sign, submitted_bytes(fields["given"]))
    if target == "lease":
        if text not in {"", "0"} and (why := lease_error(text)):
            raise ValueError(why.rstrip("."))
        return Guard(key, target, sign, int(text or "0", 16))
    if not text.isascii() or not text.isdecimal() or int(text) > INT64_MAX:
        raise ValueError(f"{target} is compared with a whole number")
    return Guard(key, target, sign, int(text))


def _operation(fields: dict[str, str]) -> Operation:
    key, span = parse(fields["key"]), fields["span"]
    if fields["op"] == "put":
        if span != "key":
            raise ValueError("a put writes one key")
        return _put(key, fields)
    end = {"prefix": prefix_range(key).end, "from": FROM_NUL}.get(span, b"")
    if fields["op"] == "delete":
        return Delete(key, end)
    if fields["op"] == "get":
        return Get(key, end, limit=GET_LIMIT if end else 0)
    raise ValueError("there is no such operation")


def _put(key: bytes, fields: dict[str, str]) -> Put:
    value, lease = submitted_bytes(fields["value"]), fields["lease"].strip()
    if lease == "keep":
        return Put(key, value, keeps_lease=True)
    if lease and (why := lease_error(lease)):
        raise ValueError(f"{why.rstrip('.')}, or the word keep")
    return Put(key, value, int(lease, 16) if lease else 0)
