"""What fits together, in etcd's words where etcd has words for it (spec/config.md §4)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from kvserver.config.config import Config
from kvserver.config.durations import format_duration
from kvserver.config.errors import ConfigError
from kvserver.config.values import URL_SCHEMES
from kvserver.logs import LEVELS
from kvserver.tls.ciphers import CIPHER_SUITES, HTTP2_REQUIRED

ELECTION_MILLISECONDS_MAX = 50_000
BCRYPT_COSTS = range(4, 32)
TLS_VERSIONS = ("TLS1.2", "TLS1.3")


def validate(config: Config) -> None:
    """Raise the first objection, or return."""
    _check_retired(config)
    _check_urls(config)
    _check_bootstrap(config)
    _check_timing(config)
    _check_tls(config)
    _check_certificates(config)
    _check_gates(config)
    _check_logging(config)


def _refuse(when: object, text: str) -> None:
    if when:
        raise ConfigError(text)


def _check_retired(config: Config) -> None:
    _refuse(config.enable_v2, "--enable-v2=true is not supported: the v2 API is retired")
    _refuse(config.proxy != "off", "--proxy is not supported: the v2 proxy is retired")
    _refuse(
        config.discovery,
        "--discovery is not supported: v2 discovery is retired, use --discovery-endpoints and "
        "--discovery-token, --discovery-srv or --initial-cluster",
    )
    _refuse(
        config.discovery_fallback == "proxy",
        'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"',
    )


def _check_urls(config: Config) -> None:
    for urls in (
        config.listen_peer_urls,
        config.listen_client_urls,
        config.listen_client_http_urls,
        config.listen_metrics_urls,
    ):
        for url in urls:
            _check_binding(url)
    for url in config.initial_advertise_peer_urls:
        reason = _empty_host(url)
        _refuse(
            reason,
            f'--initial-advertise-peer-urls "{url}" must be "host:port" ({reason})',
        )
    for url in config.advertise_client_urls:
        reason = _empty_host(url)
        _refuse(
            reason,
            f'--advertise-client-urls "{url}" must be in the format "host:port", '
            f'"unix:/path/to/socket" or "unixs:/path/to/socket" ({reason})',
        )
    # Of a file that tells no client URLs etcd takes the default; a command line has to tell.
    _refuse(
        config.is_explicit("listen-client-urls")
        and not config.config_file
        and not config.is_explicit("advertise-client-urls"),
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    )


def _check_binding(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("unix", "unixs") or parts.hostname == "localhost":
        return
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        raise ConfigError(f"expected IP in URL for binding ({url})") from None


def _empty_host(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme in URL_SCHEMES[2:] or parts.hostname:
        return ""
    return f"unexpected empty host ({url})"


def _check_bootstrap(config: Config) -> None:
    ways = [
        config.is_explicit("initial-cluster") and bool(config.initial_cluster),
        bool(config.discovery_srv),
        bool(config.discovery_endpoints),
    ]
    _refuse(
        sum(ways) > 1,
        'multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", '
        '"discovery", "discovery-endpoints" or "discovery-srv"',
    )
    _refuse(
        bool(config.discovery_token) != bool(config.discovery_endpoints),
        "both --discovery-token and --discovery-endpoints must be set",
    )
    _refuse(
        "" in config.discovery_endpoints,
        "--discovery-endpoints must not contain empty endpoints",
    )


def _check_timing(config: Config) -> None:
    heartbeat, election = config.heartbeat_interval, config.election_timeout
    _refuse(heartbeat == 0, f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    _refuse(election == 0, f"--election-timeout must be >0 (set to {election}ms)")
    _refuse(
        5 * heartbeat > election,
        f"--election-timeout[{election}ms] should be at least as 5 times as "
        f"--heartbeat-interval[{heartbeat}ms]",
    )
    _refuse(
        election > ELECTION_MILLISECONDS_MAX,
        f"--election-timeout[{election}ms] is too long, and should be set less than "
        f"{ELECTION_MILLISECONDS_MAX}ms",
    )
    shown = format_duration(config.compact_hash_check_time)
    _refuse(
        config.compact_hash_check_time <= 0,
        f"--compact-hash-check-time must be >0 (set to {shown})",
    )


def _check_tls(config: Config) -> None:
    least, most = config.tls_min_version, config.tls_max_version
    for version in filter(None, (least, most)):
        _refuse(
            version not in TLS_VERSIONS,
            f'unexpected TLS version "{version}" (must be one of: {", ".join(TLS_VERSIONS)})',
        )
    _refuse(most and least > most, f"min version ({least}) is greater than max version ({most})")
    for suite in config.cipher_suites:
        _refuse(suite not in CIPHER_SUITES, f'unexpected TLS cipher suite "{suite}"')
    _refuse(
        config.cipher_suites and least == "TLS1.3",
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    )
    _refuse(
        config.cipher_suites and HTTP2_REQUIRED.isdisjoint(config.cipher_suites),
        "http2: TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher "
        f"(need at least one of {' or '.join(sorted(HTTP2_REQUIRED, reverse=True))}).",
    )
    for names, hosts in (
        (config.client_cert_allowed_cn, config.client_cert_allowed_hostname),
        (config.peer_cert_allowed_cn, config.peer_cert_allowed_hostname),
    ):
        _refuse(
            names and hosts,
            f"AllowedCN and AllowedHostname are mutually exclusive (cn={list(names)}, "
            f"hostname={list(hosts)})",
        )


def _check_certificates(config: Config) -> None:
    has_client = bool(config.cert_file or config.key_file) or config.auto_tls
    has_peer = bool(config.peer_cert_file or config.peer_key_file) or config.peer_auto_tls
    client_urls = (
        *config.listen_client_urls,
        *config.listen_client_http_urls,
        *config.listen_metrics_urls,
    )
    for urls, has_pair, kind, prefix in (
        (config.listen_peer_urls, has_peer, "peer", "peer-"),
        (client_urls, has_client, "client", ""),
    ):
        for url in urls:
            _refuse(
                urlsplit(url).scheme in ("https", "unixs") and not has_pair,
                f"TLS key/cert (--{prefix}cert-file, --{prefix}key-file) must be provided for "
                f"{kind} url {url} with HTTPS scheme",
            )


def _check_gates(config: Config) -> None:
    _refuse(
        config.has_feature("LeaseCheckpointPersist") and not config.has_feature("LeaseCheckpoint"),
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate "
        "LeaseCheckpoint",
    )


def _check_logging(config: Config) -> None:
    _refuse(config.logger == "capnslog", "--logger=capnslog is removed in v3.5")
    _refuse(config.logger != "zap", f'unknown logger option "{config.logger}"')
    _refuse(config.log_level not in LEVELS, f'unrecognized level: "{config.log_level}"')
    _refuse(
        config.log_format not in ("json", "console"),
        f'unknown log format: "{config.log_format}" (must be json or console)',
    )
    _refuse(
        config.metrics not in ("basic", "extensive"),
        f'unknown --metrics "{config.metrics}" (must be basic or extensive)',
    )
    outputs = config.log_outputs
    _refuse(
        "default" in outputs and len(outputs) > 1,
        'multi logoutput for "default" is not supported yet',
    )
    shown = " ".join(f'"{output}"' for output in sorted(outputs))
    _refuse(
        "systemd/journal" in outputs and len(outputs) > 1,
        f"running with systemd/journal but other '--log-outputs' values ([{shown}]) are "
        "configured with 'default'; override 'default' value with something else",
    )


def warnings(config: Config) -> list[tuple[str, dict[str, object]]]:
    """What is allowed and probably not meant: (message, fields) for the log."""
    found: list[tuple[str, dict[str, object]]] = []
    if config.max_request_bytes > 10 * 1024 * 1024:
        found.append(
            ("exceeded recommended request limit", {"max_request_bytes": config.max_request_bytes})
        )
    if config.bcrypt_cost not in BCRYPT_COSTS:
        found.append(
            (
                "the cost of bcrypt is out of range, using the default",
                {"given_cost": config.bcrypt_cost},
            )
        )
    if not config.is_explicit("data-dir"):
        found.append(("'data-dir' was empty; using default", {"data_dir": config.data_dir}))
    found += _ignored_tls(
        config.listen_client_urls,
        bool(config.cert_file or config.key_file),
        "--client-cert-auth" if config.client_cert_auth else "",
    )
    found += _ignored_tls(
        config.listen_peer_urls,
        bool(config.peer_cert_file or config.peer_key_file),
        "--peer-client-cert-auth" if config.peer_client_cert_auth else "",
    )
    return found


def _ignored_tls(
    urls: tuple[str, ...], has_files: bool, auth_flag: str
) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    for url in urls:
        if urlsplit(url).scheme not in ("http", "unix"):
            continue
        if has_files:
            message = "scheme is HTTP while key and cert files are present; ignoring them"
            found.append((message, {"url": url}))
        if auth_flag:
            found.append((f"scheme is HTTP while {auth_flag} is enabled; ignored", {"url": url}))
    return found
