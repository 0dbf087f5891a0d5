"""Plain integers that the metrics read at scrape time; nothing on the hot path but additions."""

from __future__ import annotations


class MethodCounters:
    """Of one method. `handled` counts by gRPC status code; OK has its own integer for speed."""

    __slots__ = ("failed", "messages_received", "messages_sent", "ok", "started")

    def __init__(self) -> None:
        self.started = 0
        self.ok = 0
        self.failed: dict[int, int] = {}
        self.messages_received = 0
        self.messages_sent = 0

    @property
    def handled(self) -> dict[int, int]:
        return {0: self.ok, **self.failed} if self.ok else dict(self.failed)


class Counters:
    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connections_accepted",
        "connections_open",
        "connections_pending",
        "handshakes_failed",
        "methods",
        "streams_open",
    )

    def __init__(self) -> None:
        self.methods: dict[str, MethodCounters] = {}
        self.bytes_received = 0
        self.bytes_sent = 0
        self.connections_open = 0
        self.connections_pending = 0
        """Accepted, and their protocol not known yet."""
        self.connections_accepted = 0
        self.handshakes_failed = 0
        self.streams_open = 0

    def messages_received(self) -> int:
        """Of all methods together."""
        return sum(method.messages_received for method in self.methods.values())
