"""What transactions may be, and what kind they are (spec/kv.md §8.1 and §8.2, cases 25, 28, 31)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.errors import (
    DuplicateKey,
    EmptyKey,
    InvalidSortOption,
    KeyNotFound,
    LeaseProvided,
    TooManyOps,
    ValueProvided,
)
from kvserver.mvcc.txn_check import check_txn, txn_is_read_only, txn_is_serializable
from tests.mvcc.rig import Compare, Delete, Op, Put, Range, Txn, txn

MAX = 128
A = Range(key=b"a")


def put(key: bytes) -> Put:
    return Put(key=key)


def delete(key: bytes, end: bytes = b"") -> Delete:
    return Delete(key=key, range_end=end)


@pytest.mark.parametrize(
    "request_",
    [
        txn(*[A] * 128),
        txn(failure=(A,) * 128),
        txn(compare=[Compare(key=b"a")] * 128),
        txn(txn(*[A] * 127)),
        txn(A, txn(*[A] * 126)),
        txn(*[A] * 127, txn()),
        txn(A, txn(*[A] * 124), failure=(A,) * 4),
        txn(A, A, txn(*[A] * 124), txn(*[A] * 124)),
    ],
)
def test_just_few_enough_ops(request_: Txn) -> None:
    """Case 28, T1, T2: siblings do not share their budget; an empty child needs none."""
    check_txn(request_, MAX)


@pytest.mark.parametrize(
    "request_",
    [
        txn(*[A] * 129),
        txn(failure=(A,) * 129),
        txn(compare=[Compare(key=b"a")] * 129),
        txn(txn(*[A] * 128)),
        txn(*[A] * 127, txn(A)),
        txn(txn(A), failure=(A,) * 128),
        txn(txn(*[A] * 100, txn(*[A] * 27))),
    ],
)
def test_too_many_ops(request_: Txn) -> None:
    """Case 28, T1, T2."""
    with pytest.raises(TooManyOps):
        check_txn(request_, MAX)


def test_an_op_with_nothing_in_it() -> None:
    """Case 31, T3."""
    with pytest.raises(KeyNotFound):
        check_txn(Txn(success=[Op()]), MAX)


@pytest.mark.parametrize(
    ("op", "error"),
    [
        (Put(), EmptyKey),
        (Range(), EmptyKey),
        (Delete(), EmptyKey),
        (Range(key=b"a", sort_order=7), InvalidSortOption),
        (Put(key=b"a", value=b"x", ignore_value=True), ValueProvided),
        (Put(key=b"a", lease=1, ignore_lease=True), LeaseProvided),
        (txn(compare=[Compare()]), EmptyKey),
        (txn(failure=(Put(),)), EmptyKey),
    ],
)
def test_each_op_is_checked_in_both_branches(op: Any, error: type[Exception]) -> None:
    """T1, T5."""
    for request in (txn(op), txn(failure=(op,)), txn(txn(op))):
        with pytest.raises(error):
            check_txn(request, MAX)


def test_the_order_of_checks() -> None:
    """T1: compares, then success, then failure; duplicates only after all of that (T4)."""
    with pytest.raises(EmptyKey):
        check_txn(txn(Range(key=b"a", sort_order=9), compare=[Compare()]), MAX)
    with pytest.raises(InvalidSortOption):
        check_txn(txn(Range(key=b"a", sort_order=9), failure=(Put(),)), MAX)
    with pytest.raises(EmptyKey):
        check_txn(txn(put(b"a"), put(b"a"), failure=(Put(),)), MAX)
    with pytest.raises(TooManyOps):
        check_txn(txn(Put(), compare=[Compare()]), 0)


@pytest.mark.parametrize(
    "request_",
    [
        txn(put(b"a"), put(b"a")),
        txn(failure=(put(b"a"), put(b"a"))),
        txn(put(b"b"), delete(b"a", b"c")),
        txn(delete(b"a", b"c"), put(b"b")),
        txn(delete(b"b"), put(b"b")),
        txn(delete(b"a"), txn(put(b"a"))),
        txn(txn(put(b"a")), delete(b"a")),
        txn(put(b"a"), txn(delete(b"a"))),
        txn(txn(delete(b"a")), txn(put(b"a"))),
        txn(put(b"a"), txn(put(b"a"))),
        txn(txn(put(b"a")), txn(put(b"a"))),
        txn(txn(put(b"a")), txn(failure=(put(b"a"),))),
        txn(txn(put(b"a"), put(b"a"))),
        txn(txn(failure=(put(b"a"), put(b"a")))),
        txn(put(b"a"), txn(txn(put(b"a")))),
        txn(put(b"a"), txn(failure=(delete(b"a", b"b"),))),
        txn(txn(failure=(delete(b"a"),)), txn(put(b"a"))),
    ],
)
def test_duplicates(request_: Txn) -> None:
    """Case 25, T4."""
    with pytest.raises(DuplicateKey):
        check_txn(request_, MAX)


@pytest.mark.parametrize(
    "request_",
    [
        txn(put(b"a"), put(b"b")),
        txn(put(b"a"), failure=(put(b"a"),)),
        txn(delete(b"a"), delete(b"a")),
        txn(delete(b"a", b"c"), delete(b"b", b"d")),
        txn(delete(b"a", b"c"), put(b"c")),
        txn(delete(b"c", b"a"), put(b"b")),
        txn(txn(put(b"a")), txn(delete(b"a"))),
        txn(txn(put(b"a"), failure=(delete(b"a"),))),
        txn(txn(put(b"a"), failure=(put(b"a"),))),
        txn(delete(b"a", b"\0"), put(b"b")),
        txn(put(b"b"), delete(b"a", b"\0")),
        txn(delete(b"\0", b"\0"), txn(put(b"b"))),
        txn(put(b"a"), A, Range(key=b"a")),
    ],
)
def test_no_duplicates(request_: Txn) -> None:
    """Case 25, T4, the quirks included."""
    check_txn(request_, MAX)


LOCAL = Range(key=b"a", serializable=True)


@pytest.mark.parametrize(
    ("request_", "is_read_only", "is_serializable"),
    [
        (txn(), True, True),
        (txn(compare=[Compare(key=b"a")]), True, True),
        (txn(A), True, False),
        (txn(LOCAL), True, True),
        (txn(LOCAL, failure=(A,)), True, False),
        (txn(LOCAL, failure=(LOCAL,)), True, True),
        (txn(A, failure=(put(b"a"),)), False, None),
        (txn(A, delete(b"a")), False, None),
        (txn(txn(A)), False, None),
        (txn(txn()), False, None),
    ],
)
def test_classification(request_: Txn, is_read_only: bool, is_serializable: bool | None) -> None:
    """T6, T7."""
    assert txn_is_read_only(request_) is is_read_only
    if is_read_only:
        assert txn_is_serializable(request_) is is_serializable
