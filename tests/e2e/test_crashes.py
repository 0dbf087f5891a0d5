"""kill -9 under load, again and again on one data directory (verification.md, rung 8)."""

from __future__ import annotations

import contextlib
import random
import threading

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.e2e.ledger import Ledger, Load, audit
from tests.support.servers_proc import ServerProcess

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROUNDS = 6
SECONDS_MAX = 60.0


class Housekeeping:
    """Compacts, and now and then defragments, beside a load."""

    def __init__(self, member: ServerProcess, *, defragment: bool) -> None:
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(member.endpoint)
        self._defragment = defragment
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Housekeeping:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS_MAX * 2)
        self._channel.close()

    def _work(self) -> None:
        kv, maintenance = services.KVStub(self._channel), services.MaintenanceStub(self._channel)
        # The member is killed under this thread's feet: any error ends its round.
        with contextlib.suppress(grpc.RpcError):
            while not self._stop.wait(0.05):
                now = kv.Range(rpc.RangeRequest(key=b"x"), timeout=SECONDS_MAX).header.revision
                try:
                    old = max(now - 200, 1)
                    kv.Compact(rpc.CompactionRequest(revision=old), timeout=SECONDS_MAX)
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.OUT_OF_RANGE:
                        raise
                if self._defragment:
                    maintenance.Defragment(rpc.DefragmentRequest(), timeout=SECONDS_MAX)


@pytest.mark.parametrize("housekeeping", ["none", "compaction", "defragmentation"])
def test_nothing_acknowledged_is_lost(make_member, housekeeping: str) -> None:  # type: ignore[no-untyped-def]
    """A member killed at any moment has, when it is back, everything it ever acknowledged."""
    dice = random.Random(housekeeping)
    member = make_member("--snapshot-count=300")
    ledger = Ledger()
    member.start()
    for number in range(ROUNDS):
        with contextlib.ExitStack() as stack:
            if housekeeping != "none":
                defragment = housekeeping == "defragmentation"
                stack.enter_context(Housekeeping(member, defragment=defragment))
            load = stack.enter_context(Load(member, ledger, number))
            load.wait_for(dice.randint(30, 900))
            assert load.alive, member.log()
            member.kill()
        member.start()
        audit(member, ledger)
    assert len(ledger.records) > 30 * ROUNDS


def test_hash_is_the_same_after_a_crash(member: ServerProcess) -> None:
    """What was written out and what was rebuilt from the log are one history."""
    ledger = Ledger()
    with Load(member, ledger, 0) as load:
        load.wait_for(2000)
        assert load.alive
    hashes = []
    for _ in range(2):
        with grpc.insecure_channel(member.endpoint) as channel:
            ask = services.MaintenanceStub(channel).HashKV
            reply = ask(rpc.HashKVRequest(), timeout=SECONDS_MAX)
            hashes.append((reply.header.revision, reply.hash, reply.compact_revision))
        member.kill()
        member.start()
    assert hashes[0] == hashes[1]


def test_leases_and_alarms_survive(member: ServerProcess) -> None:
    """spec/lease.md M1, M2, P4; spec/maintenance.md A1."""
    with grpc.insecure_channel(member.endpoint) as channel:
        lease, kv = services.LeaseStub(channel), services.KVStub(channel)
        for number in (5, -5):
            lease.LeaseGrant(rpc.LeaseGrantRequest(ID=number, TTL=3600), timeout=SECONDS_MAX)
            put = rpc.PutRequest(key=b"leased%d" % number, lease=number)
            kv.Put(put, timeout=SECONDS_MAX)
        gone = rpc.LeaseGrantRequest(ID=6, TTL=3600)
        lease.LeaseGrant(gone, timeout=SECONDS_MAX)
        lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=6), timeout=SECONDS_MAX)
        _alarm(channel, rpc.AlarmRequest.ACTIVATE)
    member.kill()
    member.start()
    with grpc.insecure_channel(member.endpoint) as channel:
        lease, kv = services.LeaseStub(channel), services.KVStub(channel)
        listed = lease.LeaseLeases(rpc.LeaseLeasesRequest(), timeout=SECONDS_MAX).leases
        assert sorted(each.ID for each in listed) == [-5, 5]
        for number in (5, -5):
            ask = rpc.LeaseTimeToLiveRequest(ID=number, keys=True)
            reply = lease.LeaseTimeToLive(ask, timeout=SECONDS_MAX)
            assert (reply.grantedTTL, list(reply.keys)) == (3600, [b"leased%d" % number])
        assert [a.memberID for a in _alarm(channel, rpc.AlarmRequest.GET).alarms] == [77]
        with pytest.raises(grpc.RpcError) as refused:
            kv.Put(rpc.PutRequest(key=b"a"), timeout=SECONDS_MAX)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        _alarm(channel, rpc.AlarmRequest.DEACTIVATE)
        # A revoked lease's id is free, and its keys' new lease is honoured.
        lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=5), timeout=SECONDS_MAX)
    member.kill()
    member.start()
    with grpc.insecure_channel(member.endpoint) as channel:
        kv = services.KVStub(channel)
        assert not _alarm(channel, rpc.AlarmRequest.GET).alarms
        kv.Put(rpc.PutRequest(key=b"a"), timeout=SECONDS_MAX)
        read = rpc.RangeRequest(key=b"leased", range_end=b"leasee")
        assert [p.key for p in kv.Range(read, timeout=SECONDS_MAX).kvs] == [b"leased-5"]


def _alarm(channel: grpc.Channel, action: int) -> rpc.AlarmResponse:
    kind = rpc.NONE if action == rpc.AlarmRequest.GET else rpc.NOSPACE
    request = rpc.AlarmRequest(action=action, memberID=77, alarm=kind)  # type: ignore[arg-type]
    return services.MaintenanceStub(channel).Alarm(request, timeout=SECONDS_MAX)  # type: ignore[no-any-return]
