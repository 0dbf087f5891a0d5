"""Compares (spec/kv.md §8.4, case 32)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mvcc.rig import ALL, Compare, Put, Rig, txn

EQUAL, GREATER, LESS, NOT_EQUAL = 0, 1, 2, 3
VERSION, CREATE, MOD, VALUE, LEASE = range(5)


@pytest.fixture
def rig() -> Rig:
    """a: create 2, mod 3, version 2, value "m", lease 5. b: create = mod 4, version 1, no lease."""
    rig = Rig(5)
    rig.put(b"a", b"1")
    rig.put(b"a", b"m", lease=5)
    rig.put(b"b", b"n")
    return rig


def holds(rig: Rig, **fields: Any) -> bool:
    return rig.txn(compare=[Compare(**fields)]).succeeded


@pytest.mark.parametrize(
    ("target", "given", "stored"),
    [
        (VERSION, "version", 2),
        (CREATE, "create_revision", 2),
        (MOD, "mod_revision", 3),
        (LEASE, "lease", 5),
    ],
)
def test_numbers(rig: Rig, target: int, given: str, stored: int) -> None:
    """C2: stored <op> given."""
    verdicts = {
        number: [
            holds(rig, key=b"a", target=target, result=result, **{given: number})
            for result in (EQUAL, GREATER, LESS, NOT_EQUAL)
        ]
        for number in (stored - 1, stored, stored + 1)
    }
    assert verdicts == {
        stored - 1: [False, True, False, True],
        stored: [True, False, False, False],
        stored + 1: [False, False, True, True],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"l", [False, True, False, True]),
        (b"m", [True, False, False, False]),
        (b"m\0", [False, False, True, True]),
        (b"", [False, True, False, True]),
    ],
)
def test_values(rig: Rig, value: bytes, expected: list[bool]) -> None:
    """C2: by bytes."""
    assert [
        holds(rig, key=b"a", target=VALUE, result=result, value=value)
        for result in (EQUAL, GREATER, LESS, NOT_EQUAL)
    ] == expected


def test_a_given_field_of_another_kind_is_zero(rig: Rig) -> None:
    """C2."""
    assert holds(rig, key=b"a", target=VERSION, result=GREATER)
    assert holds(rig, key=b"none", target=VERSION, result=EQUAL, mod_revision=7)
    rig.put(b"empty")
    assert holds(rig, key=b"empty", target=VALUE, result=EQUAL, version=7)


@pytest.mark.parametrize("target", [VERSION, CREATE, MOD, LEASE])
def test_numbers_of_a_missing_key_are_zero(rig: Rig, target: int) -> None:
    """C3."""
    assert holds(rig, key=b"none", target=target, result=EQUAL)
    assert not holds(rig, key=b"none", target=target, result=NOT_EQUAL)
    assert holds(rig, key=b"none", target=MOD, result=LESS, mod_revision=1)


@pytest.mark.parametrize("result", [EQUAL, GREATER, LESS, NOT_EQUAL, 9])
def test_no_compare_of_a_missing_value_holds(rig: Rig, result: int) -> None:
    """C3, case 32."""
    assert not holds(rig, key=b"none", target=VALUE, result=result, value=b"")
    assert not holds(rig, key=b"c", range_end=b"d", target=VALUE, result=result, value=b"")


def test_every_key_of_an_interval(rig: Rig) -> None:
    """C4, case 32."""
    assert holds(rig, **ALL, target=VERSION, result=GREATER, version=0)
    assert not holds(rig, **ALL, target=VERSION, result=GREATER, version=1)
    assert holds(rig, key=b"a", range_end=b"b", target=VERSION, result=GREATER, version=1)
    assert holds(rig, **ALL, target=VALUE, result=GREATER, value=b"l")
    assert not holds(rig, **ALL, target=VALUE, result=GREATER, value=b"m")
    assert holds(rig, **ALL, target=LEASE, result=LESS, lease=6)


def test_an_empty_interval_is_one_missing_key(rig: Rig) -> None:
    """C4, case 32."""
    empty = {"key": b"c", "range_end": b"d", "target": VERSION}
    assert not holds(rig, **empty, result=GREATER, version=0)
    assert holds(rig, **empty, result=EQUAL, version=0)
    assert holds(rig, key=b"b", range_end=b"a", target=VERSION, result=EQUAL, version=0)


def test_unknown_targets_and_results(rig: Rig) -> None:
    """C5."""
    verdicts = [holds(rig, key=b"a", target=9, result=result) for result in range(4)]
    assert verdicts == [True, False, False, False]
    assert holds(rig, key=b"a", target=VERSION, result=9, version=77)


def test_all_must_hold(rig: Rig) -> None:
    """C1."""
    good = Compare(key=b"a", target=VERSION, version=2)
    bad = Compare(key=b"a", target=VERSION, version=3)
    assert rig.txn(compare=[good, good]).succeeded
    assert not rig.txn(compare=[good, bad]).succeeded
    assert not rig.txn(compare=[bad, good]).succeeded


def test_a_deleted_key_is_missing_and_a_recreated_one_is_new(rig: Rig) -> None:
    """C3, M5."""
    rig.delete(b"a")
    assert holds(rig, key=b"a", target=CREATE, result=EQUAL, create_revision=0)
    assert holds(rig, key=b"a", target=LEASE, result=EQUAL, lease=0)
    rig.store.txn(txn(Put(key=b"a")))
    assert holds(rig, key=b"a", target=CREATE, result=EQUAL, create_revision=6)
    assert holds(rig, key=b"a", target=VERSION, result=EQUAL, version=1)
