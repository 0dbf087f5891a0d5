"""The metrics of this member, under the names that etcd's dashboards and alert rules use
(spec/observability.md §2). Each is read from plain counters when the page is asked for.
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvserver.metrics.registry import Family, Registry, Samples
from kvserver.proto import rpc_pb2
from kvserver.services.gate import Gate
from kvserver.services.grpc_metrics import register_grpc
from kvserver.services.http import HealthCounters
from kvserver.transport import Method
from kvserver.transport import Server as Transport
from kvserver.version import SERVER_VERSION

if TYPE_CHECKING:
    from kvserver.runtime.duties import Duties
    from kvserver.runtime.member_loop import MemberLoop
    from kvserver.runtime.storage_duty import StorageDuty

PAGE_BYTES = resource.getpagesize()


def register_metrics(
    registry: Registry,
    *,
    member: MemberLoop,
    storage: StorageDuty,
    duties: Duties,
    gate: Gate,
    health: HealthCounters,
    transport: Transport,
    methods: Sequence[Method],
) -> None:
    """Fill the registry."""
    _register_server(registry, member, gate, health)
    _register_disk(registry, storage)
    _register_mvcc(registry, member, storage)
    _register_leases(registry, member)
    _register_process(registry)
    register_grpc(registry, transport, methods)
    registry.single(
        "keydeck_loop_lag_seconds_max",
        "gauge",
        "The longest pause of the event loop in the last minute.",
        lambda: duties.lag.max_seconds,
    )
    registry.single(
        "keydeck_loop_lag_seconds",
        "histogram",
        "Pauses of the event loop, probed every 10 ms.",
        lambda: duties.lag.histogram,
    )


def _register_server(
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
    single(
        "etcd_server_snapshot_apply_in_progress_total",
        "gauge",
        "1 if the server is applying the incoming snapshot. 0 if none.",
        lambda: 0,
    )
    _register_labelled_server(registry, member, gate, health)


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


def _register_disk(registry: Registry, storage: StorageDuty) -> None:
    figures = storage.figures
    for name, histogram, help_text in (
        (
            "etcd_disk_wal_fsync_duration_seconds",
            figures.wal_fsync,
            "The latency distributions of fsync called by WAL.",
        ),
        (
            "etcd_disk_wal_write_duration_seconds",
            figures.wal_fsync,
            "The latency distributions of write called by WAL (one call writes and syncs).",
        ),
        (
            "etcd_disk_backend_commit_duration_seconds",
            figures.backend_commit,
            "The latency distributions of commit called by backend.",
        ),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            figures.defragment,
            "The latency distribution of backend defragmentation.",
        ),
        (
            "etcd_snap_fsync_duration_seconds",
            figures.snapshot_save,
            "The latency distributions of fsync called by snap.",
        ),
    ):
        registry.single(name, "histogram", help_text, lambda histogram=histogram: histogram)  # type: ignore[misc]
    registry.single(
        "etcd_disk_wal_write_bytes_total",
        "gauge",
        "Total number of bytes written in WAL.",
        lambda: figures.wal_bytes,
    )
    registry.single(
        "etcd_disk_defrag_inflight",
        "gauge",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.",
        lambda: int(storage.is_defragmenting),
    )


def _register_mvcc(registry: Registry, member: MemberLoop, storage: StorageDuty) -> None:
    store, hub, backend = member.store, member.hub, storage.backend
    gauges: dict[str, tuple[str, object]] = {
        "etcd_mvcc_db_total_size_in_bytes": (
            "Total size of the underlying database physically allocated in bytes.",
            lambda: backend.size_bytes,
        ),
        "etcd_debugging_mvcc_db_total_size_in_bytes": (
            "Total size of the underlying database physically allocated in bytes.",
            lambda: backend.size_bytes,
        ),
        "etcd_mvcc_db_total_size_in_use_in_bytes": (
            "Total size of the underlying database logically in use in bytes.",
            lambda: backend.size_in_use_bytes,
        ),
        "etcd_mvcc_db_open_read_transactions": (
            "The number of currently open read transactions",
            lambda: 1,
        ),
        "etcd_debugging_mvcc_keys_total": ("Total number of keys.", lambda: store.live_keys),
        "etcd_debugging_mvcc_current_revision": (
            "The current revision of store.",
            lambda: store.revision,
        ),
        "etcd_debugging_mvcc_compact_revision": (
            "The revision of the last compaction in store.",
            lambda: max(store.compact_revision, 0),
        ),
        "etcd_debugging_mvcc_watcher_total": (
            "Total number of watchers.",
            lambda: hub.watcher_count,
        ),
        "etcd_debugging_mvcc_slow_watcher_total": (
            "Total number of unsynced slow watchers.",
            lambda: hub.slow_watcher_count,
        ),
        "etcd_debugging_mvcc_watch_stream_total": (
            "Total number of watch streams.",
            lambda: len(hub.streams),
        ),
    }
    for name, (help_text, read) in gauges.items():
        registry.single(name, "gauge", help_text, read)  # type: ignore[arg-type]
    counters: dict[str, tuple[str, object]] = {
        "etcd_mvcc_range_total": (
            "Total number of ranges seen by this member.",
            lambda: store.counters.ranges,
        ),
        "etcd_mvcc_put_total": (
            "Total number of puts seen by this member.",
            lambda: store.counters.puts,
        ),
        "etcd_mvcc_delete_total": (
            "Total number of deletes seen by this member.",
            lambda: store.counters.deletes,
        ),
        "etcd_mvcc_txn_total": (
            "Total number of txns seen by this member.",
            lambda: store.counters.txns,
        ),
        "etcd_debugging_mvcc_events_total": (
            "Total number of events sent by this member.",
            lambda: hub.events_sent,
        ),
        "etcd_debugging_mvcc_db_compaction_keys_total": (
            "Total number of db keys compacted.",
            lambda: store.counters.compacted,
        ),
    }
    for name, (help_text, read) in counters.items():
        registry.single(name, "counter", help_text, read)  # type: ignore[arg-type]


def _register_leases(registry: Registry, member: MemberLoop) -> None:
    lessor = member.lessor
    for name, help_text, read in (
        ("granted", "The total number of granted leases.", lambda: lessor.granted_total),
        ("revoked", "The total number of revoked leases.", lambda: lessor.revoked_total),
        ("renewed", "The total number of renewed leases.", lambda: lessor.renewed_total),
    ):
        registry.single(f"etcd_debugging_lease_{name}_total", "counter", help_text, read)
    registry.single(
        "etcd_debugging_server_lease_expired_total",
        "counter",
        "The total number of expired leases.",
        lambda: member.counters.leases_expired,
    )


def _register_process(registry: Registry) -> None:
    def statm(field: int) -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[field]) * PAGE_BYTES

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def files_max() -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    single = registry.single
    single("process_resident_memory_bytes", "gauge", "Resident memory size.", lambda: statm(1))
    single("process_virtual_memory_bytes", "gauge", "Virtual memory size.", lambda: statm(0))
    single("process_cpu_seconds_total", "counter", "User and system CPU time.", cpu)
    single("process_open_fds", "gauge", "Number of open file descriptors.", open_files)
    single("process_max_fds", "gauge", "Maximum number of open file descriptors.", files_max)
    single("process_start_time_seconds", "gauge", "Start time since the epoch.", _start_time)
    single("os_fd_used", "gauge", "The number of used file descriptors.", open_files)
    single("os_fd_limit", "gauge", "The file descriptor limit.", files_max)


def _start_time() -> float:
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
