"""etcd_server_*, etcd_cluster_*: raft and the server (spec/observability.md §2.1)."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from kvserver.metrics.registry import Family, Registry, Samples
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate
from kvserver.services.http import HealthCounters
from kvserver.version import SERVER_VERSION

if TYPE_CHECKING:
    from kvserver.runtime.member_loop import MemberLoop
    from kvserver.runtime.timed_applier import TimedApplier
    from kvserver.services.member_changes import MemberChanges


def register_server(
    registry: Registry, member: MemberLoop, gate: Gate, health: HealthCounters
) -> None:
    single = registry.single
    single(
        "etcd_server_has_leader",
        "gauge",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        lambda: int(member.has_leader),
    )
    single(
        "etcd_server_is_leader",
        "gauge",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        lambda: int(member.is_leader),
    )
    single(
        "etcd_server_is_learner",
        "gauge",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        lambda: int(member.is_learner),
    )
    single(
        "etcd_server_leader_changes_seen_total",
        "counter",
        "The number of leader changes seen.",
        lambda: member.counters.leader_changes,
    )
    single(
        "etcd_server_proposals_committed_total",
        "gauge",
        "The total number of consensus proposals committed.",
        lambda: member.raft_status().committed,
    )
    single(
        "etcd_server_proposals_applied_total",
        "gauge",
        "The total number of consensus proposals applied.",
        lambda: member.applied_index,
    )
    single(
        "etcd_server_proposals_pending",
        "gauge",
        "The current number of pending proposals to commit.",
        lambda: member.pending_proposals,
    )
    single(
        "etcd_server_proposals_failed_total",
        "counter",
        "The total number of failed proposals seen.",
        lambda: member.counters.proposals_failed,
    )
    single(
        "etcd_server_heartbeat_send_failures_total",
        "counter",
        "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
        lambda: member.counters.late_ticks,
    )
    single(
        "etcd_server_slow_apply_total",
        "counter",
        "The total number of slow apply requests (likely overloaded from slow disk).",
        lambda: member.counters.slow_applies,
    )
    single(
        "etcd_server_slow_read_indexes_total",
        "counter",
        "The total number of pending read indexes not in sync with leader's or timed out.",
        lambda: member.counters.slow_read_indexes,
    )
    single(
        "etcd_server_read_indexes_failed_total",
        "counter",
        "The total number of failed read indexes seen.",
        lambda: member.counters.read_indexes_failed,
    )
    single(
        "etcd_server_quota_backend_bytes",
        "gauge",
        "Current backend storage quota size in bytes.",
        lambda: max(member.quota_bytes, 0),
    )
    single(
        "etcd_server_health_success",
        "counter",
        "The total number of successful health checks",
        lambda: health.success,
    )
    single(
        "etcd_server_health_failures",
        "counter",
        "The total number of failed health checks",
        lambda: health.failures,
    )
    single(
        "etcd_debugging_auth_revision",
        "gauge",
        "The current revision of auth store.",
        lambda: member.applier.auth.store.revision,
    )
    _register_labelled_server(registry, member, gate, health)


def register_promotions(registry: Registry, changes: MemberChanges) -> None:
    registry.single(
        "etcd_server_learner_promote_successes",
        "counter",
        "The total number of successful learner promotions while this member is leader.",
        lambda: changes.promote_successes,
    )

    def failures() -> Samples:
        for reason, count in changes.promote_failures.items():
            yield {"Reason": reason}, count

    registry.add(
        Family(
            "etcd_server_learner_promote_failures",
            "counter",
            "The total number of failed learner promotions (likely learner not ready) while this "
            "member is leader.",
            failures,
        )
    )


def register_apply_times(registry: Registry, applier: TimedApplier) -> None:
    """Only with `--metrics=extensive`."""
    registry.add(
        Family(
            "etcd_server_apply_duration_seconds",
            "histogram",
            "The latency distributions of v3 apply called by backend.",
            applier.times,
        )
    )


def _register_labelled_server(
    registry: Registry, member: MemberLoop, gate: Gate, health: HealthCounters
) -> None:
    def constant(name: str, label: str, value: str, help_text: str) -> None:
        registry.add(Family(name, "gauge", help_text, lambda: (({label: value}, 1),)))

    constant(
        "etcd_server_version",
        "server_version",
        SERVER_VERSION,
        "Which version is running. 1 for 'server_version' label with current version.",
    )
    constant(
        "etcd_server_go_version",
        "server_go_version",
        f"python{platform.python_version()}",
        "Which runtime the server is running with. 1 for the current one.",
    )
    constant(
        "etcd_server_id",
        "server_id",
        f"{member.member_id:x}",
        "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
    )

    def cluster_version() -> Samples:
        version = member.membership.version
        if version:
            yield {"cluster_version": version.rpartition(".")[0]}, 1

    def client_requests() -> Samples:
        for kind, version, count in gate.client_requests():
            yield {"type": kind, "client_api_version": version}, count

    def healthcheck() -> Samples:
        for (root, name), value in health.last.items():
            yield {"type": root, "name": name}, value

    def healthchecks() -> Samples:
        for (root, name, status), count in health.checks.items():
            yield {"type": root, "name": name, "status": status}, count

    def alarms() -> Samples:
        for owner, kind in member.alarms.pairs():
            name = rpc_pb2.AlarmType.Name(kind)
            yield {"server_id": f"{owner:x}", "alarm_type": name}, 1

    for family in (
        Family(
            "etcd_cluster_version",
            "gauge",
            "Which version is running. 1 for 'cluster_version' label with current cluster version",
            cluster_version,
        ),
        Family(
            "etcd_server_client_requests_total",
            "counter",
            "The total number of client requests per client version.",
            client_requests,
        ),
        Family(
            "etcd_server_healthcheck",
            "gauge",
            "The result of each kind of healthcheck.",
            healthcheck,
        ),
        Family(
            "etcd_server_healthchecks_total",
            "counter",
            "The total number of each kind of healthcheck.",
            healthchecks,
        ),
        Family(
            "etcd_debugging_server_alarms",
            "gauge",
            "Alarms for every member in cluster. 1 for 'server_id' label with current ID.",
            alarms,
        ),
    ):
        registry.add(family)
