"""A leader that is asked to end leaves another one in its place first (spec/cluster.md §4).

How long clients went without an acknowledged write is printed, and by `make chaos` as "farewell".
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos.cluster import ChaosCluster, ChaosMember, chaos_cluster
from tests.support.chaos.load import Book, start_clients
from tests.support.cluster_proc import CALM
from tests.support.linearizability import Operation
from tests.support.servers_proc import wait_until

pytestmark = pytest.mark.e2e
WRITES = 100
EXIT_SECONDS_MAX = 120.0


def log_lines(member: ChaosMember, message: str) -> list[dict[str, Any]]:
    lines = map(json.loads, member.process.log_path.read_text().splitlines())
    return [line for line in lines if line["msg"] == message]


def leader_of(cluster: ChaosCluster) -> ChaosMember:
    wait_until(lambda: cluster.leader() is not None, EXIT_SECONDS_MAX, "a leader")
    leader = cluster.leader()
    assert leader is not None
    return leader


def longest_silence(operations: list[Operation]) -> float:
    moments = sorted(each.completed or 0.0 for each in operations if each.has_changed)
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def test_clients_hardly_notice_that_the_leader_ends(tmp_path: Path) -> None:
    with chaos_cluster(tmp_path, 3, flags=CALM) as cluster:
        leader, book, stopping = leader_of(cluster), Book(), threading.Event()
        clients = start_clients(cluster, book, 1, stopping)
        try:
            wait_until(lambda: book.acknowledged > WRITES, EXIT_SECONDS_MAX, "some writes")
            leader.signal(signal.SIGTERM)
            assert leader.process.wait_exit(EXIT_SECONDS_MAX) == 0
            ended = book.now()
            goal = book.acknowledged + WRITES
            wait_until(
                lambda: book.acknowledged > goal, EXIT_SECONDS_MAX, "writes under the new leader"
            )
        finally:
            stopping.set()
            for client in clients:
                client.join(EXIT_SECONDS_MAX)
        (finished,) = log_lines(leader, "leadership transfer finished")
        survivors = [member for member in cluster.members if member is not leader]
        leaders = {f"{member.status().leader:x}" for member in survivors}
        assert leaders == {finished["target-member-id"]}, "moved before it ended, and not again"
        operations = book.take()
        late = [
            each
            for each in operations
            if each.invoked > ended
            and not each.response
            and not each.member.startswith(leader.name)
        ]
        assert not late, "whoever asks another member is served at once"
        print(f"no write for {longest_silence(operations):.3f} s at most")
