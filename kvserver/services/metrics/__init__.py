"""The metrics of this member, under the names that etcd's dashboards and alert rules use
(spec/observability.md §2). Each is read from plain counters when the page is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kvserver.metrics.registry import Registry
from kvserver.runtime.timed_applier import TimedApplier
from kvserver.services.gate import Gate
from kvserver.services.http import HealthCounters
from kvserver.services.metrics.disk import register_disk
from kvserver.services.metrics.grpc import register_grpc, register_handling_times
from kvserver.services.metrics.leases import register_leases
from kvserver.services.metrics.mvcc import register_mvcc
from kvserver.services.metrics.peers import register_peers
from kvserver.services.metrics.process import register_process
from kvserver.services.metrics.server import (
    register_apply_times,
    register_features,
    register_promotions,
    register_server,
)
from kvserver.services.metrics.work import register_work
from kvserver.transport import Method
from kvserver.transport import Server as Transport

if TYPE_CHECKING:
    from kvserver.peers.network import PeerNetwork
    from kvserver.runtime.background import Background
    from kvserver.runtime.duties import Duties
    from kvserver.runtime.member_loop import MemberLoop
    from kvserver.runtime.storage_duty import StorageDuty
    from kvserver.services.member_changes import MemberChanges

__all__ = ["register_metrics"]


def register_metrics(
    registry: Registry,
    *,
    member: MemberLoop,
    storage: StorageDuty,
    duties: Duties,
    background: Background,
    gate: Gate,
    changes: MemberChanges,
    network: PeerNetwork,
    health: HealthCounters,
    transport: Transport,
    methods: Sequence[Method],
    features: Mapping[str, bool],
    is_extensive: bool,
) -> None:
    """Fill the registry; `features`: the gates; `is_extensive` is `--metrics=extensive`."""
    register_server(registry, member, gate, health)
    register_promotions(registry, changes)
    register_features(registry, features)
    register_disk(registry, storage)
    register_mvcc(registry, member, storage)
    register_leases(registry, member)
    register_work(registry, background)
    register_peers(registry, network)
    register_process(registry)
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
    if is_extensive:
        register_handling_times(registry, methods)
        if isinstance(member.applier, TimedApplier):
            register_apply_times(registry, member.applier)
