"""gRPC counters in the shape that dashboards expect (spec/observability.md §2.5, §2.6).

Every method appears with zeros for every code from the start: dashboards depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvserver.metrics.histogram import Histogram
from kvserver.metrics.registry import Family, Registry, Samples
from kvserver.transport import Method
from kvserver.transport import Server as Transport

CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
STREAM_TYPES = {
    "/etcdserverpb.Watch/Watch": "bidi_stream",
    "/etcdserverpb.Lease/LeaseKeepAlive": "bidi_stream",
    "/etcdserverpb.KV/RangeStream": "server_stream",
    "/etcdserverpb.Maintenance/Snapshot": "server_stream",
    "/v3electionpb.Election/Observe": "server_stream",
    "/grpc.health.v1.Health/Watch": "server_stream",
}
"""The transport does not tell server streams from bidirectional ones; here is which are which.
Everything else that streams is bidirectional."""


HANDLING_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def register_handling_times(registry: Registry, methods: Sequence[Method]) -> None:
    """`grpc_server_handling_seconds` of unary methods: only with `--metrics=extensive`."""
    timed = []
    for method in methods:
        if method.is_unary:
            histogram = Histogram(HANDLING_BUCKETS)
            method.on_handled = histogram.observe
            timed.append((_labels(method), histogram))
    registry.add(
        Family(
            "grpc_server_handling_seconds",
            "histogram",
            "Histogram of response latency (seconds) of gRPC that had been application-level "
            "handled by the server.",
            lambda: timed,
        )
    )


def register_grpc(registry: Registry, transport: Transport, methods: Sequence[Method]) -> None:
    labelled = [(_labels(method), method.counters) for method in methods]

    def started() -> Samples:
        return ((label, counters.started) for label, counters in labelled)

    def received() -> Samples:
        return ((label, counters.messages_received) for label, counters in labelled)

    def sent() -> Samples:
        return ((label, counters.messages_sent) for label, counters in labelled)

    def handled() -> Samples:
        for label, counters in labelled:
            by_code = counters.handled
            for number, code in enumerate(CODES):
                yield {"grpc_code": code, **label}, by_code.get(number, 0)

    for name, help_text, read in (
        (
            "grpc_server_started_total",
            "Total number of RPCs started on the server.",
            started,
        ),
        (
            "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            handled,
        ),
        (
            "grpc_server_msg_received_total",
            "Total number of RPC stream messages received on the server.",
            received,
        ),
        (
            "grpc_server_msg_sent_total",
            "Total number of gRPC stream messages sent by the server.",
            sent,
        ),
    ):
        registry.add(Family(name, "counter", help_text, read))
    registry.single(
        "etcd_network_client_grpc_sent_bytes_total",
        "counter",
        "The total number of bytes sent to grpc clients.",
        lambda: transport.counters.bytes_sent,
    )
    registry.single(
        "etcd_network_client_grpc_received_bytes_total",
        "counter",
        "The total number of bytes received from grpc clients.",
        lambda: transport.counters.bytes_received,
    )


def _labels(method: Method) -> dict[str, str]:
    service, _, name = method.path[1:].rpartition("/")
    kind = "unary" if method.is_unary else STREAM_TYPES.get(method.path, "bidi_stream")
    return {"grpc_method": name, "grpc_service": service, "grpc_type": kind}
