"""Every bound of the transport, with its reason. Relations between them are asserted at creation.

The transport has its own limits because it knows bytes, not etcd; the composition root fills in
the values that flags can change (spec/wire-api.md §3.2-§3.3).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransportLimits:
    # Receiving
    stream_window_bytes: int = 1024 * 1024
    """What a peer may send on one stream before we answer: one window per round trip."""
    connection_window_bytes: int = 16 * 1024 * 1024
    received_bytes_max: int = 64 * 1024 * 1024
    """Request bytes of one connection that no handler has taken yet; streams beyond are refused."""
    concurrent_streams_max: int = 65_536
    header_list_bytes_max: int = 16 * 1024
    """Decoded size as RFC 9113 §6.5.2 counts it; a longer list refuses its stream."""
    header_block_bytes_max: int = 32 * 1024
    """Encoded size with CONTINUATIONs; a longer block ends the connection while it is read."""

    # Sending
    stream_high_water_bytes: int = 256 * 1024
    """Queued bytes at which `Stream.writable` turns false."""
    stream_low_water_bytes: int = 64 * 1024
    unsent_bytes_max: int = 64 * 1024 * 1024
    """Replies of one connection that wait for flow control; new streams beyond are refused."""
    flush_bytes: int = 256 * 1024
    """Output of one loop turn that is handed to the socket before more input is parsed."""
    socket_high_water_bytes: int = 1024 * 1024
    """Output the socket has not taken; reading from that peer pauses above it."""

    connections_max: int = 2**31 - 1
    """Of one server, on all its listeners together."""

    # Time
    preface_seconds: float = 10.0
    handshake_seconds: float = 10.0
    handshakes_max: int = 256
    """TLS handshakes in progress at once, per listener."""
    ping_interval_seconds_min: float = 5.0
    ping_without_stream: bool = False
    keepalive_seconds: float = 7200.0
    keepalive_timeout_seconds: float = 20.0

    # Abuse: frames that cost us work and move no request forward
    nuisance_frames_burst: int = 2000
    nuisance_frames_per_second: float = 200.0

    # HTTP/1.1, and plain HTTP over HTTP/2
    http_header_bytes_max: int = 32 * 1024
    http_body_bytes_max: int = 64 * 1024 * 1024
    http_idle_seconds: float = 300.0
    http_pipelined_max: int = 16
    http_half_closed_seconds: float = 2.0
    """How long an answer may take after the client has closed its side: it may be gone, and with
    it whatever its call holds or waits for."""

    def __post_init__(self) -> None:
        assert 65_535 <= self.connection_window_bytes < 2**31
        assert 0 < self.stream_window_bytes <= self.connection_window_bytes
        assert self.connection_window_bytes <= self.received_bytes_max
        assert self.header_list_bytes_max <= self.header_block_bytes_max
        assert 0 <= self.stream_low_water_bytes < self.stream_high_water_bytes
        assert 0 < self.concurrent_streams_max < 2**32
        assert self.nuisance_frames_burst > 0
