"""`python -m bench --cluster 3`: members of one kind beside members of the other, on one machine.

The same generator and the same table as for one member. What counts most on a busy machine is the
processor time that a put takes on the leader and on each follower.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import requests
from bench.load import Swarm, percentile
from bench.measures import Doubtful, Measure, Run, Sample
from bench.report import Figures
from bench.targets import SETTINGS, Target
from kvserver.proto import rpc_pb2 as rpc
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import (
    ServerProcess,
    etcd_server,
    free_port,
    keydeck_server,
    wait_until,
)

LEADER_SECONDS_MAX = 120.0
CONCURRENCIES = ((1, 64), (8, 8), (100, 10))
"""Connections and calls outstanding on each; one by one is a measure of its own."""


class ClusterTarget:
    """Some members that were founded together."""

    def __init__(self, label: str, servers: Sequence[ServerProcess]) -> None:
        self.label = label
        self.members = [Target(label, server) for server in servers]
        self.leader = self.members[0]

    def start(self) -> None:
        initial = ",".join(f"{m.server.name}={m.server.peer_url}" for m in self.members)
        for member in self.members:
            member.server.initial_cluster = initial
            member.server.spawn()
        for member in self.members:
            member.server.wait_ready()
            member.channel = member.server.channel()
        self.find_leader()

    def find_leader(self) -> None:
        found: list[Target] = []

        def agreed() -> bool:
            found.clear()
            told = [m.maintenance.Status(rpc.StatusRequest(), timeout=30) for m in self.members]
            leaders = {status.leader for status in told}
            found.extend(
                member
                for member, status in zip(self.members, told, strict=True)
                if {status.header.member_id} == leaders
            )
            return len(found) == 1

        wait_until(agreed, LEADER_SECONDS_MAX, "a leader that everybody knows")
        self.leader = found[0]

    @property
    def followers(self) -> list[Target]:
        return [member for member in self.members if member is not self.leader]

    def stop(self) -> None:
        for member in self.members:
            member.stop()


class Spent:
    """Processor time of leader and followers since this was made."""

    def __init__(self, target: ClusterTarget) -> None:
        self._target = target
        self._before = [member.cpu_seconds() for member in target.members]

    def per_call(self, calls: int) -> tuple[float, float]:
        """Of the leader, and of a follower on average."""
        target = self._target
        leader, followers = 0.0, 0.0
        for member, before in zip(target.members, self._before, strict=True):
            spent = (member.cpu_seconds() - before) / calls
            if member is target.leader:
                leader = spent
            else:
                followers += spent / len(target.followers)
        return leader, followers


def _one_by_one(is_at_leader: bool) -> Callable[[Run, ClusterTarget], Sample]:
    where = "leader" if is_at_leader else "follower"

    def measure(run: Run, target: ClusterTarget) -> Sample:
        count = run.scale.lone_puts
        member = target.leader if is_at_leader else target.followers[0]
        before = target.leader.revision()
        with Swarm(member.address, requests.PUT, 1) as swarm:
            swarm.prepare(requests.put_cycle(1000, count, b"/bench/lone/"))
            result = swarm.run_one_by_one()
        _check(target, before, count)
        return Sample(
            {
                f"put 1x1, {where}": result.rate,
                f"put p50, {where}": percentile(result.latencies, 0.50),
                f"put p99, {where}": percentile(result.latencies, 0.99),
            },
            result.generator_share,
        )

    return measure


def _many(connections: int, streams: int) -> Callable[[Run, ClusterTarget], Sample]:
    name = f"put {connections}x{streams}"

    def measure(run: Run, target: ClusterTarget) -> Sample:
        count = run.scale.puts
        before = target.leader.revision()
        first = run.fresh_keys(target.leader, count)
        with Swarm(target.leader.address, requests.PUT, connections) as swarm:
            swarm.prepare(requests.put_bodies(first, count, b"/bench/p/"))
            spent = Spent(target)
            result = swarm.run(streams)
        leader, follower = spent.per_call(count)
        _check(target, before, count)
        return Sample(
            {
                f"{name}, leader": result.rate,
                f"{name}, leader CPU": leader,
                f"{name}, follower CPU": follower,
            },
            result.generator_share,
        )

    return measure


def _check(target: ClusterTarget, before: int, count: int) -> None:
    written = target.leader.revision() - before
    if written != count:
        raise Doubtful(f"{target.label}: {count} writes raised the revision by {written}")


MEASURES = (
    Measure("put-alone-leader", _one_by_one(is_at_leader=True)),  # type: ignore[arg-type]
    Measure("put-alone-follower", _one_by_one(is_at_leader=False)),  # type: ignore[arg-type]
    *(
        Measure(f"put-{connections}x{streams}", _many(connections, streams))  # type: ignore[arg-type]
        for connections, streams in CONCURRENCIES
    ),
)


@contextlib.contextmanager
def running(
    reference: EtcdRelease, subject: EtcdRelease | None, count: int, data: Path
) -> Iterator[tuple[ClusterTarget, ClusterTarget]]:
    """`count` members of each kind."""

    def member(number: int, release: EtcdRelease | None, kind: str) -> ServerProcess:
        ports = {"client_port": free_port(), "peer_port": free_port(), "name": f"m{number}"}
        place = data / f"{kind}-{number}" / "data"
        if release is not None:
            return etcd_server(release, place, flags=SETTINGS, **ports)
        return keydeck_server(place, flags=(*SETTINGS, "--log-level=warn"), **ports)

    label = f"subject etcd {subject.version}" if subject else f"{count} x Keydeck"
    pair = (
        ClusterTarget(
            f"{count} x etcd {reference.version}",
            [member(number, reference, "reference") for number in range(count)],
        ),
        ClusterTarget(label, [member(number, subject, "subject") for number in range(count)]),
    )
    try:
        for target in pair:
            target.start()
        yield pair
    finally:
        for target in pair:
            target.stop()


def measure_clusters(
    run: Run,
    pair: tuple[ClusterTarget, ClusterTarget],
    run_measure: Callable[[Measure, Run, tuple[ClusterTarget, ClusterTarget], Figures], None],
) -> Figures:
    figures = Figures((pair[0].label, pair[1].label))
    for measure in MEASURES:
        print(measure.name, file=sys.stderr, flush=True)
        for target in pair:
            target.find_leader()
        run_measure(measure, run, pair, figures)
    load = os.getloadavg()[0]
    figures.notes.append(f"- the machine's load at the end: {load:.1f} on {os.cpu_count()} cores")
    return figures
