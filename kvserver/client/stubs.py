"""One channel to one endpoint and the generated stubs on it."""

from __future__ import annotations

from typing import Any

import grpc

from kvserver.client.config import ClientConfig, Endpoint
from kvserver.proto import rpc_pb2_grpc

GENERATED: Any = rpc_pb2_grpc

MESSAGE_BYTES_MAX = 32 * 1024 * 1024
"""The largest answer taken. A page of keys beyond it fails with RESOURCE_EXHAUSTED."""

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A member that comes back is found again within seconds, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Endpoints are addresses of members; no proxy of the environment stands in between.
    ("grpc.enable_http_proxy", 0),
    # Two clients with different credentials for one address never share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)


class Stubs:
    """The services of one member."""

    __slots__ = ("auth", "channel", "cluster", "endpoint", "kv", "lease", "maintenance", "watch")

    def __init__(self, endpoint: Endpoint, config: ClientConfig) -> None:
        self.endpoint = endpoint
        self.channel = open_channel(endpoint, config)
        self.kv: Any = GENERATED.KVStub(self.channel)
        self.watch: Any = GENERATED.WatchStub(self.channel)
        self.lease: Any = GENERATED.LeaseStub(self.channel)
        self.cluster: Any = GENERATED.ClusterStub(self.channel)
        self.maintenance: Any = GENERATED.MaintenanceStub(self.channel)
        self.auth: Any = GENERATED.AuthStub(self.channel)

    def close(self) -> None:
        self.channel.close()


def open_channel(endpoint: Endpoint, config: ClientConfig) -> grpc.Channel:
    options = (
        *OPTIONS,
        ("grpc.keepalive_time_ms", round(config.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(config.keepalive_timeout_seconds * 1000)),
    )
    if not endpoint.is_tls:
        return grpc.insecure_channel(endpoint.target, options=options)
    if config.tls_server_name:
        options = (*options, ("grpc.ssl_target_name_override", config.tls_server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=config.tls_ca,
        private_key=config.tls_key,
        certificate_chain=config.tls_certificate,
    )
    return grpc.secure_channel(endpoint.target, credentials, options=options)
