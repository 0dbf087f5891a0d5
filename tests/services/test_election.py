"""The Election service on a running member (spec/concurrency.md §3 and the examples of §5)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from kvserver.proto import rpc_pb2
from kvserver.proto.election_pb2 import (
    CampaignRequest,
    CampaignResponse,
    LeaderKey,
    LeaderRequest,
    LeaderResponse,
    ProclaimRequest,
    ResignRequest,
)
from tests.services.member import SECONDS_MAX, Asker, refusal
from tests.support.servers_proc import wait_until

UNKNOWN = grpc.StatusCode.UNKNOWN
NO_LEADER = (UNKNOWN, "election: no leader")
NOT_LEADER = (UNKNOWN, "election: not leader")
NOT_PROVIDED = (UNKNOWN, '"leader" field must be provided')


@pytest.fixture(scope="module", autouse=True)
def leases(asker: Asker) -> None:
    asker.grant(0xABC, 0xDEF)


class Election:
    """One election, as its participants see it."""

    def __init__(self, asker: Asker, name: bytes) -> None:
        self.asker = asker
        self.name = name
        self.stub = asker.election

    def campaign(self, lease: int, value: bytes) -> CampaignResponse:
        request = CampaignRequest(name=self.name, lease=lease, value=value)
        return self.stub.Campaign(request, timeout=SECONDS_MAX)

    def queue(self, lease: int, value: bytes) -> Any:
        """A campaign that waits."""
        request = CampaignRequest(name=self.name, lease=lease, value=value)
        call = self.stub.Campaign.future(request, timeout=SECONDS_MAX)
        self.asker.until_there(b"%b/%x" % (self.name, lease))
        return call

    def proclaim(self, leader: LeaderKey | None, value: bytes) -> int:
        return self.stub.Proclaim(ProclaimRequest(leader=leader, value=value)).header.revision

    def resign(self, leader: LeaderKey | None) -> int:
        return self.stub.Resign(ResignRequest(leader=leader)).header.revision

    def leader(self) -> LeaderResponse:
        return self.stub.Leader(LeaderRequest(name=self.name))

    def observe(self) -> Any:
        return self.stub.Observe(LeaderRequest(name=self.name), timeout=SECONDS_MAX)


def stale(leader: LeaderKey) -> LeaderKey:
    other = LeaderKey()
    other.CopyFrom(leader)
    other.rev = 1
    return other


def seen(response: LeaderResponse) -> tuple[bytes, bytes, int]:
    return response.kv.key, response.kv.value, response.header.revision


def test_the_story_of_an_election(asker: Asker) -> None:
    """Examples 10 to 18, and what an observer of them hears: example 21, E5, E6."""
    election = Election(asker, b"E")
    assert refusal(election.leader) == NO_LEADER
    told = election.observe()
    start = asker.revision()

    won = election.campaign(0xABC, b"v1")
    leader = won.leader
    assert leader == LeaderKey(name=b"E", key=b"E/abc", rev=start + 1, lease=0xABC)
    assert won.header.revision == start + 1
    assert seen(next(told)) == (b"E/abc", b"v1", start + 1)

    again = election.campaign(0xABC, b"v2")
    assert (again.leader, again.header.revision) == (leader, start + 1)  # E1: of the first txn
    assert seen(next(told)) == (b"E/abc", b"v2", start + 2)

    assert election.proclaim(leader, b"v3") == start + 3
    assert seen(next(told)) == (b"E/abc", b"v3", start + 3)
    assert refusal(lambda: election.proclaim(None, b"v4")) == NOT_PROVIDED
    assert refusal(lambda: election.proclaim(stale(leader), b"v4")) == NOT_LEADER
    assert election.resign(stale(leader)) == start + 3
    assert refusal(lambda: election.resign(None)) == NOT_PROVIDED
    assert seen(election.leader()) == (b"E/abc", b"v3", start + 3)

    waiting = election.queue(0xDEF, b"w1")
    asker.revision()
    assert not waiting.done()
    assert election.resign(leader) == start + 5
    second = waiting.result()
    assert (second.leader.rev, second.header.revision) == (start + 4, start + 4)
    assert seen(next(told)) == (b"E/def", b"w1", start + 5)

    assert election.resign(leader) == start + 5
    assert refusal(lambda: election.proclaim(leader, b"v5")) == NOT_LEADER
    asker.revoke(0xDEF)
    asker.grant(0xDEF)
    assert refusal(election.leader) == NO_LEADER

    third = election.campaign(0, b"x")  # example 19
    assert third.leader.key == b"E/%x" % third.leader.lease
    assert seen(next(told)) == (third.leader.key, b"x", third.leader.rev)
    granted = asker.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=third.leader.lease))
    assert granted.grantedTTL == 60
    told.cancel()


def test_a_campaign_that_is_cancelled_leaves_the_queue(asker: Asker) -> None:
    """Example 20, B5"""
    election = Election(asker, b"cancelled")
    election.campaign(0xABC, b"v")
    election.queue(0xDEF, b"w").cancel()
    asker.until_gone(b"cancelled/def")
    assert election.leader().kv.key == b"cancelled/abc"


def test_whoever_waits_may_proclaim(asker: Asker) -> None:
    """E2: any live participant whose revision matches, also by campaigning again (E1)."""
    election = Election(asker, b"waits")
    election.campaign(0xABC, b"v")
    waiting = election.queue(0xDEF, b"w1")
    key = b"waits/def"
    revision = asker.kvs(b"waits/")[key].create_revision
    election.proclaim(LeaderKey(name=b"waits", key=key, rev=revision, lease=0xDEF), b"w2")
    assert asker.kvs(b"waits/")[key].value == b"w2"
    request = CampaignRequest(name=b"waits", lease=0xDEF, value=b"w3")
    again = election.stub.Campaign.future(request, timeout=SECONDS_MAX)
    wait_until(lambda: asker.kvs(b"waits/")[key].value == b"w3", SECONDS_MAX, "w3 is proclaimed")
    election.resign(election.campaign(0xABC, b"v").leader)
    assert waiting.result().leader.rev == again.result().leader.rev == revision


def test_an_observer_that_comes_late(asker: Asker) -> None:
    """E5: it begins with the leader of the moment and the header of that read."""
    election = Election(asker, b"late")
    won = election.campaign(0xABC, b"v")
    asker.kv.Put(rpc_pb2.PutRequest(key=b"other"))
    told = election.observe()
    assert seen(next(told)) == (b"late/abc", b"v", won.leader.rev + 1)
    assert election.proclaim(won.leader, b"v2") == won.leader.rev + 2
    assert seen(next(told)) == (b"late/abc", b"v2", won.leader.rev + 2)
    told.cancel()


def test_a_campaign_with_a_lease_that_is_not_there(asker: Asker) -> None:
    """spec/wire-api.md §5.2"""
    election = Election(asker, b"none")
    assert refusal(lambda: election.campaign(0x5555, b"v")) == (
        UNKNOWN,
        "etcdserver: requested lease not found",
    )
    assert asker.kvs(b"none/") == {}
