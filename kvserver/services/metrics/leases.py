"""etcd_debugging_lease_* (spec/observability.md §2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvserver.metrics.registry import Registry

if TYPE_CHECKING:
    from kvserver.runtime.member_loop import MemberLoop


def register_leases(registry: Registry, member: MemberLoop) -> None:
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
    registry.single(
        "etcd_debugging_lease_ttl_total",
        "histogram",
        "Bucketed histogram of lease TTLs.",
        lambda: lessor.ttls,
    )
