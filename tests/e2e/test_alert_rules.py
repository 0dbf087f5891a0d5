"""The official alert rules, evaluated on what three members tell Prometheus (spec/observability.md
§2.8 and case 17): none fires while the cluster is well, and the loss of a member does.

A rule here is its expression as Python over two scrapes of each member. Rules about how long
something takes are asked for a number only: this machine may be as slow as it likes.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.cluster_proc import CALM, KEYDECK, Cluster, ClusterMember, cluster_of
from tests.support.servers_proc import wait_until

pytestmark = pytest.mark.e2e

SECONDS_MAX = 120.0
SECONDS_BETWEEN = 60.0
"""The time that is said to lie between two scrapes; rates are counted over it."""
Labels = tuple[tuple[str, str], ...]
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Scrape:
    """A member's page, or the news that there is none."""

    is_up: bool = False
    samples: dict[str, dict[Labels, float]] = field(default_factory=lambda: defaultdict(dict))

    def one(self, name: str) -> float:
        (value,) = self.samples[name].values()
        return value


def scrape(member: ClusterMember) -> Scrape:
    found = Scrape()
    try:
        page = member.process.http_get("/metrics")
    except OSError:
        return found
    found.is_up = True
    for line in page.splitlines():
        match = _SAMPLE.match(line)
        if match is not None:
            labels = tuple(_LABEL.findall(match[2] or ""))
            found.samples[match[1]][labels] = float(match[3])
    return found


@dataclass
class Pair:
    """One member at two times."""

    before: Scrape
    after: Scrape

    def increase(self, name: str, **wanted: str) -> float:
        """Of all samples with these labels, summed."""
        return sum(
            value - self.before.samples[name].get(labels, 0.0)
            for labels, value in self.after.samples[name].items()
            if wanted.items() <= dict(labels).items()
        )

    def rate(self, name: str, **wanted: str) -> float:
        return self.increase(name, **wanted) / SECONDS_BETWEEN

    def values(self, name: str, label: str) -> set[str]:
        return {dict(labels)[label] for labels in self.after.samples[name]}

    def quantile(self, share: float, name: str, **wanted: str) -> float:
        """Prometheus' histogram_quantile; NaN where nothing was observed."""
        buckets = sorted(
            (float(bound), self.increase(f"{name}_bucket", le=bound, **wanted))
            for bound in self.values(f"{name}_bucket", "le")
        )
        total = buckets[-1][1]
        if not total:
            return math.nan
        lower, below = 0.0, 0.0
        for bound, count in buckets:
            if count >= share * total:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (share * total - below) / (count - below)
            lower, below = bound, count
        raise AssertionError("the last bucket holds everything")


BAD_CODES = (
    "Unknown",
    "FailedPrecondition",
    "ResourceExhausted",
    "Internal",
    "Unavailable",
    "DataLoss",
    "DeadlineExceeded",
)


def failing_methods(pairs: list[Pair]) -> Iterator[str]:
    for pair in (pair for pair in pairs if pair.after.is_up):
        name = "grpc_server_handled_total"
        for method in pair.values(name, "grpc_method"):
            bad = sum(pair.rate(name, grpc_method=method, grpc_code=code) for code in BAD_CODES)
            if bad and bad / pair.rate(name, grpc_method=method) > 0.01:
                yield method


def up(pairs: list[Pair]) -> int:
    return sum(pair.after.is_up for pair in pairs)


def any_of(*conditions: Callable[[Pair], bool]) -> Callable[[list[Pair]], bool]:
    def asked(pairs: list[Pair]) -> bool:
        return any(
            condition(pair) for pair in pairs if pair.after.is_up for condition in conditions
        )

    return asked


TOTAL, IN_USE = "etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes"
QUOTA = "etcd_server_quota_backend_bytes"
RULES: dict[str, Callable[[list[Pair]], bool]] = {
    "etcdMembersDown": lambda pairs: (
        up(pairs) < len(pairs)
        or any(pair.rate("etcd_network_peer_sent_failures_total") > 0.01 for pair in pairs)
    ),
    "etcdInsufficientMembers": lambda pairs: up(pairs) < (len(pairs) + 1) / 2,
    "etcdNoLeader": any_of(lambda pair: pair.after.one("etcd_server_has_leader") == 0),
    "etcdHighNumberOfLeaderChanges": any_of(
        lambda pair: pair.increase("etcd_server_leader_changes_seen_total") >= 4
    ),
    "etcdHighNumberOfFailedGRPCRequests": lambda pairs: any(failing_methods(pairs)),
    "etcdHighNumberOfFailedProposals": any_of(
        lambda pair: pair.rate("etcd_server_proposals_failed_total") > 5
    ),
    "etcdDatabaseQuotaLowSpace": any_of(
        lambda pair: pair.after.one(TOTAL) / pair.after.one(QUOTA) > 0.95
    ),
    "etcdExcessiveDatabaseGrowth": any_of(
        lambda pair: pair.after.one(TOTAL) + pair.rate(TOTAL) * 4 * 3600 > pair.after.one(QUOTA)
    ),
    "etcdDatabaseHighFragmentationRatio": any_of(
        lambda pair: (
            pair.after.one(IN_USE) / pair.after.one(TOTAL) < 0.5
            and pair.after.one(IN_USE) > 100 * 2**20
        )
    ),
}
TIMES = {
    "etcdGRPCRequestsSlow": ("grpc_server_handling_seconds", {"grpc_type": "unary"}),
    "etcdMemberCommunicationSlow": ("etcd_network_peer_round_trip_time_seconds", {}),
    "etcdHighFsyncDurations": ("etcd_disk_wal_fsync_duration_seconds", {}),
    "etcdHighCommitDurations": ("etcd_disk_backend_commit_duration_seconds", {}),
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    flags = (*CALM, "--metrics=extensive")
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=flags) as three:
        yield three


def test_who_is_alerted(cluster: Cluster) -> None:
    cluster.leader()

    def is_whole() -> bool:
        pages = [scrape(member) for member in cluster.members]
        return all(sum(p.samples["etcd_network_active_peers"].values()) == 2 for p in pages)

    wait_until(is_whole, SECONDS_MAX, "everybody reaches everybody")
    before = [scrape(member) for member in cluster.members]
    assert sum(page.one("etcd_server_is_leader") for page in before) == 1  # case 7
    for number in range(30):
        cluster[number % 3].put(b"k%d" % number, b"v")
        assert cluster[(number + 1) % 3].get(b"k%d" % number) == b"v"

    def pairs() -> list[Pair]:
        return [Pair(*both) for both in zip(before, map(scrape, cluster.members), strict=True)]

    def times() -> dict[str, list[float]]:
        return {
            rule: [pair.quantile(0.99, name, **labels) for pair in pairs()]
            for rule, (name, labels) in TIMES.items()
        }

    # Members ask each other for their round trip every few seconds.
    wait_until(
        lambda: all(value > 0 for values in times().values() for value in values),
        SECONDS_MAX,
        "every rule about time has a number",
    )
    assert {rule for rule, fires in RULES.items() if fires(pairs())} == set()

    cluster.followers()[0].process.kill()
    assert {rule for rule, fires in RULES.items() if fires(pairs())} == {"etcdMembersDown"}
    assert RULES["etcdNoLeader"]([Pair(before[0], without_leader(before[0]))])


def without_leader(page: Scrape) -> Scrape:
    changed = Scrape(True, defaultdict(dict, page.samples))
    changed.samples["etcd_server_has_leader"] = {(): 0.0}
    return changed
