"""The server's configuration as one value. Field = flag name with underscores (config/flags.py).

Durations are seconds, as floats; `heartbeat_interval` and `election_timeout` are milliseconds, as
their flags are. URL lists are sorted tuples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvserver.limits import QUOTA_BYTES_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Checked and complete. Made by `kvserver.config.load` or, in tests, `from_values`."""

    explicit: frozenset[str] = frozenset()
    """Names of the flags that were set, by whatever source."""

    # Member
    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    snapshot_catchup_entries: int
    heartbeat_interval: int
    election_timeout: int
    initial_election_tick_advance: bool
    listen_peer_urls: tuple[str, ...]
    listen_client_urls: tuple[str, ...]
    listen_client_http_urls: tuple[str, ...]
    max_snapshots: int
    max_wals: int
    quota_backend_bytes: int
    backend_bbolt_freelist_type: str
    backend_batch_interval: float
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time: float
    grpc_keepalive_interval: float
    grpc_keepalive_timeout: float
    socket_reuse_port: bool
    socket_reuse_address: bool
    enable_grpc_gateway: bool
    raft_read_timeout: float
    raft_write_timeout: float
    memory_mlock: bool
    feature_gates: Mapping[str, bool]

    # Clustering
    initial_advertise_peer_urls: tuple[str, ...]
    initial_cluster: Mapping[str, tuple[str, ...]]
    initial_cluster_state: str
    initial_cluster_token: str
    advertise_client_urls: tuple[str, ...]
    discovery: str
    discovery_token: str
    discovery_endpoints: tuple[str, ...]
    discovery_dial_timeout: float
    discovery_request_timeout: float
    discovery_keepalive_time: float
    discovery_keepalive_timeout: float
    discovery_insecure_transport: bool
    discovery_insecure_skip_tls_verify: bool
    discovery_cert: str
    discovery_key: str
    discovery_cacert: str
    discovery_user: str
    discovery_password: str = field(repr=False)
    discovery_fallback: str
    discovery_proxy: str
    discovery_srv: str
    discovery_srv_name: str
    strict_reconfig_check: bool
    pre_vote: bool
    auto_compaction_retention: str
    auto_compaction_mode: str
    max_learners: int
    v2_deprecation: str

    # Security
    cert_file: str
    key_file: str
    client_cert_auth: bool
    client_cert_file: str
    client_key_file: str
    client_crl_file: str
    client_cert_allowed_cn: tuple[str, ...]
    client_cert_allowed_hostname: tuple[str, ...]
    trusted_ca_file: str
    auto_tls: bool
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_auth: bool
    peer_client_cert_file: str
    peer_client_key_file: str
    peer_trusted_ca_file: str
    peer_crl_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_auto_tls: bool
    peer_skip_client_san_verification: bool
    self_signed_cert_validity: int
    cipher_suites: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]

    # Auth
    auth_token: str
    bcrypt_cost: int
    auth_token_ttl: int

    # Logging, metrics and tracing
    enable_pprof: bool
    metrics: str
    listen_metrics_urls: tuple[str, ...]
    logger: str
    log_outputs: tuple[str, ...]
    log_level: str
    log_format: str
    enable_log_rotation: bool
    log_rotation_config_json: str
    warning_unary_request_duration: float
    warning_apply_duration: float
    enable_distributed_tracing: bool
    distributed_tracing_address: str
    distributed_tracing_service_name: str
    distributed_tracing_instance_id: str
    distributed_tracing_sampling_rate: int
    debug: bool
    log_package_levels: str

    # Operations
    corrupt_check_time: float
    compact_hash_check_time: float
    compaction_batch_limit: int
    compaction_sleep_interval: float
    watch_progress_notify_interval: float
    bootstrap_defrag_threshold_megabytes: int
    downgrade_check_time: float
    config_file: str
    version: bool

    # Unsafe
    force_new_cluster: bool
    unsafe_no_fsync: bool
    enable_v2: bool
    experimental_enable_v2v3: str
    proxy: str
    proxy_failure_wait: int
    proxy_refresh_interval: int
    proxy_dial_timeout: int
    proxy_write_timeout: int
    proxy_read_timeout: int

    # Worked out from the above
    auto_compaction_seconds: float
    """How far back periodic compaction keeps history; 0: off."""
    auto_compaction_revisions: int
    """How many revisions revision compaction keeps; 0: off."""

    @property
    def heartbeat_seconds(self) -> float:
        return self.heartbeat_interval / 1000

    @property
    def election_ticks(self) -> int:
        return self.election_timeout // self.heartbeat_interval

    @property
    def quota_bytes(self) -> int:
        """The database's bound: 0 means the default, below 0 none (spec/config.md)."""
        return self.quota_backend_bytes or QUOTA_BYTES_DEFAULT

    def has_feature(self, gate: str) -> bool:
        return self.feature_gates[gate]

    def is_explicit(self, flag: str) -> bool:
        """Whether this flag, e.g. "max-wals", was set by whatever source."""
        return flag in self.explicit
