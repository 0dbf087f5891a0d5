"""What goes between members (spec/observability.md §2.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from kvserver.membership.ids import format_id
from kvserver.metrics.registry import Family, Registry, Samples, Value
from kvserver.peers.figures import LinkFigures, SnapshotFigures

if TYPE_CHECKING:
    from kvserver.peers.network import PeerNetwork

Kind = Literal["counter", "gauge", "histogram"]
Row = tuple[str, Kind, str, Callable[[LinkFigures], Value]]

TO: tuple[Row, ...] = (
    (
        "sent_bytes_total",
        "counter",
        "The total number of bytes sent to peers.",
        lambda link: link.sent_bytes,
    ),
    (
        "sent_failures_total",
        "counter",
        "The total number of send failures from peers.",
        lambda link: link.sent_failures,
    ),
    (
        "round_trip_time_seconds",
        "histogram",
        "Round-Trip-Time histogram between peers.",
        lambda link: link.round_trip,
    ),
)
FROM: tuple[Row, ...] = (
    (
        "received_bytes_total",
        "counter",
        "The total number of bytes received from peers.",
        lambda link: link.received_bytes,
    ),
    (
        "received_failures_total",
        "counter",
        "The total number of receive failures from peers.",
        lambda link: link.received_failures,
    ),
)
SNAPSHOTS: tuple[tuple[str, Kind, str, Callable[[SnapshotFigures], Value]], ...] = (
    ("success", "counter", "successful snapshot {}s", lambda one: one.successes),
    ("failures", "counter", "snapshot {} failures", lambda one: one.failures),
    ("inflights_total", "gauge", "inflight snapshot {}s", lambda one: one.inflights),
    ("total_duration_seconds", "histogram", "duration of snapshot {}s", lambda one: one.seconds),
)


def register_peers(registry: Registry, network: PeerNetwork) -> None:
    def add(
        name: str, kind: Kind, help_text: str, label: str, read: Callable[[LinkFigures], Value]
    ) -> None:
        def samples() -> Samples:
            figures = sorted(network.figures.items())
            return [({label: format_id(number)}, read(link)) for number, link in figures]

        registry.add(Family(name, kind, help_text, samples))

    for label, rows in (("To", TO), ("From", FROM)):
        for name, kind, help_text, read in rows:
            add(f"etcd_network_peer_{name}", kind, help_text, label, read)
    for way, label in (("send", "To"), ("receive", "From")):
        for suffix, kind, text, of_one in SNAPSHOTS:
            add(
                f"etcd_network_snapshot_{way}_{suffix}",
                kind,
                f"Total {text.format(way)}.",
                label,
                lambda link, way=way, of_one=of_one: of_one(  # type: ignore[misc]
                    link.sent if way == "send" else link.received
                ),
            )
    _register_links(registry, network)


def _register_links(registry: Registry, network: PeerNetwork) -> None:
    local = format_id(network.identity.member_id)

    def labels(number: int) -> dict[str, str]:
        return {"Local": local, "Remote": format_id(number)}

    for name, kind, help_text, read in (
        (
            "etcd_network_known_peers",
            "gauge",
            "The current number of known peers.",
            lambda: [(labels(peer.id), 1) for peer in network.peers()],
        ),
        (
            "etcd_network_active_peers",
            "gauge",
            "The current number of active peer connections.",
            lambda: [(labels(p.id), int(p.active_since is not None)) for p in network.peers()],
        ),
        (
            "etcd_network_disconnected_peers_total",
            "counter",
            "The total number of disconnected peers.",
            lambda: [(labels(number), f.disconnects) for number, f in network.figures.items()],
        ),
    ):
        registry.add(Family(name, kind, help_text, read))  # type: ignore[arg-type]
