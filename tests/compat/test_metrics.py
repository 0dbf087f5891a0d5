"""/metrics beside that of real etcds: every family of theirs that can mean something here is here,
with its type, its labels and its buckets (spec/observability.md §2). And every name that the
official alert rules and dashboards ask for resolves (§2.8).
"""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass, field

import grpc
import pytest

from kvserver.proto import rpc_pb2, rpc_pb2_grpc
from tests.compat.conftest import StartMember
from tests.support.etcd_binaries import EtcdRelease

pytestmark = [pytest.mark.compat, pytest.mark.e2e]

LEFT_OUT = {
    "go_": "the Go runtime",
    "promhttp_": "the library that serves etcd's page",
    "etcd_debugging_disk_backend_commit_": "phases of a bbolt commit, which LMDB does not have",
    "etcd_debugging_store_": "the store of the v2 API",
    "etcd_grpc_proxy_": "etcd's grpc-proxy is another program",
    "etcd_debugging_snap_save_marshalling_": "not a step of its own here",
    "etcd_snap_db_": "not measured here: a received database is converted, not saved as it came",
}

NEWEST = {
    "gauge": """
        etcd_cluster_version etcd_disk_defrag_inflight etcd_disk_wal_write_bytes_total
        etcd_mvcc_db_open_read_transactions etcd_mvcc_db_total_size_in_bytes
        etcd_mvcc_db_total_size_in_use_in_bytes etcd_network_active_peers
        etcd_network_known_peers etcd_network_snapshot_receive_inflights_total
        etcd_network_snapshot_send_inflights_total etcd_server_feature_enabled
        etcd_server_go_version etcd_server_has_leader etcd_server_healthcheck etcd_server_id
        etcd_server_is_leader etcd_server_is_learner etcd_server_proposals_applied_total
        etcd_server_proposals_committed_total etcd_server_proposals_pending
        etcd_server_quota_backend_bytes etcd_server_snapshot_apply_in_progress_total
        etcd_server_version os_fd_limit os_fd_used
    """,
    "counter": """
        etcd_mvcc_delete_total etcd_mvcc_put_total etcd_mvcc_range_total etcd_mvcc_txn_total
        etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
        etcd_network_disconnected_peers_total etcd_network_peer_received_bytes_total
        etcd_network_peer_received_failures_total etcd_network_peer_sent_bytes_total
        etcd_network_peer_sent_failures_total etcd_network_server_stream_failures_total
        etcd_network_snapshot_receive_failures etcd_network_snapshot_receive_success
        etcd_network_snapshot_send_failures etcd_network_snapshot_send_success
        etcd_server_client_requests_total etcd_server_health_failures etcd_server_health_success
        etcd_server_healthchecks_total etcd_server_heartbeat_send_failures_total
        etcd_server_leader_changes_seen_total etcd_server_learner_promote_failures
        etcd_server_learner_promote_successes etcd_server_proposals_failed_total
        etcd_server_read_indexes_failed_total etcd_server_slow_apply_total
        etcd_server_slow_read_indexes_total
    """,
    "histogram": """
        etcd_disk_backend_commit_duration_seconds etcd_disk_backend_defrag_duration_seconds
        etcd_disk_backend_snapshot_duration_seconds etcd_disk_wal_fsync_duration_seconds
        etcd_disk_wal_write_duration_seconds etcd_mvcc_hash_duration_seconds
        etcd_mvcc_hash_rev_duration_seconds etcd_network_peer_round_trip_time_seconds
        etcd_network_snapshot_receive_total_duration_seconds
        etcd_network_snapshot_send_total_duration_seconds etcd_server_apply_duration_seconds
        etcd_server_range_duration_seconds etcd_server_request_duration_seconds
        etcd_snap_db_fsync_duration_seconds etcd_snap_db_save_total_duration_seconds
        etcd_snap_fsync_duration_seconds
    """,
}
"""What releases up to 3.7 serve, by type (spec/wire-api.md §6.5)."""
NOT_MEASURED = {
    "etcd_server_range_duration_seconds": "a histogram per range would be felt by every range",
    "etcd_network_server_stream_failures_total": "grpc_server_handled_total counts them by code",
    "etcd_server_request_duration_seconds": "grpc_server_handling_seconds says it, if asked for",
}

ALERTS = {
    "etcdMembersDown": ("up", "etcd_network_peer_sent_failures_total"),
    "etcdInsufficientMembers": ("up",),
    "etcdNoLeader": ("etcd_server_has_leader",),
    "etcdHighNumberOfLeaderChanges": ("etcd_server_leader_changes_seen_total",),
    "etcdHighNumberOfFailedGRPCRequests": ("grpc_server_handled_total",),
    "etcdGRPCRequestsSlow": ("grpc_server_handling_seconds_bucket",),
    "etcdMemberCommunicationSlow": ("etcd_network_peer_round_trip_time_seconds_bucket",),
    "etcdHighNumberOfFailedProposals": ("etcd_server_proposals_failed_total",),
    "etcdHighFsyncDurations": ("etcd_disk_wal_fsync_duration_seconds_bucket",),
    "etcdHighCommitDurations": ("etcd_disk_backend_commit_duration_seconds_bucket",),
    "etcdDatabaseQuotaLowSpace": (
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_quota_backend_bytes",
    ),
    "etcdExcessiveDatabaseGrowth": (
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_quota_backend_bytes",
    ),
    "etcdDatabaseHighFragmentationRatio": (
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_mvcc_db_total_size_in_bytes",
    ),
}
DASHBOARD = (
    "etcd_server_has_leader",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_debugging_mvcc_db_total_size_in_bytes",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "process_resident_memory_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_leader_changes_seen_total",
    "etcd_network_peer_round_trip_time_seconds_bucket",
)
FROM_PROMETHEUS_ITSELF = {"up"}
WITH_PEERS_ONLY = "etcd_network_peer_"


@dataclass
class Shape:
    """One family as it stands on the page."""

    kind: str
    labels: set[str] = field(default_factory=set)
    buckets: list[float] = field(default_factory=list)
    samples: set[str] = field(default_factory=set)


def families(port: int) -> dict[str, Shape]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, Shape] = {}
    shape = Shape("")
    for line in lines:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in found, f"{name} stands twice"
            shape = found[name] = Shape(kind)
        elif not line.startswith("#"):
            labels = re.findall(r'(\w+)="([^"]*)"', line)
            shape.samples.add(re.split(r"[{ ]", line)[0])
            shape.labels.update(name for name, _ in labels)
            shape.buckets += [float(value) for name, value in labels if name == "le"]
    return found


def touch(port: int) -> None:
    """A little of everything, so that what is shown after its first use is shown."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        kv, leases = rpc_pb2_grpc.KVStub(channel), rpc_pb2_grpc.LeaseStub(channel)
        kv.Put(rpc_pb2.PutRequest(key=b"a", value=b"b"))
        kv.Range(rpc_pb2.RangeRequest(key=b"a"))
        leases.LeaseGrant(rpc_pb2.LeaseGrantRequest(TTL=60))
        rpc_pb2_grpc.MaintenanceStub(channel).HashKV(rpc_pb2.HashKVRequest())


def test_every_family_of_etcd_is_here(
    release: EtcdRelease, start_etcd: StartMember, start_subject: StartMember
) -> None:
    ports = []
    for member in (
        start_etcd(release, flags=["--metrics=extensive"]),
        start_subject(flags=["--metrics=extensive"]),
    ):
        touch(member.client_port)
        ports.append(member.client_port)
    theirs, ours = map(families, ports)
    wanted = [name for name in theirs if not name.startswith(tuple(LEFT_OUT))]
    assert len(wanted) > 50
    problems = []
    for name in wanted:
        if name not in ours:
            problems.append(f"{name} is missing")
            continue
        his, mine = theirs[name], ours[name]
        if his.kind != mine.kind:
            problems.append(f"{name} is a {mine.kind}, not a {his.kind}")
        if his.labels != mine.labels:
            problems.append(f"{name} has labels {mine.labels}, not {his.labels}")
        if set(his.buckets) != set(mine.buckets):
            problems.append(f"{name} has buckets {set(mine.buckets) ^ set(his.buckets)}")
    assert problems == []


def test_alert_rules_and_dashboards_find_their_names(start_subject: StartMember) -> None:
    member = start_subject(flags=["--metrics=extensive"])
    touch(member.client_port)
    ours = families(member.client_port)
    wanted = {name: kind for kind, names in NEWEST.items() for name in names.split()}
    assert len(wanted) == 69
    left_out = (*LEFT_OUT, *NOT_MEASURED)
    there = {name: kind for name, kind in wanted.items() if not name.startswith(left_out)}
    assert there == {name: ours[name].kind for name in there if name in ours}
    samples = {
        name for shape in families(member.client_port).values() for name in shape.samples
    } | FROM_PROMETHEUS_ITSELF
    asked = {name for names in (*ALERTS.values(), DASHBOARD) for name in names}
    assert {name for name in asked - samples if not name.startswith(WITH_PEERS_ONLY)} == set()
