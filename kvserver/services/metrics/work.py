"""Work that runs in slices: compactions, hashes, backups (spec/observability.md §2.2, §2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.metrics.registry import Registry

if TYPE_CHECKING:
    from kvserver.runtime.background import Background


def register_work(registry: Registry, background: Background) -> None:
    figures = background.figures
    for name, histogram, help_text in (
        (
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            figures.compaction_pause_ms,
            "Bucketed histogram of db compaction pause duration.",
        ),
        (
            "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
            figures.index_pause_ms,
            "Bucketed histogram of index compaction pause duration (index and db go together).",
        ),
        (
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            figures.compaction_total_ms,
            "Bucketed histogram of db compaction total duration.",
        ),
        (
            "etcd_mvcc_hash_duration_seconds",
            figures.hash_seconds,
            "The latency distribution of storage hash operation.",
        ),
        (
            "etcd_mvcc_hash_rev_duration_seconds",
            figures.hash_rev_seconds,
            "The latency distribution of storage hash by revision operation.",
        ),
        (
            "etcd_disk_backend_snapshot_duration_seconds",
            figures.backup_seconds,
            "The latency distribution of backend snapshots.",
        ),
    ):
        registry.single(name, "histogram", help_text, lambda histogram=histogram: histogram)  # type: ignore[misc]
    registry.single(
        "etcd_debugging_mvcc_db_compaction_last",
        "gauge",
        "The unix time of the last db compaction. Resets to 0 on start.",
        lambda: figures.last_compaction_seconds,
    )
