"""A member that takes nothing costs the leader a bounded queue (limits.py), whatever is written."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kvserver.limits import APPEND_BYTES_MAX, PEER_STREAM_BYTES_MAX
from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.cluster import ChaosMember, chaos_cluster
from tests.support.servers_proc import wait_until

pytestmark = pytest.mark.e2e
VALUE_BYTES = 500_000
WRITES = 320
AT_ONCE = 16
FLAGS = ("--snapshot-count=40", "--snapshot-catchup-entries=20", "--election-timeout=3000")
LOG_BYTES_MAX = 60 * VALUE_BYTES
"""Entries that are no longer shared with what is written unhindered: they may all be new ones."""
SLACK_BYTES = 40 * 1024 * 1024
GROWTH_BYTES_MAX = PEER_STREAM_BYTES_MAX + APPEND_BYTES_MAX + LOG_BYTES_MAX + SLACK_BYTES

assert VALUE_BYTES * WRITES > 1.3 * GROWTH_BYTES_MAX


def write_much(leader: ChaosMember) -> int:
    """Returns the most memory of its own that the leader had meanwhile, in bytes."""
    most = 0
    for _ in range(WRITES // AT_ONCE):
        calls = [
            leader.kv.Put.future(rpc.PutRequest(key=b"k%d" % n, value=bytes(VALUE_BYTES)))
            for n in range(AT_ONCE)
        ]
        for call in calls:
            call.result(timeout=60)
        most = max(most, leader.process.memory_bytes()["RssAnon"])
    return most


def test_a_stopped_member_costs_the_leader_a_bounded_queue(tmp_path: Path) -> None:
    """Compared with the same writes when all members take what they are sent."""
    with chaos_cluster(tmp_path, 3, flags=FLAGS) as cluster:
        wait_until(lambda: cluster.leader() is not None, 30, "a leader")
        leader = cluster.leader()
        assert leader is not None
        stopped = next(each for each in cluster.members if each is not leader)
        usual = write_much(leader)
        stopped.signal(signal.SIGSTOP)
        assert write_much(leader) - usual < GROWTH_BYTES_MAX
