"""Every flag as data: from this table come parsing, environment names, file keys and help.

Names, defaults and meanings are etcd's (spec/config.md §2, §8). Where a flag is accepted without
effect, `note` says so to whoever sets it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvserver.config.values import (
    BOOL,
    DURATION,
    FEATURE_GATES,
    GATES,
    IGNORED,
    INT,
    OPTIONAL_URLS,
    STRING,
    STRINGS,
    UINT,
    URLS,
    Kind,
    one_of,
)

ENVIRONMENT_PREFIX = "ETCD_"
NO_FILE_KEY = "-"
NO_EFFECT = "accepted for compatibility, without effect in Keydeck"

MEMBER = "Member"
CLUSTERING = "Clustering"
SECURITY = "Security"
AUTH = "Auth"
OBSERVING = "Logging, metrics and tracing"
OPERATIONS = "Operations"
UNSAFE = "Unsafe"
GROUPS = (MEMBER, CLUSTERING, SECURITY, AUTH, OBSERVING, OPERATIONS, UNSAFE)


@dataclass(frozen=True, slots=True)
class Flag:
    """One option. `default` is text, parsed like any other."""

    name: str
    group: str
    kind: Kind
    default: str
    help: str
    key: str = ""
    """Its place in the config file when that is not the name; dots lead into sections."""
    note: str = ""
    """Why setting it changes nothing, if so."""

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")

    @property
    def environment(self) -> str:
        return environment_name(self.name)

    @property
    def file_key(self) -> str:
        return self.key or self.name


def environment_name(flag: str) -> str:
    return ENVIRONMENT_PREFIX + flag.upper().replace("-", "_")


def _group(group: str, *rows: tuple[str, Kind, str, str] | tuple[str, Kind, str, str, str]) -> None:
    for name, kind, default, text, *key in rows:
        note = NO_EFFECT if text.endswith(" (no effect)") else ""
        flag = Flag(name, group, kind, default, text, key[0] if key else "", note)
        assert name not in FLAGS, name
        FLAGS[name] = flag


def _gates(default: bool) -> str:
    return ", ".join(name for name, usual in GATES.items() if usual is default)


FLAGS: dict[str, Flag] = {}

_group(
    MEMBER,
    ("name", STRING, "default", "Human-readable name of this member."),
    ("data-dir", STRING, "", "Data directory, made with rights 0700. [${name}.etcd]"),
    ("wal-dir", STRING, "", "Directory of the write-ahead log. [<data-dir>/member/wal]"),
    ("snapshot-count", UINT, "10000", "Applied entries between two raft snapshots."),
    ("snapshot-catchup-entries", UINT, "5000", "Log entries kept for slow followers."),
    ("heartbeat-interval", UINT, "100", "Heartbeat period in milliseconds."),
    ("election-timeout", UINT, "1000", "Election timeout in milliseconds; >= 5 heartbeats."),
    ("initial-election-tick-advance", BOOL, "true", "Shorten the first election at start."),
    ("listen-peer-urls", URLS, "http://localhost:2380", "Where to listen for other members."),
    ("listen-client-urls", URLS, "http://localhost:2379", "Where to listen for clients."),
    ("listen-client-http-urls", OPTIONAL_URLS, "",
     "Where to listen for HTTP clients only; the client URLs then serve gRPC alone."),
    ("max-snapshots", UINT, "5", "Snapshot files kept; 0 keeps all."),
    ("max-wals", UINT, "5", "Log segments kept; 0 keeps all."),
    ("quota-backend-bytes", INT, "0",
     "Size in bytes at which writes stop: 0 is 2 GiB, negative is none."),
    ("backend-bbolt-freelist-type", STRING, "map", "Free page bookkeeping of bbolt. (no effect)"),
    ("backend-batch-interval", DURATION, "0s", "Longest time between two flushes; 0 is 100ms."),
    ("backend-batch-limit", INT, "0", "Most changes between two flushes; 0 is 10000."),
    ("max-txn-ops", UINT, "128", "Operations allowed in one transaction."),
    ("max-request-bytes", UINT, "1572864", "Largest request accepted, in bytes."),
    ("max-concurrent-streams", UINT, "4294967295", "Open streams per client connection."),
    ("grpc-keepalive-min-time", DURATION, "5s", "Shortest time between two pings of a client."),
    ("grpc-keepalive-interval", DURATION, "2h", "Time between pings to clients; 0 is never."),
    ("grpc-keepalive-timeout", DURATION, "20s", "Time a ping may stay unanswered; 0 is ever."),
    ("socket-reuse-port", BOOL, "false",
     "Let several processes listen at one address (SO_REUSEPORT).", "socket-options.reuse-port"),
    ("socket-reuse-address", BOOL, "false",
     "Listen at an address that is in TIME_WAIT; always so.", "socket-options.reuse-address"),
    ("enable-grpc-gateway", BOOL, "true", "Serve the JSON gateway under /v3/."),
    ("raft-read-timeout", DURATION, "5s",
     "Longest silence of a member's stream; at least 5s.", NO_FILE_KEY),
    ("raft-write-timeout", DURATION, "5s",
     "Longest time that a member may take nothing; at least 5s.", NO_FILE_KEY),
    ("memory-mlock", BOOL, "false", "Lock the process's memory. (no effect)"),
    ("feature-gates", FEATURE_GATES, "",
     f"Gates as A=true,B=false. On unless told: {_gates(True)}; off: {_gates(False)}."),
)  # fmt: skip

_group(
    CLUSTERING,
    ("initial-advertise-peer-urls", URLS, "http://localhost:2380",
     "This member's peer URLs as told to the others."),
    ("initial-cluster", STRING, "",
     "The founding members as name=url,name=url. [${name}=<initial-advertise-peer-urls>]"),
    ("initial-cluster-state", one_of("new", "existing"), "new", "Found a cluster, or join one."),
    ("initial-cluster-token", STRING, "etcd-cluster", "Tells clusters with equal URLs apart."),
    ("advertise-client-urls", URLS, "http://localhost:2379",
     "This member's client URLs as told to clients."),
    ("discovery", STRING, "", "URL of the retired v2 discovery; refused.", NO_FILE_KEY),
    ("discovery-token", STRING, "", "Names the cluster to be founded at the discovery endpoints.",
     "discovery-config.token"),
    ("discovery-endpoints", STRINGS, "",
     "Another cluster that the founding members find each other through (v3 discovery).",
     "discovery-config.endpoints"),
    ("discovery-dial-timeout", DURATION, "2s",
     "How long an endpoint of it may take to answer.", "discovery-config.dial-timeout"),
    ("discovery-request-timeout", DURATION, "5s",
     "Deadline of one request to it.", "discovery-config.request-timeout"),
    ("discovery-keepalive-time", DURATION, "2s",
     "Silence after which it is pinged; at least 10s.", "discovery-config.keepalive-time"),
    ("discovery-keepalive-timeout", DURATION, "6s",
     "How long such a ping may stay unanswered.", "discovery-config.keepalive-timeout"),
    ("discovery-insecure-transport", BOOL, "true",
     "Speak plain text to endpoints that name no scheme.",
     "discovery-config.secure.insecure-transport"),
    ("discovery-insecure-skip-tls-verify", BOOL, "false",
     "Trust whatever certificate they show.",
     "discovery-config.secure.insecure-skip-tls-verify"),
    ("discovery-cert", STRING, "", "Certificate shown to them.", "discovery-config.secure.cert"),
    ("discovery-key", STRING, "", "Its key.", "discovery-config.secure.key"),
    ("discovery-cacert", STRING, "", "CA of their certificates.", "discovery-config.secure.cacert"),
    ("discovery-user", STRING, "", "User there.", "discovery-config.auth.username"),
    ("discovery-password", STRING, "", "Its password.", "discovery-config.auth.password"),
    ("discovery-fallback", one_of("exit", "proxy"), "exit", "Retired. (no effect)", NO_FILE_KEY),
    ("discovery-proxy", STRING, "", "Retired. (no effect)", NO_FILE_KEY),
    ("discovery-srv", STRING, "", "DNS domain whose SRV records name the founding members."),
    ("discovery-srv-name", STRING, "", "Suffix of the SRV service label."),
    ("strict-reconfig-check", BOOL, "true", "Refuse changes that would cost the quorum."),
    ("pre-vote", BOOL, "true", "Ask before an election whether it could be won."),
    ("auto-compaction-retention", STRING, "0",
     "History kept: hours, a duration such as 30m, or revisions; 0 is all."),
    ("auto-compaction-mode", STRING, "periodic", "periodic or revision."),
    ("max-learners", INT, "1", "Learners allowed; must be equal on all members."),
    ("v2-deprecation", STRING, "", "Retired. (no effect)"),
)  # fmt: skip

_CLIENT, _PEER = "client-transport-security.", "peer-transport-security."
_group(
    SECURITY,
    ("cert-file", STRING, "", "Certificate shown to clients.", _CLIENT + "cert-file"),
    ("key-file", STRING, "", "Its key.", _CLIENT + "key-file"),
    ("client-cert-auth", BOOL, "false", "Demand client certificates.",
     _CLIENT + "client-cert-auth"),
    ("client-cert-file", STRING, "",
     "Certificate with which etcd's gateway dials itself; read, not needed here.",
     _CLIENT + "client-cert-file"),
    ("client-key-file", STRING, "", "Its key.", _CLIENT + "client-key-file"),
    ("client-crl-file", STRING, "",
     "Revoked client certificates: a CRL in PEM or DER.", _CLIENT + "crl-file"),
    ("client-cert-allowed-hostname", STRINGS, "", "Names a client certificate may be for.",
     _CLIENT + "allowed-hostname"),
    ("client-cert-allowed-cn", STRINGS, "",
     "Common names a client certificate may have. Of etcd's file alone; here a flag too.",
     _CLIENT + "allowed-cn"),
    ("trusted-ca-file", STRING, "", "CA of clients; enforces client certificates.",
     _CLIENT + "trusted-ca-file"),
    ("auto-tls", BOOL, "false",
     "Make a certificate for the client URLs, in <data-dir>/fixtures.", _CLIENT + "auto-tls"),
    ("peer-cert-file", STRING, "", "Certificate between members.", _PEER + "cert-file"),
    ("peer-key-file", STRING, "", "Its key.", _PEER + "key-file"),
    ("peer-client-cert-auth", BOOL, "false", "Demand certificates of members.",
     _PEER + "client-cert-auth"),
    ("peer-client-cert-file", STRING, "", "Certificate for dialling members.",
     _PEER + "client-cert-file"),
    ("peer-client-key-file", STRING, "", "Its key.", _PEER + "client-key-file"),
    ("peer-trusted-ca-file", STRING, "", "CA of members.", _PEER + "trusted-ca-file"),
    ("peer-crl-file", STRING, "",
     "Revoked member certificates: a CRL in PEM or DER.", _PEER + "crl-file"),
    ("peer-cert-allowed-cn", STRINGS, "", "Common names a member may have.", _PEER + "allowed-cn"),
    ("peer-cert-allowed-hostname", STRINGS, "", "Names a member certificate may be for.",
     _PEER + "allowed-hostname"),
    ("peer-auto-tls", BOOL, "false",
     "Make a certificate for the peer URLs, in <data-dir>/fixtures.", _PEER + "auto-tls"),
    ("peer-skip-client-san-verification", BOOL, "false",
     "Do not hold a member's address against its certificate.",
     _PEER + "skip-client-san-verification"),
    ("self-signed-cert-validity", UINT, "1", "Years that made certificates are valid."),
    ("cipher-suites", STRINGS, "",
     "TLS 1.2 cipher suites by their IANA names; empty is OpenSSL's choice."),
    ("tls-min-version", STRING, "TLS1.2", "TLS1.2 or TLS1.3."),
    ("tls-max-version", STRING, "", "TLS1.2 or TLS1.3; empty is the newest."),
    ("cors", STRINGS, "*", "Web origins that may use the gateway."),
    ("host-whitelist", STRINGS, "*", "Host names accepted in plaintext HTTP requests."),
)  # fmt: skip

_group(
    AUTH,
    ("auth-token", STRING, "simple", "simple, or jwt,option=value,…"),
    ("bcrypt-cost", UINT, "10", "Cost of hashing a password, 4 to 31."),
    ("auth-token-ttl", UINT, "300", "Seconds a simple token lives without use."),
)

_group(
    OBSERVING,
    ("enable-pprof", BOOL, "false",
     "Serve profiles of this process under /debug/pprof/, as `go tool pprof` reads them."),
    ("metrics", STRING, "basic", "basic, or extensive with latency histograms per method."),
    ("listen-metrics-urls", OPTIONAL_URLS, "", "Further places for /metrics and health only."),
    ("logger", STRING, "zap", "Only zap."),
    ("log-outputs", STRINGS, "default", "default, stdout, stderr, systemd/journal or files."),
    ("log-level", STRING, "info", "debug, info, warn, error, panic or fatal."),
    ("log-format", STRING, "json", "json or console."),
    ("enable-log-rotation", BOOL, "false", "Rotate the one log file."),
    ("log-rotation-config-json", STRING,
     '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}',
     "When to rotate; sizes in MB."),
    ("warning-unary-request-duration", DURATION, "300ms", "A slower request is logged."),
    ("warning-apply-duration", DURATION, "100ms", "A slower apply is logged."),
    ("enable-distributed-tracing", BOOL, "false", "OpenTelemetry traces; needs keydeck[tracing]."),
    ("distributed-tracing-address", STRING, "localhost:4317", "Collector, OTLP over gRPC."),
    ("distributed-tracing-service-name", STRING, "etcd", "Service name in traces."),
    ("distributed-tracing-instance-id", STRING, "", "Instance id in traces."),
    ("distributed-tracing-sampling-rate", INT, "0", "Traced calls per million."),
    ("debug", BOOL, "false", "Retired: use log-level. (no effect)", NO_FILE_KEY),
    ("log-package-levels", STRING, "", "Retired. (no effect)", NO_FILE_KEY),
)  # fmt: skip

_group(
    OPERATIONS,
    ("corrupt-check-time", DURATION, "0s", "Period of comparing hashes among members; 0 is off."),
    ("compact-hash-check-time", DURATION, "1m", "Period of comparing compaction hashes."),
    ("compaction-batch-limit", INT, "1000", "Revisions a compaction deletes at a time."),
    ("compaction-sleep-interval", DURATION, "10ms", "Its pause between two batches."),
    ("watch-progress-notify-interval", DURATION, "10m", "Period of progress notifications."),
    ("bootstrap-defrag-threshold-megabytes", UINT, "0",
     "Defragment at start if so much would be freed; 0 is off."),
    ("downgrade-check-time", DURATION, "5s", "Period of the downgrade monitor."),
    ("config-file", STRING, "", "Take everything from this YAML file.", NO_FILE_KEY),
    ("version", BOOL, "false", "Print versions and leave.", NO_FILE_KEY),
)  # fmt: skip

_group(
    UNSAFE,
    ("force-new-cluster", BOOL, "false", "Make a cluster of this member alone from its data."),
    ("unsafe-no-fsync", BOOL, "false", "Never sync: a power cut loses acknowledged data."),
    ("enable-v2", BOOL, "false", "The retired v2 API; true is refused."),
    ("experimental-enable-v2v3", STRING, "", "Retired. (no effect)", NO_FILE_KEY),
    ("proxy", STRING, "off", "The retired v2 proxy; only off.", NO_FILE_KEY),
    ("proxy-failure-wait", UINT, "5000", "Retired. (no effect)", NO_FILE_KEY),
    ("proxy-refresh-interval", UINT, "30000", "Retired. (no effect)", NO_FILE_KEY),
    ("proxy-dial-timeout", UINT, "1000", "Retired. (no effect)", NO_FILE_KEY),
    ("proxy-write-timeout", UINT, "5000", "Retired. (no effect)", NO_FILE_KEY),
    ("proxy-read-timeout", UINT, "0", "Retired. (no effect)", NO_FILE_KEY),
)

_SAME = (
    "compact-hash-check-time", "corrupt-check-time", "compaction-batch-limit",
    "compaction-sleep-interval", "peer-skip-client-san-verification",
    "watch-progress-notify-interval", "warning-apply-duration", "warning-unary-request-duration",
    "memory-mlock", "bootstrap-defrag-threshold-megabytes", "snapshot-catchup-entries",
    "downgrade-check-time", "enable-distributed-tracing", "distributed-tracing-address",
    "distributed-tracing-service-name", "distributed-tracing-instance-id",
    "backend-bbolt-freelist-type",
)  # fmt: skip
ALIASES = {f"experimental-{name}": name for name in _SAME} | {
    "experimental-snapshot-catch-up-entries": "snapshot-catchup-entries",
    "experimental-distributed-tracing-sampling-rate": "distributed-tracing-sampling-rate",
    "experimental-max-learners": "max-learners",
}
"""Older names of flags; the newer name wins when both are given (spec/config.md §2.8)."""

GATE_FLAGS = {
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-set-member-localaddr": "SetMemberLocalAddr",
}
"""Older flags that became feature gates."""

RETIRED = (
    "cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
    "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout",
    "retry-interval", "snapshot", "v", "vv",
)  # fmt: skip
"""Read, reported and otherwise ignored (spec/config.md §1 rule 12)."""


def lookup(name: str) -> Flag | None:
    """The flag of that name, whatever its age; aliases keep their own name."""
    if name in FLAGS:
        return FLAGS[name]
    if name in ALIASES:
        target = FLAGS[ALIASES[name]]
        return Flag(name, target.group, target.kind, target.default, "", name)
    if name in GATE_FLAGS:
        return Flag(name, OPERATIONS, BOOL, "false", "", name)
    if name in RETIRED:
        return Flag(name, OPERATIONS, IGNORED, "", "", NO_FILE_KEY)
    return None


def all_names() -> list[str]:
    return [*FLAGS, *ALIASES, *GATE_FLAGS, *RETIRED]
