"""Compares of transactions (spec/kv.md §8.4), against the state before the transaction (T9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from kvserver.mvcc.kv_codec import decode_kv
from kvserver.mvcc.range import interval_end
from kvserver.mvcc.revision import main_of
from kvserver.proto import rpc_pb2

if TYPE_CHECKING:
    from kvserver.mvcc.store import Store

_VERSION: Final = rpc_pb2.Compare.VERSION
_CREATE: Final = rpc_pb2.Compare.CREATE
_MOD: Final = rpc_pb2.Compare.MOD
_VALUE: Final = rpc_pb2.Compare.VALUE
_LEASE: Final = rpc_pb2.Compare.LEASE

_EQUAL: Final = rpc_pb2.Compare.EQUAL
_GREATER: Final = rpc_pb2.Compare.GREATER
_LESS: Final = rpc_pb2.Compare.LESS
_NOT_EQUAL: Final = rpc_pb2.Compare.NOT_EQUAL


Stored = TypeVar("Stored", int, bytes)


def compare_holds(store: Store, compare: rpc_pb2.Compare) -> bool:
    """C3, C4: for a missing key numbers are 0 and any compare of a value is false."""
    key = compare.key
    range_end = compare.range_end
    if not range_end:
        return _holds(store, compare, key)
    keys = store.index.live_keys(key, interval_end(key, range_end))
    if not keys:
        return compare.target != _VALUE and _relates(compare.result, *_numbers(store, compare, b""))
    return all(_holds(store, compare, k) for k in keys)


def _holds(store: Store, compare: rpc_pb2.Compare, key: bytes) -> bool:
    if compare.target != _VALUE:
        return _relates(compare.result, *_numbers(store, compare, key))
    revision = store.index.newest.get(key)
    if revision is None:
        return False
    stored = decode_kv(store.record(revision)).value
    return _relates(compare.result, stored, compare.value)


def _numbers(store: Store, compare: rpc_pb2.Compare, key: bytes) -> tuple[int, int]:
    """The stored number and the given one. A given number of another kind reads as 0 (C2); an
    unknown target compares nothing with nothing (C5). None of them needs the record."""
    index = store.index
    revision = index.newest.get(key)
    target = compare.target
    if target == _MOD:
        return 0 if revision is None else main_of(revision), compare.mod_revision
    if target == _CREATE:
        return 0 if revision is None else index.create_revision(key), compare.create_revision
    if target == _VERSION:
        return 0 if revision is None else index.version(key), compare.version
    if target == _LEASE:
        return store.leases.get(key, 0), compare.lease
    return 0, 0


def _relates(result: int, stored: Stored, given: Stored) -> bool:
    if result == _EQUAL:
        return stored == given
    if result == _NOT_EQUAL:
        return stored != given
    if result == _GREATER:
        return stored > given
    if result == _LESS:
        return stored < given
    return True  # an unknown relation refuses nothing (C5)
