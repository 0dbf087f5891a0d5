"""Range, rule by rule (spec/kv.md §3, §5, §17 cases 1 and 3 to 13)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.errors import Compacted, EmptyKey, FatalError, FutureRev, InvalidSortOption
from kvserver.mvcc import range_slices
from kvserver.mvcc.range import check_range
from tests.mvcc.rig import ALL, Put, Range, Rig, finish, keys, txn

KEY, VERSION, CREATE, MOD, VALUE = range(5)
NONE, ASCEND, DESCEND = range(3)


@pytest.fixture
def rig() -> Rig:
    """The keys of the example cases: a(c2,m3,v2), b(c4), c(c5, empty value), bb(c6)."""
    rig = Rig(7)
    for key, value in ((b"a", b"1"), (b"a", b"2"), (b"b", b"4"), (b"c", b""), (b"bb", b"6")):
        rig.put(key, value)
    return rig


def test_an_empty_store_is_at_revision_1() -> None:
    """Case 1, M2."""
    response = Rig().range(b"a")
    assert (list(response.kvs), response.count, response.header.revision) == ([], 0, 1)


def test_the_whole_keyspace_in_key_order(rig: Rig) -> None:
    """Case 3, K2, M4."""
    response = rig.all()
    assert keys(response) == [b"a", b"b", b"bb", b"c"]
    assert (response.count, response.header.revision, response.more) == (4, 6, False)
    a, _, _, c = response.kvs
    assert (a.create_revision, a.mod_revision, a.version, a.value) == (2, 3, 2, b"2")
    assert (c.create_revision, c.mod_revision, c.version, c.value) == (5, 5, 1, b"")


def test_keys_are_ordered_as_unsigned_bytes() -> None:
    """M1."""
    rig = Rig()
    ordered = [b"\0", b"\0\0", b"a\xff", b"b", b"\x7f", b"\x80", b"\xff"]
    for key in reversed(ordered):
        rig.put(key)
    assert keys(rig.all()) == ordered


@pytest.mark.parametrize("end", [b"a", b"b"])
def test_an_interval_that_ends_before_it_begins_is_empty(rig: Rig, end: bytes) -> None:
    """Case 4, K3."""
    response = rig.range(b"b", end)
    assert (keys(response), response.count) == ([], 0)


def test_half_open_intervals(rig: Rig) -> None:
    """K1 to K3."""
    assert keys(rig.range(b"b")) == [b"b"]
    assert keys(rig.range(b"b", b"c")) == [b"b", b"bb"]
    assert keys(rig.range(b"b", b"\0")) == [b"b", b"bb", b"c"]
    assert keys(rig.range(b"a\0", b"b")) == []


@pytest.mark.parametrize(
    ("limit", "shown", "more"), [(1, 1, True), (4, 4, False), (-1, 4, False), (0, 4, False)]
)
def test_limit(rig: Rig, limit: int, shown: int, more: bool) -> None:
    """Case 5, R9."""
    response = rig.all(limit=limit)
    assert (len(response.kvs), response.more, response.count) == (shown, more, 4)


@pytest.mark.parametrize("options", [{"limit": 1}, {"min_mod_revision": 5}])
def test_count_only_ignores_limit_and_filters(rig: Rig, options: dict[str, int]) -> None:
    """Case 6, R5."""
    response = rig.all(count_only=True, **options)
    assert (list(response.kvs), response.more, response.count) == ([], False, 4)


def test_filters_come_before_the_limit(rig: Rig) -> None:
    """Case 7, R4, R9."""
    response = rig.all(min_mod_revision=5, limit=1)
    assert (keys(response), response.more, response.count) == ([b"bb"], True, 4)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"max_create_revision": 4}, [b"a", b"b"]),
        ({"min_create_revision": 5}, [b"bb", b"c"]),
        ({"max_mod_revision": 4}, [b"a", b"b"]),
        ({"min_mod_revision": 4, "max_mod_revision": 5}, [b"b", b"c"]),
        ({"min_mod_revision": 3, "max_create_revision": 2}, [b"a"]),
        ({"max_mod_revision": -1}, []),
    ],
)
def test_filters(rig: Rig, filters: dict[str, int], expected: list[bytes]) -> None:
    """Case 8, R6: they combine with AND, and count is not their business."""
    response = rig.all(**filters)
    assert (keys(response), response.count) == (expected, 4)


def test_a_filtered_single_key_still_counts(rig: Rig) -> None:
    """R13."""
    response = rig.range(b"a", min_mod_revision=4)
    assert (keys(response), response.count) == ([], 1)


def test_sort_by_mod_descending_with_a_limit(rig: Rig) -> None:
    """Case 9."""
    response = rig.all(sort_target=MOD, sort_order=DESCEND, limit=2)
    assert (keys(response), response.more) == ([b"bb", b"c"], True)


@pytest.mark.parametrize(("limit", "expected"), [(1, [b"a"]), (2, [b"a", b"b"])])
def test_without_an_order_the_first_keys_are_cut_before_they_are_sorted(
    rig: Rig, limit: int, expected: list[bytes]
) -> None:
    """Case 10, R10."""
    response = rig.all(sort_target=MOD, sort_order=NONE, limit=limit)
    assert (keys(response), response.more) == (expected, True)


def test_a_filter_takes_the_early_cut_away(rig: Rig) -> None:
    """R10: the quirk needs that no filter is set."""
    rig.put(b"a")  # the newest now
    response = rig.all(sort_target=MOD, sort_order=NONE, limit=1, min_mod_revision=1)
    assert keys(response) == [b"b"]


@pytest.mark.parametrize(
    ("target", "order", "expected"),
    [
        (KEY, NONE, b"a b bb c"),
        (KEY, ASCEND, b"a b bb c"),
        (KEY, DESCEND, b"c bb b a"),
        (VERSION, DESCEND, b"a b bb c"),
        (VERSION, NONE, b"b bb c a"),
        (CREATE, ASCEND, b"a b c bb"),
        (CREATE, DESCEND, b"bb c b a"),
        (MOD, NONE, b"a b c bb"),
        (VALUE, ASCEND, b"c a b bb"),
        (VALUE, DESCEND, b"bb b a c"),
    ],
)
def test_sorting(rig: Rig, target: int, order: int, expected: bytes) -> None:
    """R7; VERSION descending also shows that ties stay in ascending key order (R8)."""
    assert keys(rig.all(sort_target=target, sort_order=order)) == expected.split()


def test_ties_of_one_revision_stay_in_key_order() -> None:
    """R8, for MOD, where our order comes from revision keys that do differ."""
    rig = Rig()
    rig.store.txn(txn(*(Put(key=key) for key in (b"c", b"a", b"b"))))
    for order in (ASCEND, DESCEND):
        assert keys(rig.all(sort_target=MOD, sort_order=order)) == [b"a", b"b", b"c"]


def test_keys_only_sorts_by_the_real_values() -> None:
    """Case 11, R7, R11."""
    rig = Rig()
    for key, value in ((b"a", b"2"), (b"b", b"1"), (b"c", b""), (b"bb", b"x")):
        rig.put(key, value)
    response = rig.all(sort_target=VALUE, sort_order=DESCEND, keys_only=True)
    assert keys(response) == [b"bb", b"a", b"b", b"c"]
    assert [kv.value for kv in response.kvs] == [b""] * 4


@pytest.mark.parametrize(("target", "lease"), [(KEY, 0), (MOD, 0), (VALUE, 7)])
def test_keys_only_leaves_the_lease_out(target: int, lease: int) -> None:
    """R11: unless sorted by value."""
    rig = Rig(7)
    rig.put(b"a", b"value", lease=7)
    (kv,) = rig.all(keys_only=True, sort_target=target).kvs
    assert (kv.value, kv.lease, kv.create_revision, kv.mod_revision, kv.version) == (
        b"",
        lease,
        2,
        2,
        1,
    )


def test_an_old_revision(rig: Rig) -> None:
    """Case 12, H2: the header names the current one."""
    response = rig.all(revision=2)
    (a,) = response.kvs
    assert (a.version, a.value, response.count, response.header.revision) == (1, b"1", 1, 6)
    assert keys(rig.all(revision=1)) == []


def test_revisions_that_cannot_be_read(rig: Rig) -> None:
    """Case 13, R2."""
    with pytest.raises(FutureRev):
        rig.range(b"a", revision=100)
    assert rig.range(b"a", revision=-1).kvs[0].version == 2
    rig.compact(4)
    with pytest.raises(Compacted):
        rig.range(b"a", revision=3)
    assert keys(rig.all(revision=4)) == [b"a", b"b"]


def test_deleted_keys_at_old_revisions(rig: Rig) -> None:
    """R3: keys that are dead now are found where they lived, in key order."""
    rig.delete(b"b")
    rig.delete(b"a")
    rig.put(b"a", b"again")
    assert keys(rig.all(revision=6)) == [b"a", b"b", b"bb", b"c"]
    assert keys(rig.all(revision=7)) == [b"a", b"bb", b"c"]
    assert keys(rig.all(revision=8)) == [b"bb", b"c"]
    assert rig.all(revision=8, limit=1).count == 2
    (a,) = rig.range(b"a").kvs
    assert (a.create_revision, a.mod_revision, a.version) == (9, 9, 1)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"key": b""}, EmptyKey),
        ({"key": b"", "sort_order": 9}, EmptyKey),
        ({"key": b"a", "sort_order": 3}, InvalidSortOption),
        ({"key": b"a", "sort_order": -1}, InvalidSortOption),
        ({"key": b"a", "sort_target": 5}, InvalidSortOption),
    ],
)
def test_static_validation(fields: dict[str, Any], error: type[Exception]) -> None:
    """R1, K5."""
    with pytest.raises(error):
        check_range(Range(**fields))


# Slices (design D6)


@pytest.fixture
def many() -> Rig:
    """5000 keys: a cursor takes several steps."""
    rig = Rig()
    for number in range(5000):
        rig.put(b"k%04d" % number, b"v")
    return rig


def test_a_long_range_takes_several_steps_and_stays_at_its_revision(many: Rig) -> None:
    cursor = many.store.range_cursor(Range(**ALL))
    assert not cursor.step()
    many.delete(b"k", b"l")
    many.put(b"zz")
    revision, body = finish(cursor).result()
    assert revision == 5001
    response = type(many.all()).FromString(body)
    assert keys(response) == [b"k%04d" % number for number in range(5000)]
    assert response.count == 5000


def test_the_removal_of_a_compaction_waits_for_cursors_below_it(many: Rig) -> None:
    cursor = many.store.range_cursor(Range(**ALL))
    assert not cursor.step()
    many.delete(b"k", b"l")
    job = many.store.compact(many.store.revision)
    for _ in range(50):
        assert not job.step()
    response = type(many.all()).FromString(finish(cursor).result()[1])
    assert len(response.kvs) == 5000
    finish(job)
    assert many.store.index.histories.keys() == {b"k%04d" % number for number in range(5000)}


def test_an_abandoned_cursor_holds_nothing_up(many: Rig) -> None:
    cursor = many.store.range_cursor(Range(**ALL))
    assert not cursor.step()
    many.put(b"zz")
    job = many.store.compact(many.store.revision)
    del cursor
    finish(job)


def test_counting_where_too_much_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """R4, when the births and deaths since then are no longer remembered."""
    monkeypatch.setattr("kvserver.mvcc.index.CHANGES_MAX", 10)
    monkeypatch.setattr(range_slices, "PAGE_KEYS", 7)
    rig = Rig()
    for number in range(30):
        rig.put(b"k%02d" % number)
    for number in range(0, 30, 2):
        rig.delete(b"k%02d" % number)
    response = rig.all(revision=31, limit=3)
    assert (response.count, len(response.kvs), response.more) == (30, 3, True)
    assert rig.all(revision=36, limit=3).count == 25
    assert rig.all(revision=36, count_only=True).count == 25
    assert rig.all(revision=45, limit=3).count == 16


def test_long_records() -> None:
    """Lengths of more than two bytes, and pieces bounded by size."""
    rig = Rig()
    for number in range(300):
        rig.put(b"k%03d" % number, b"v" * 20_000)
    response = rig.all()
    assert len(response.kvs) == 300
    assert {len(kv.value) for kv in response.kvs} == {20_000}


@pytest.mark.parametrize("revision", [0, 31])
def test_the_last_keys_of_many(monkeypatch: pytest.MonkeyPatch, revision: int) -> None:
    """R9: descending by key, only the last ones are looked at."""
    monkeypatch.setattr(range_slices, "PAGE_KEYS", 2)
    rig = Rig()
    for number in range(30):
        rig.put(b"k%02d" % number)
    if revision:
        rig.put(b"later")
    response = rig.all(sort_order=DESCEND, limit=3, revision=revision)
    assert keys(response) == [b"k29", b"k28", b"k27"]
    assert (response.more, response.count) == (True, 30)
    response = rig.range(b"k", b"k02", sort_order=DESCEND, limit=2, revision=revision)
    assert (keys(response), response.more) == ([b"k01", b"k00"], False)


@pytest.mark.parametrize(
    ("options", "expected", "more"),
    [
        ({"sort_order": DESCEND}, [b"c", b"bb", b"b"], False),
        ({"sort_order": DESCEND, "limit": 2}, [b"c", b"bb"], True),
        ({"sort_target": MOD, "sort_order": DESCEND}, [b"bb", b"c", b"b"], False),
        ({"sort_target": MOD, "limit": 1}, [b"b"], True),
        ({"limit": 2}, [b"b", b"bb"], True),
    ],
)
def test_orders_behind_a_filter_that_needs_the_record(
    rig: Rig, options: dict[str, int], expected: list[bytes], more: bool
) -> None:
    """R6, R7, R9."""
    response = rig.all(min_create_revision=3, **options)
    assert (keys(response), response.more, response.count) == (expected, more, 4)


@pytest.mark.parametrize("end", [b"", b"l"])
def test_a_record_that_is_missing_is_fatal(end: bytes) -> None:
    """style.md: the index promised it, so the member must not go on."""
    rig = Rig()
    rig.put(b"k")
    rig.backend.remove_revisions(rig.records())
    with pytest.raises(FatalError):
        rig.range(b"k", end)
    with pytest.raises(FatalError):
        rig.store.kv_at(b"k", 2)
