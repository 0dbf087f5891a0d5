"""Transactions as they run (spec/kv.md §8.3, §17 cases 20 to 24, 26, 27, 29, 30)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.errors import Compacted, FutureRev, KeyNotFound, LeaseNotFound
from tests.mvcc.rig import ALL, Compare, Delete, Put, Range, Rig, keys, ops, txn

VERSION = Compare.VERSION


@pytest.fixture
def rig() -> Rig:
    return Rig(5)


def sub_revisions(response: Any) -> list[int]:
    """The revision in the header of each op's response; -1 for a present but empty one."""
    revisions = []
    for op in response.responses:
        inner = getattr(op, op.WhichOneof("response"))
        assert inner.HasField("header")
        assert inner.header.member_id == inner.header.cluster_id == inner.header.raft_term == 0
        revisions.append(inner.header.revision or -1)
    return revisions


def test_the_empty_transaction(rig: Rig) -> None:
    """Case 20, M8."""
    response = rig.txn()
    assert (response.succeeded, list(response.responses), response.header.revision) == (True, [], 1)


def test_ops_see_what_was_done_before_them(rig: Rig) -> None:
    """Case 21, T11, T12."""
    response = rig.txn(
        Range(key=b"a"),
        Put(key=b"a"),
        Range(key=b"a"),
        Put(key=b"b"),
        Delete(key=b"zz"),
        Range(**ALL),
    )
    assert response.header.revision == 2
    assert sub_revisions(response) == [1, 2, 2, 2, 2, 2]
    assert keys(response.responses[0].response_range) == []
    assert keys(response.responses[2].response_range) == [b"a"]
    assert keys(response.responses[5].response_range) == [b"a", b"b"]
    assert [op.WhichOneof("response") for op in response.responses] == [
        "response_range",
        "response_put",
        "response_range",
        "response_put",
        "response_delete_range",
        "response_range",
    ]


def test_a_delete_of_nothing_before_any_change(rig: Rig) -> None:
    """Case 22, T11."""
    rig.put(b"a")
    response = rig.txn(Delete(key=b"zz"), Range(key=b"a"), Put(key=b"q"))
    assert response.header.revision == 3
    assert sub_revisions(response) == [2, 2, 3]


def test_a_nested_compare_sees_the_state_before(rig: Rig) -> None:
    """Case 23, T9, H3."""
    nested = txn(
        Put(key=b"n2"),
        Range(key=b"n1"),
        compare=[Compare(key=b"n1", target=VERSION, version=0)],
        failure=(Put(key=b"n3"),),
    )
    response = rig.txn(Put(key=b"n1"), nested, Range(key=b"n", range_end=b"o"))
    assert sub_revisions(response) == [2, -1, 2]
    inner = response.responses[1].response_txn
    assert inner.succeeded
    assert sub_revisions(inner) == [2, 2]
    assert keys(inner.responses[1].response_range) == [b"n1"]
    assert keys(response.responses[2].response_range) == [b"n1", b"n2"]
    assert keys(rig.all()) == [b"n1", b"n2"]


def test_a_nested_transaction_that_only_reads(rig: Rig) -> None:
    """Case 24."""
    response = rig.txn(txn(Range(key=b"a")))
    assert response.header.revision == 1
    assert response.responses[0].response_txn.succeeded


def test_an_open_delete_and_a_put(rig: Rig) -> None:
    """Case 26: in list order."""
    rig.put(b"b")
    rig.txn(Delete(key=b"a", range_end=b"\0"), Put(key=b"b"))
    assert [(kv.key, kv.version) for kv in rig.all().kvs] == [(b"b", 1)]
    response = rig.txn(Put(key=b"b"), Delete(key=b"a", range_end=b"\0", prev_kv=True))
    assert rig.all().count == 0
    (gone,) = response.responses[1].response_delete_range.prev_kvs
    assert gone.version == 2


def test_a_key_put_and_deleted_by_two_children(rig: Rig) -> None:
    """Case 27; watch.md V6: both are records and events of one revision."""
    response = rig.txn(txn(Put(key=b"a")), txn(Delete(key=b"a")))
    deleted = response.responses[1].response_txn.responses[0].response_delete_range
    assert deleted.deleted == 1
    assert [(e.main, e.sub, e.is_delete) for e in rig.store.take_events()] == [
        (2, 0, False),
        (2, 1, True),
    ]


def test_a_revision_that_the_transaction_itself_will_get(rig: Rig) -> None:
    """Case 29, T10: nothing is written."""
    rig.put(b"x")
    rig.store.take_events()
    with pytest.raises(FutureRev):
        rig.txn(Put(key=b"a"), Range(key=b"a", revision=3))
    assert (rig.store.revision, rig.store.take_events(), len(rig.records())) == (2, [], 1)


def test_only_the_branch_that_runs_is_checked(rig: Rig) -> None:
    """Case 30, T5."""
    response = rig.txn(Put(key=b"a"), failure=(Put(key=b"b", lease=99),))
    assert response.succeeded
    nested = txn(failure=(Put(key=b"c", lease=99),))
    assert rig.txn(nested).responses[0].response_txn.succeeded


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (Put(key=b"a", lease=99), Range(key=b"a", revision=9), LeaseNotFound),
        (Range(key=b"a", revision=9), Put(key=b"a", lease=99), FutureRev),
        (Put(key=b"a", ignore_value=True), Put(key=b"b", lease=99), KeyNotFound),
        (Put(key=b"a", ignore_value=True, lease=99), Put(key=b"b"), LeaseNotFound),
        (txn(Put(key=b"a", lease=99)), Range(key=b"a", revision=9), LeaseNotFound),
    ],
)
def test_the_first_failure_in_op_order(
    rig: Rig, first: Any, second: Any, error: type[Exception]
) -> None:
    """T10, P4."""
    with pytest.raises(error):
        rig.txn(first, second)
    assert rig.store.revision == 1


def test_revisions_inside_a_transaction(rig: Rig) -> None:
    """T10, T11: history is what it was; a negative revision is below a compacted one."""
    rig.put(b"a", b"1")
    response = rig.txn(Put(key=b"a", value=b"2"), Range(key=b"a", revision=2), Range(key=b"a"))
    assert [r.response_range.kvs[0].value for r in response.responses[1:]] == [b"1", b"2"]
    rig.compact(3)
    assert rig.range(b"a", revision=-3).count == 1
    with pytest.raises(Compacted):
        rig.txn(Range(key=b"a", revision=-3))
    with pytest.raises(Compacted):
        rig.txn(Range(key=b"a", revision=2))


def test_the_current_revision_by_name_is_the_state_before(rig: Rig) -> None:
    """T11: revision R, named, is not what the transaction makes of it."""
    rig.put(b"a", b"1")
    rig.put(b"b")
    response = rig.txn(
        Put(key=b"a", value=b"2"), Delete(key=b"b"), Put(key=b"c"), Range(**ALL, revision=3)
    )
    found = response.responses[3].response_range
    assert [(kv.key, kv.value) for kv in found.kvs] == [(b"a", b"1"), (b"b", b"")]
    assert (found.count, found.header.revision) == (2, 4)


def test_previous_values_are_those_of_this_transaction(rig: Rig) -> None:
    """T11."""
    rig.put(b"a", b"1", lease=5)
    response = rig.txn(txn(Put(key=b"a", value=b"2")), txn(Delete(key=b"a", prev_kv=True)))
    (gone,) = response.responses[1].response_txn.responses[0].response_delete_range.prev_kvs
    assert (gone.value, gone.version, gone.mod_revision) == (b"2", 2, 3)


def test_failing_compares_run_the_other_branch(rig: Rig) -> None:
    """T12."""
    response = rig.txn(
        Put(key=b"a"),
        compare=[Compare(key=b"a", target=VERSION, version=1)],
        failure=(Put(key=b"b"), Range(**ALL)),
    )
    assert not response.succeeded
    assert len(response.responses) == 2
    assert keys(response.responses[1].response_range) == [b"b"]


def test_a_put_that_keeps_the_value_of_a_key_deleted_before_it(rig: Rig) -> None:
    """Not covered by the specification (etcd gives up there): the same on every member, and a
    key that holds nothing keeps nothing."""
    rig.put(b"a", b"1", lease=5)
    rig.txn(Delete(key=b"a", range_end=b"\0"), Put(key=b"a", ignore_value=True, ignore_lease=True))
    (kv,) = rig.all().kvs
    assert (kv.value, kv.lease, kv.version, kv.create_revision) == (b"", 0, 1, 3)


def test_what_kubernetes_sends(rig: Rig) -> None:
    """§15: create, update and delete, each with its other branch."""

    def mod_is(revision: int) -> list[Compare]:
        return [Compare(key=b"k", target=Compare.MOD, mod_revision=revision)]

    get = (Range(key=b"k"),)
    assert rig.txn(Put(key=b"k", value=b"1"), compare=mod_is(0)).succeeded
    assert not rig.txn(Put(key=b"k"), compare=mod_is(0), failure=get).succeeded
    assert rig.txn(Put(key=b"k", value=b"2"), compare=mod_is(2), failure=get).succeeded
    lost = rig.txn(Put(key=b"k", value=b"3"), compare=mod_is(2), failure=get)
    assert lost.responses[0].response_range.kvs[0].value == b"2"
    assert lost.header.revision == 3
    assert rig.txn(Delete(key=b"k"), compare=mod_is(3), failure=get).succeeded
    assert rig.all().count == 0


def test_ops_keep_their_order_in_the_response(rig: Rig) -> None:
    request = txn(*(Put(key=b"%d" % n) for n in range(9)))
    assert ops(*[]) == []
    revision, body = rig.store.txn(request)
    assert (revision, body.count(b"\x12\x04\x0a\x02\x18\x02")) == (2, 9)
