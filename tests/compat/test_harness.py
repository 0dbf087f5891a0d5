"""The harness of `test_differential` tried on itself: no false alarms, no blindness."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.compat import differences
from tests.compat.compare import Outcome, stream_story
from tests.compat.conftest import StartMember
from tests.compat.driver import KV, LEASE, Driver
from tests.compat.operations import SHORT_LEASE, Generator, World
from tests.compat.runner import Comparison
from tests.support.etcd_binaries import EtcdRelease

OPERATIONS = 1500


def test_one_seed_is_one_sequence() -> None:
    assert Generator(7).batch(300) == Generator(7).batch(300)
    assert Generator(7).batch(300) != Generator(8).batch(300)


def test_a_backported_behaviour_belongs_to_its_line_and_to_newer_lines() -> None:
    since = ((3, 4, 27), (3, 5, 10))
    having = [differences.has(v, since) for v in ((3, 4, 26), (3, 4, 27), (3, 5, 9), (3, 7, 0))]
    assert having == [False, True, False, True]


def test_rules_cite_the_specification_and_apply_between_releases_only() -> None:
    assert all(rule.name.startswith("spec/") for rule in differences.RULES)
    always = [rule.name for rule in differences.between("3.5.1", "3.5.1")]
    assert always == ["spec/kv.md R8", "spec/lease.md E1"]
    assert "spec/kv.md R11" in [r.name for r in differences.between("3.5.1", "3.7.1")]


def test_equal_sort_fields_are_levelled_but_not_unequal_ones() -> None:
    request = rpc.RangeRequest(key=b"a", range_end=b"z", sort_target=rpc.RangeRequest.VERSION)

    def outcome(*kvs: tuple[bytes, int]) -> Outcome:
        reply = rpc.RangeResponse(count=len(kvs))
        for key, version in kvs:
            reply.kvs.add(key=key, version=version)
        return Outcome(0, "", reply)

    def same(one: Outcome, other: Outcome) -> bool:
        return differences.ties(differences.Case(KV + "Range", request, one, other, World()))

    assert same(outcome((b"a", 1), (b"b", 1)), outcome((b"b", 1), (b"a", 1)))
    assert not same(outcome((b"a", 1), (b"b", 1)), outcome((b"a", 1), (b"c", 1)))
    assert not same(outcome((b"a", 1), (b"b", 2)), outcome((b"a", 1), (b"b", 3)))


def test_only_a_short_lease_may_be_over_on_one_side() -> None:
    def may(lease: int, one: Outcome, other: Outcome) -> bool:
        request = rpc.LeaseRevokeRequest(ID=lease)
        case = differences.Case(LEASE + "LeaseRevoke", request, one, other, World())
        return differences.short_lease_over(case)

    done = Outcome(0, "", rpc.LeaseRevokeResponse())
    gone = Outcome(*differences.LEASE_NOT_FOUND, rpc.LeaseRevokeResponse())
    assert may(SHORT_LEASE, done, gone) and may(SHORT_LEASE, gone, done)
    assert not may(7, done, gone)
    assert not may(SHORT_LEASE, done, Outcome(13, "", rpc.LeaseRevokeResponse()))


def test_a_split_revision_is_a_complaint() -> None:
    responses = []
    for key in (b"a", b"b"):
        response = rpc.WatchResponse(header=rpc.ResponseHeader(revision=5))
        response.events.add().kv.CopyFrom(rpc_kv(key, 5))
        responses.append(response.SerializeToString())
    assert "went back" in stream_story(responses, "s").complaints[0]
    assert not stream_story(responses[:1], "s").complaints


def rpc_kv(key: bytes, revision: int) -> Any:
    reply = rpc.RangeResponse()
    reply.kvs.add(key=key, mod_revision=revision)
    return reply.kvs[0]


@pytest.mark.compat
@pytest.mark.e2e
def test_etcd_equals_itself(release35: EtcdRelease, start_etcd: StartMember) -> None:
    one, other = start_etcd(release35), start_etcd(release35)
    report = Comparison(one.endpoint, other.endpoint, seed=3).run(OPERATIONS)
    assert not report.differences, str(report)


@pytest.mark.compat
@pytest.mark.e2e
def test_a_planted_difference_is_found(release35: EtcdRelease, start_etcd: StartMember) -> None:
    one, other = start_etcd(release35), start_etcd(release35)

    def forget_a_version(operations: list[Any], answers: list[Any]) -> None:
        for number, (operation, answer) in enumerate(zip(operations, answers, strict=True)):
            if operation[0] == "call" and operation[1] == KV + "Range" and not answer[0]:
                reply = rpc.RangeResponse.FromString(answer[2])
                if reply.kvs and reply.kvs[0].version > 1:
                    reply.kvs[0].version -= 1
                    answers[number] = (0, "", reply.SerializeToString())
                    return

    comparison = Comparison(one.endpoint, other.endpoint, seed=3, plant=forget_a_version)
    report = comparison.run(OPERATIONS)
    assert len(report.differences) == 1
    told = str(report.differences[0])
    assert "/etcdserverpb.KV/Range" in told
    # Asked again both say the same, which is not what was planted.
    afterwards = [line.partition("afterwards: ")[2] for line in told.splitlines()[-2:]]
    assert afterwards[0] == afterwards[1] != ""


@pytest.mark.compat
@pytest.mark.e2e
def test_a_write_on_one_side_only_is_found(release35: EtcdRelease, start_etcd: StartMember) -> None:
    """A lost or added write shows in revisions, watches and the hash."""
    one, other = start_etcd(release35), start_etcd(release35)
    driver = Driver(other.endpoint)
    driver.do_call(KV + "Put", rpc.PutRequest(key=b"a", value=b"more").SerializeToString())
    driver.close()
    comparison = Comparison(one.endpoint, other.endpoint, seed=3, watch_seconds_max=0.1)
    assert comparison.run(OPERATIONS).differences
