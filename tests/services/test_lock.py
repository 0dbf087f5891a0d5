"""The Lock service on a running member (spec/concurrency.md §1, §2 and the examples of §5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import pytest

from kvserver.proto import rpc_pb2
from kvserver.proto.lock_pb2 import LockRequest, LockResponse, UnlockRequest
from tests.services.member import SECONDS_MAX, Asker, refusal

UNKNOWN = grpc.StatusCode.UNKNOWN


def lock(asker: Asker, name: bytes, lease: int = 0) -> LockResponse:
    return asker.lock.Lock(LockRequest(name=name, lease=lease), timeout=SECONDS_MAX)


def queue(asker: Asker, name: bytes, lease: int) -> Any:
    """A call that waits for its turn."""
    call = asker.lock.Lock.future(LockRequest(name=name, lease=lease), timeout=SECONDS_MAX)
    asker.until_there(b"%b/%x" % (name, lease))
    return call


def unlock(asker: Asker, key: bytes) -> int:
    return asker.lock.Unlock(UnlockRequest(key=key)).header.revision


@pytest.fixture(scope="module", autouse=True)
def leases(asker: Asker) -> None:
    asker.grant(0xABC, 0xDEF, 0x123, -255)


def test_without_a_lease_one_of_60_seconds_is_granted(asker: Asker) -> None:
    """Example 1, B1, B2, B4: the key is the name and the lease in hex, empty, attached to it."""
    locked = lock(asker, b"mylock")
    kv = asker.kvs(b"mylock/")[locked.key]
    assert locked.key == b"mylock/%x" % kv.lease
    assert kv.value == b""
    assert kv.create_revision == locked.header.revision  # L2
    granted = asker.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=kv.lease))
    assert granted.grantedTTL == 60


def test_a_waiter_whose_deadline_passes_leaves_the_queue(asker: Asker) -> None:
    """Example 2, B5: its key came and went, two revisions; its lease stays."""
    first = lock(asker, b"late", 0xDEF)
    before = asker.revision()
    late = LockRequest(name=b"late", lease=0xABC)
    seconds = 0.25
    while asker.revision() == before:  # a busy machine may need longer to get into the queue
        seconds *= 2
        code, _ = refusal(partial(asker.lock.Lock, late, timeout=seconds))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        asker.until_gone(b"late/abc")
    assert set(asker.kvs(b"late/")) == {first.key}
    assert asker.revision() == before + 2


def test_a_waiter_that_is_cancelled_leaves_the_queue(asker: Asker) -> None:
    """B5"""
    lock(asker, b"cancel", 0xABC)
    waiting = queue(asker, b"cancel", 0xDEF)
    waiting.cancel()
    asker.until_gone(b"cancel/def")
    assert set(asker.kvs(b"cancel/")) == {b"cancel/abc"}


def test_unlocking_twice(asker: Asker) -> None:
    """Example 3, L6"""
    locked = lock(asker, b"twice", 0xABC)
    assert unlock(asker, locked.key) == locked.header.revision + 1
    assert unlock(asker, locked.key) == locked.header.revision + 1


def test_refusals_are_unknown_with_the_text_of_the_inner_call(asker: Asker) -> None:
    """Examples 4 and 5, spec/wire-api.md §5.2"""
    assert refusal(lambda: unlock(asker, b"")) == (UNKNOWN, "etcdserver: key is not provided")
    assert refusal(lambda: lock(asker, b"L2", 0x5555)) == (
        UNKNOWN,
        "etcdserver: requested lease not found",
    )
    assert asker.kvs(b"L2/") == {}


def test_locking_again_with_the_same_lease(asker: Asker) -> None:
    """Example 6, L3"""
    first, again = lock(asker, b"L3", 0xABC), lock(asker, b"L3", 0xABC)
    assert first.key == again.key == b"L3/abc"
    assert first.header.revision == again.header.revision


def test_names(asker: Asker) -> None:
    """Example 9, B1"""
    assert lock(asker, b"", 0xABC).key == b"/abc"
    assert lock(asker, b"neg", -255).key == b"neg/-ff"


def test_the_lock_goes_to_the_first_in_line(asker: Asker) -> None:
    """Examples 7, L5: and to nobody else."""
    lock(asker, b"line", 0xABC)
    second, third = queue(asker, b"line", 0xDEF), queue(asker, b"line", 0x123)
    revision = unlock(asker, b"line/abc")
    got = second.result()
    assert (got.key, got.header.revision) == (
        b"line/def",
        revision,
    )  # L2: of the read that ended it
    asker.revision()
    assert not third.done()
    unlock(asker, b"line/def")
    assert third.result().key == b"line/123"


def test_a_waiter_whose_lease_ended_has_no_lock(asker: Asker) -> None:
    """Example 8, L4"""
    asker.grant(0x77)
    lock(asker, b"ended", 0xABC)
    waiting = queue(asker, b"ended", 0x77)
    asker.revoke(0x77)
    unlock(asker, b"ended/abc")
    assert refusal(waiting.result) == (UNKNOWN, "mutex: session is expired")


def test_the_end_of_the_holders_lease_passes_the_lock_on(asker: Asker) -> None:
    """Example 24"""
    asker.grant(0x78)
    lock(asker, b"holder", 0x78)
    waiting = queue(asker, b"holder", 0xABC)
    asker.revoke(0x78)
    assert waiting.result().key == b"holder/abc"


def test_a_waiter_in_the_middle_that_vanishes(asker: Asker) -> None:
    """Example 25, B3: its successor goes on waiting for the one before it."""
    lock(asker, b"middle", 0xABC)
    second, third = queue(asker, b"middle", 0xDEF), queue(asker, b"middle", 0x123)
    second.cancel()
    asker.until_gone(b"middle/def")
    asker.revision()
    assert not third.done()
    unlock(asker, b"middle/abc")
    assert third.result().key == b"middle/123"


def test_waiting_through_a_compaction(asker: Asker) -> None:
    """A compaction past the revision a waiter watches from ends neither the wait nor the lock."""
    lock(asker, b"compact", 0xABC)
    waiting = queue(asker, b"compact", 0xDEF)
    for number in range(3):
        asker.kv.Put(rpc_pb2.PutRequest(key=b"compact-%d" % number))
    asker.kv.Compact(rpc_pb2.CompactionRequest(revision=asker.revision()))
    unlock(asker, b"compact/abc")
    assert waiting.result().key == b"compact/def"


def test_locks_of_one_name_do_not_meet_those_of_another(asker: Asker) -> None:
    """B1: the slash ends the name."""
    lock(asker, b"one", 0xABC)
    assert lock(asker, b"on", 0xDEF).key == b"on/def"
    assert lock(asker, b"one/more", 0x123).key == b"one/more/123"
