"""Hand-written encodings against the protobuf library's (spec/kv.md X1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.mvcc import kv_codec
from kvserver.mvcc.kv_codec import varint
from kvserver.mvcc.revision import (
    bound_after,
    is_tombstone,
    main_of,
    revision_key,
    sub_of,
    tombstone_key,
)
from kvserver.proto import kv_pb2, rpc_pb2

numbers = st.one_of(
    st.integers(1, 300), st.integers(1, 2**63 - 1), st.sampled_from([2**k for k in range(63)])
)
key_bytes = st.one_of(
    st.binary(min_size=1, max_size=20), st.sampled_from([b"k" * 127, b"k" * 128, b"k" * 20_000])
)
value_bytes = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"v" * 127, b"v" * 128, b"v" * 16384])
)
leases = st.integers(-(2**63), 2**63 - 1)
kvs = st.builds(
    kv_pb2.KeyValue,
    key=key_bytes,
    create_revision=numbers,
    mod_revision=numbers,
    version=numbers,
    value=value_bytes,
    lease=st.just(0) | leases,
)
ci = settings(derandomize=True, deadline=None, max_examples=200)


@ci
@given(kvs)
def test_records(kv: kv_pb2.KeyValue) -> None:
    record = kv_codec.encode_kv(
        kv.key,
        varint(kv.create_revision),
        varint(kv.mod_revision),
        varint(kv.version),
        kv.value,
        kv.lease,
    )
    assert record == kv.SerializeToString()
    assert kv_codec.key_of(record) == kv.key
    assert kv_codec.create_revision_of(record) == kv.create_revision
    assert kv_codec.decode_kv(record) == kv


@ci
@given(kvs, st.booleans())
def test_without_value(kv: kv_pb2.KeyValue, keeps_lease: bool) -> None:
    shown = kv_codec.without_value(kv.SerializeToString(), keeps_lease)
    kv.value = b""
    if not keeps_lease:
        kv.lease = 0
    assert shown == kv.SerializeToString()


@ci
@given(key_bytes, numbers)
def test_tombstones(key: bytes, main: int) -> None:
    record = kv_codec.encode_tombstone(key)
    assert record == kv_pb2.KeyValue(key=key).SerializeToString()
    shown = kv_pb2.KeyValue(key=key, mod_revision=main).SerializeToString()
    assert kv_codec.tombstone_event_kv(record, main) == shown


@ci
@given(st.lists(kvs, max_size=5))
def test_repeated_fields(records: list[kv_pb2.KeyValue]) -> None:
    encoded = [kv.SerializeToString() for kv in records]
    assert kv_codec.range_kvs(encoded) == rpc_pb2.RangeResponse(kvs=records).SerializeToString()
    assert (
        kv_codec.prev_kvs(encoded)
        == rpc_pb2.DeleteRangeResponse(prev_kvs=records).SerializeToString()
    )


@ci
@given(leases)
def test_varints(number: int) -> None:
    encoded = kv_pb2.KeyValue(lease=number).SerializeToString()
    assert encoded == (b"\x30" + varint(number) if number else b"")
    assert kv_codec.read_varint(varint(number), 0) == (number % 2**64, len(varint(number)))


@ci
@given(numbers, st.integers(0, 2**31), numbers, st.integers(0, 2**31))
def test_revision_keys(main: int, sub: int, other_main: int, other_sub: int) -> None:
    key = revision_key(main, sub)
    assert (main_of(key), sub_of(key), len(key)) == (main, sub, 17)
    assert (key < revision_key(other_main, other_sub)) == ((main, sub) < (other_main, other_sub))
    tombstone = tombstone_key(main, sub)
    assert is_tombstone(tombstone)
    assert not is_tombstone(key)
    assert (main_of(tombstone), sub_of(tombstone)) == (main, sub)


@pytest.mark.parametrize("main", [0, 1, 255, 2**40])
def test_bounds(main: int) -> None:
    bound = bound_after(main)
    assert tombstone_key(main, 2**40) < bound <= revision_key(main + 1, 0)
    assert bound_after(-1) == b""
