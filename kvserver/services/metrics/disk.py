"""etcd_disk_*, etcd_snap_*: what the disks have taken (spec/observability.md §2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.metrics.registry import Registry

if TYPE_CHECKING:
    from kvserver.runtime.storage_duty import StorageDuty


def register_disk(registry: Registry, storage: StorageDuty) -> None:
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
            "etcd_debugging_snap_save_total_duration_seconds",
            figures.snapshot_save,
            "The total latency distributions of save called by snapshot.",
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
        "etcd_server_snapshot_apply_in_progress_total",
        "gauge",
        "1 if the server is applying the incoming snapshot. 0 if none.",
        lambda: int(storage.is_installing),
    )
    registry.single(
        "etcd_disk_defrag_inflight",
        "gauge",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.",
        lambda: int(storage.is_defragmenting),
    )
