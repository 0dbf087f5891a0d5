"""etcd_mvcc_*, etcd_debugging_mvcc_*: the store and its watchers (spec/observability.md §2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.metrics.registry import Registry

if TYPE_CHECKING:
    from kvserver.runtime.member_loop import MemberLoop
    from kvserver.runtime.storage_duty import StorageDuty


def register_mvcc(registry: Registry, member: MemberLoop, storage: StorageDuty) -> None:
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
        "etcd_debugging_mvcc_pending_events_total": (
            "Revisions that watchers with a full stream still have to be shown.",
            lambda: hub.pending_revisions,
        ),
        "etcd_debugging_mvcc_total_put_size_in_bytes": (
            "The total size of put kv pairs seen by this member.",
            lambda: store.counters.put_bytes,
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
        if name.startswith("etcd_mvcc_"):  # as 3.4 and older dashboards call them
            alias = name.replace("etcd_", "etcd_debugging_", 1)
            registry.single(alias, "counter", help_text, read)  # type: ignore[arg-type]
