"""etcd_server_*, etcd_cluster_*: raft and the server (spec/observability.md §2.1)."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from kvserver.config.values import GATES
from kvserver.metrics.registry import Family, Registry, Samples
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate
from kvserver.services.http import HealthCounters
from kvserver.version import SERVER_VERSION

if TYPE_CHECKING:
    from kvserver.runtime.member_loop import MemberLoop
    from kvserver.runtime.timed_applier import TimedApplier
    from kvserver.services.member_changes import MemberChanges


Figure = tuple[str, Literal["counter", "gauge"], str, Callable[[], float]]
"""Name, type, help text, and what the value is at the moment."""


def register_server(
    registry: Registry, member: MemberLoop, gate: Gate, health: HealthCounters
) -> None:
    for figure in (
        *_standing(member),
        *_proposals(member),
        *_slow(member),
        *_others(member, health),
    ):
        registry.single(*figure)
    for family in (
        *_identities(member),
        _cluster_version(member),
        _alarms(member),
        _client_requests(gate),
        *_healthchecks(health),
    ):
        registry.add(family)


def _standing(member: MemberLoop) -> Iterator[Figure]:
    """What this member is in its cluster."""
    yield (
        "etcd_server_has_leader",
        "gauge",
        "Whether or not a leader exists. 1 is existence, 0 is not.",
        lambda: int(member.has_leader),
    )
    yield (
        "etcd_server_is_leader",
        "gauge",
        "Whether or not this member is a leader. 1 if is, 0 otherwise.",
        lambda: int(member.is_leader),
    )
    yield (
        "etcd_server_is_learner",
        "gauge",
        "Whether or not this member is a learner. 1 if is, 0 otherwise.",
        lambda: int(member.is_learner),
    )
    yield (
        "etcd_server_leader_changes_seen_total",
        "counter",
        "The number of leader changes seen.",
        lambda: member.counters.leader_changes,
    )


def _proposals(member: MemberLoop) -> Iterator[Figure]:
    yield (
        "etcd_server_proposals_committed_total",
        "gauge",
        "The total number of consensus proposals committed.",
        lambda: member.raft_status().committed,
    )
    yield (
        "etcd_server_proposals_applied_total",
        "gauge",
        "The total number of consensus proposals applied.",
        lambda: member.applied_index,
    )
    yield (
        "etcd_server_proposals_pending",
        "gauge",
        "The current number of pending proposals to commit.",
        lambda: member.pending_proposals,
    )
    yield (
        "etcd_server_proposals_failed_total",
        "counter",
        "The total number of failed proposals seen.",
        lambda: member.counters.proposals_failed,
    )


def _slow(member: MemberLoop) -> Iterator[Figure]:
    """What came late or failed for coming too late."""
    counters = member.counters
    yield (
        "etcd_server_heartbeat_send_failures_total",
        "counter",
        "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
        lambda: counters.late_ticks,
    )
    yield (
        "etcd_server_slow_apply_total",
        "counter",
        "The total number of slow apply requests (likely overloaded from slow disk).",
        lambda: counters.slow_applies,
    )
    yield (
        "etcd_server_slow_read_indexes_total",
        "counter",
        "The total number of pending read indexes not in sync with leader's or timed out.",
        lambda: counters.slow_read_indexes,
    )
    yield (
        "etcd_server_read_indexes_failed_total",
        "counter",
        "The total number of failed read indexes seen.",
        lambda: counters.read_indexes_failed,
    )


def _others(member: MemberLoop, health: HealthCounters) -> Iterator[Figure]:
    yield (
        "etcd_server_quota_backend_bytes",
        "gauge",
        "Current backend storage quota size in bytes.",
        lambda: max(member.quota_bytes, 0),
    )
    yield (
        "etcd_server_health_success",
        "counter",
        "The total number of successful health checks",
        lambda: health.success,
    )
    yield (
        "etcd_server_health_failures",
        "counter",
        "The total number of failed health checks",
        lambda: health.failures,
    )
    yield (
        "etcd_debugging_auth_revision",
        "gauge",
        "The current revision of auth store.",
        lambda: member.applier.auth.store.revision,
    )


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


def register_features(registry: Registry, gates: Mapping[str, bool]) -> None:
    def samples() -> Samples:
        for name, is_on in gates.items():
            yield {"name": name, "stage": "BETA" if GATES[name] else "ALPHA"}, int(is_on)

    registry.add(
        Family(
            "etcd_server_feature_enabled",
            "gauge",
            "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
            samples,
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


def _identities(member: MemberLoop) -> Iterator[Family]:
    """Who and what this is: the label says it, the value is 1."""
    for name, label, value, help_text in (
        (
            "etcd_server_version",
            "server_version",
            SERVER_VERSION,
            "Which version is running. 1 for 'server_version' label with current version.",
        ),
        (
            "etcd_server_go_version",
            "server_go_version",
            f"python{platform.python_version()}",
            "Which runtime the server is running with. 1 for the current one.",
        ),
        (
            "etcd_server_id",
            "server_id",
            f"{member.member_id:x}",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
        ),
    ):
        samples = (({label: value}, 1),)
        yield Family(name, "gauge", help_text, lambda samples=samples: samples)  # type: ignore[misc]


def _cluster_version(member: MemberLoop) -> Family:
    def samples() -> Samples:
        version = member.membership.version
        if version:
            yield {"cluster_version": version.rpartition(".")[0]}, 1

    return Family(
        "etcd_cluster_version",
        "gauge",
        "Which version is running. 1 for 'cluster_version' label with current cluster version",
        samples,
    )


def _alarms(member: MemberLoop) -> Family:
    def samples() -> Samples:
        for owner, kind in member.alarms.pairs():
            name = rpc_pb2.AlarmType.Name(kind)
            yield {"server_id": f"{owner:x}", "alarm_type": name}, 1

    return Family(
        "etcd_debugging_server_alarms",
        "gauge",
        "Alarms for every member in cluster. 1 for 'server_id' label with current ID.",
        samples,
    )


def _client_requests(gate: Gate) -> Family:
    def samples() -> Samples:
        for kind, version, count in gate.client_requests():
            yield {"type": kind, "client_api_version": version}, count

    return Family(
        "etcd_server_client_requests_total",
        "counter",
        "The total number of client requests per client version.",
        samples,
    )


def _healthchecks(health: HealthCounters) -> Iterator[Family]:
    def last() -> Samples:
        for (root, name), value in health.last.items():
            yield {"type": root, "name": name}, value

    def total() -> Samples:
        for (root, name, status), count in health.checks.items():
            yield {"type": root, "name": name, "status": status}, count

    yield Family(
        "etcd_server_healthcheck", "gauge", "The result of each kind of healthcheck.", last
    )
    yield Family(
        "etcd_server_healthchecks_total",
        "counter",
        "The total number of each kind of healthcheck.",
        total,
    )
