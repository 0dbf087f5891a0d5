"""What fits together, and etcd's words for what does not (spec/config.md §2.7, §4, §9)."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.config import Config, ConfigError, complete, load
from kvserver.config.durations import format_duration, parse_duration
from kvserver.config.flags import ALIASES, FLAGS, GATE_FLAGS, GROUPS, RETIRED, lookup
from kvserver.config.load import default_route_host, field_names, gather
from kvserver.config.sources import read_arguments, settle_names
from kvserver.config.usage import usage_text
from kvserver.config.validate import warnings
from kvserver.config.values import GATES

ADVERTISE = "--advertise-client-urls=http://127.0.0.1:1"


def checked(*arguments: str, default_host: str = "") -> Config:
    return complete(settle_names(read_arguments(arguments)), lambda: default_host)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (  # case 6 (live)
            ["--listen-client-urls=http://127.0.0.1:9"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (  # case 7 (live)
            ["--listen-client-urls=http://example.com:1", ADVERTISE],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            ["--listen-peer-urls=http://example.com:1"],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            ["--listen-metrics-urls=http://example.com:1"],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (  # case 9 (live)
            ["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as "
            "--heartbeat-interval[300ms]",
        ),
        (
            ["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (  # case 11 (live)
            ["--listen-client-urls=https://127.0.0.1:1", ADVERTISE],
            "TLS key/cert (--cert-file, --key-file) must be provided for client url "
            "https://127.0.0.1:1 with HTTPS scheme",
        ),
        (
            ["--listen-peer-urls=https://127.0.0.1:1", "--cert-file=c", "--key-file=k"],
            "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url "
            "https://127.0.0.1:1 with HTTPS scheme",
        ),
        (["--auto-compaction-mode=foo"], 'unknown auto-compaction-mode "foo"'),  # case 12 (live)
        (["--auto-compaction-mode="], "undefined auto-compaction-mode"),
        (["--auto-compaction-retention=soon"], "error parsing CompactionRetention: "),
        (["--auto-compaction-retention=-1h"], 'CompactionRetention: negative value "-1h"'),
        (["--auto-compaction-retention=-1"], "error parsing CompactionRetention: "),
        (
            ["--auto-compaction-retention=1h", "--auto-compaction-mode=revision"],
            "error parsing CompactionRetention: ",
        ),
        (
            ["--initial-advertise-peer-urls=http://:2380"],
            '--initial-advertise-peer-urls "http://:2380" must be "host:port" (unexpected empty '
            "host (http://:2380))",
        ),
        (
            ["--advertise-client-urls=http://:2379"],
            '--advertise-client-urls "http://:2379" must be in the format "host:port", '
            '"unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host '
            "(http://:2379))",
        ),
        (
            ["--initial-cluster=default=http://localhost:2380", "--discovery-srv=example.com"],
            'multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", '
            '"discovery", "discovery-endpoints" or "discovery-srv"',
        ),
        (
            ["--discovery-token=t"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            ["--tls-min-version=TLS1.1"],
            'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)',
        ),
        (
            ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_AES_128_GCM_SHA256"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (["--cipher-suites=X"], 'unexpected TLS cipher suite "X"'),
        (
            ["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
            "AllowedCN and AllowedHostname are mutually exclusive",
        ),
        (
            ["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate "
            "LeaseCheckpoint",
        ),
        (["--log-outputs=default,stdout"], 'multi logoutput for "default"'),  # case 26
        (["--log-outputs=systemd/journal,stdout"], "running with systemd/journal but other"),
        (["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),  # case 27
        (["--logger=x"], 'unknown logger option "x"'),
        (["--log-level=loud"], 'unrecognized level: "loud"'),
        (["--log-format=xml"], 'unknown log format: "xml"'),
        (["--metrics=few"], 'unknown --metrics "few"'),
        (["--enable-v2=true"], "the v2 API is retired"),
        (["--proxy=on"], "the v2 proxy is retired"),
        (["--discovery=http://x"], "v2 discovery is retired"),
        (
            ["--discovery-fallback=proxy"],
            'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"',
        ),
        (["--initial-cluster=a"], "error setting up initial cluster: URL scheme must be http"),
        (["--initial-cluster=a=http://h:1/x"], "URL must not contain a path: http://h:1/x"),
    ],
)
def test_what_is_refused_and_in_which_words(arguments: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        checked(*arguments)
    assert text in str(refusal.value)


def test_a_refusal_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        load(["--heartbeat-interval=300"], {})
    assert stop.value.code == 1
    assert "should be at least as 5 times" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen-client-urls=http://localhost:5", ADVERTISE],
        ["--listen-client-urls=http://[::1]:5", ADVERTISE],
        ["--listen-client-urls=unix://sock:1", ADVERTISE],
        ["--listen-client-urls=unix:///tmp/x.sock", "--advertise-client-urls=unix:///tmp/x.sock"],
        ["--listen-client-urls=https://127.0.0.1:1", ADVERTISE, "--auto-tls"],
        ["--listen-peer-urls=https://127.0.0.1:1", "--peer-auto-tls"],
        ["--election-timeout=50000"],
        ["--heartbeat-interval=200"],
        ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.3"],
        ["--feature-gates=LeaseCheckpointPersist=true,LeaseCheckpoint=true"],
        ["--log-outputs=stdout,stderr"],
        ["--discovery-token=t", "--discovery-endpoints=http://h:1"],
    ],
)
def test_what_is_accepted(arguments: list[str]) -> None:
    checked(*arguments)


@pytest.mark.parametrize(
    ("mode", "retention", "expected"),
    [
        ("periodic", "0", (0.0, 0)),
        ("periodic", "2", (7200.0, 0)),
        ("periodic", "30m", (1800.0, 0)),
        ("periodic", "1h30m", (5400.0, 0)),
        ("revision", "0", (0.0, 0)),
        ("revision", "1000", (0.0, 1000)),
    ],
)
def test_retention(mode: str, retention: str, expected: tuple[float, int]) -> None:
    """§2.7."""
    config = checked(f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={retention}")
    assert (config.auto_compaction_seconds, config.auto_compaction_revisions) == expected


def test_initial_cluster_gathers_urls_by_name() -> None:
    config = checked("--initial-cluster=b=http://h:2,a=http://h:9,b=http://h:1,")
    assert config.initial_cluster == {"b": ("http://h:1", "http://h:2"), "a": ("http://h:9",)}


def test_only_a_name_makes_a_cluster_of_the_advertised_urls() -> None:
    config = checked("--name=n", "--initial-advertise-peer-urls=http://h:5,http://h:4")
    assert config.initial_cluster == {"n": ("http://h:4", "http://h:5")}


def test_listening_everywhere_advertises_the_default_route() -> None:
    """§4, default-host substitution."""
    everywhere = "--listen-peer-urls=http://0.0.0.0:2380"
    config = checked(everywhere, default_host="10.1.2.3")
    assert config.initial_advertise_peer_urls == ("http://10.1.2.3:2380",)
    assert config.initial_cluster == {"default": ("http://10.1.2.3:2380",)}
    assert checked(everywhere).initial_advertise_peer_urls == ("http://localhost:2380",)
    named = "--initial-advertise-peer-urls=http://h:1"
    assert checked(everywhere, named, default_host="10.1.2.3").initial_advertise_peer_urls == (
        "http://h:1",
    )


def test_a_file_may_leave_the_advertised_client_urls_to_the_default_route(tmp_path: Path) -> None:
    """A command line has to name them; of a file etcd takes what it finds."""
    path = tmp_path / "etcd.yaml"
    path.write_text("listen-client-urls: https://[::]:2379\nclient-transport-security:\n"
                    "  cert-file: c\n  key-file: k\n")  # fmt: skip
    values = gather(read_arguments([f"--config-file={path}"]), {}).values
    assert complete(values, lambda: "10.1.2.3").advertise_client_urls == ("https://10.1.2.3:2379",)
    assert complete(values, lambda: "fd00::1").advertise_client_urls == ("https://[fd00::1]:2379",)
    assert complete(values).advertise_client_urls == ("http://localhost:2379",)


def test_what_is_probably_not_meant_warns() -> None:
    config = checked(
        "--max-request-bytes=20000000", "--bcrypt-cost=99", "--cert-file=c", "--client-cert-auth"
    )
    messages = " | ".join(message for message, _ in warnings(config))
    for part in (
        "exceeded recommended request limit",
        "bcrypt",
        "'data-dir' was empty",
        "key and cert files are present; ignoring",
        "--client-cert-auth is enabled; ignored",
    ):
        assert part in messages
    assert warnings(checked("--data-dir=d")) == []


def test_every_flag_is_a_field() -> None:
    fields = {flag.field for flag in FLAGS.values()}
    assert field_names() == fields | {
        "explicit",
        "auto_compaction_seconds",
        "auto_compaction_revisions",
    }


def test_every_default_is_of_its_kind() -> None:
    config = checked()
    for name, flag in FLAGS.items():
        if name not in ("initial-cluster", "data-dir", "feature-gates"):
            assert getattr(config, flag.field) == flag.kind.parse(flag.default), name


def test_older_names_lead_somewhere() -> None:
    for old, new in ALIASES.items():
        found = lookup(old)
        assert found is not None
        assert found.kind is FLAGS[new].kind
    assert set(GATE_FLAGS.values()) <= set(GATES)
    assert all(lookup(name) for name in (*GATE_FLAGS, *RETIRED))
    assert lookup("nope") is None


def test_help_shows_every_flag_that_does_something() -> None:
    text = usage_text()
    for group in GROUPS:
        assert f"\n{group}:\n" in text
    for name, flag in FLAGS.items():
        assert (f"\n  --{name}" in text) == (not flag.note), name
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("100ms", 0.1),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("-10s", -10.0),
        ("+5m", 300.0),
        (".5h", 1800.0),
        ("7us", 7e-6),
        ("3µs", 3e-6),
        ("12ns", 1.2e-8),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "1.5", "x", "5 s", "1h5", "s", "1d", "--5s", "."])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"time: (invalid|missing unit in) duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.1, "100ms"),
        (60.0, "1m0s"),
        (7200.0, "2h0m0s"),
        (1.5, "1.5s"),
        (0.0005, "500µs"),
        (-3.0, "-3s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(-(10**15), 10**15))
def test_durations_survive_writing_and_reading(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("rotation", "outputs", "text"),
    [
        ("{", "x.log", "improperly formatted log rotation config"),
        ('{"maxsize": "big"}', "x.log", "invalid log rotation config"),
        ('{"maxsize": true}', "x.log", "invalid log rotation config"),
        ("[]", "x.log", "invalid log rotation config"),
        ("{}", "stderr", "--log-outputs requires a single file path"),
        ("{}", "x.log,y.log", "--log-outputs requires a single file path"),
    ],
)
def test_rotation_that_makes_no_sense(
    capsys: pytest.CaptureFixture[str], rotation: str, outputs: str, text: str
) -> None:
    arguments = [
        "--enable-log-rotation",
        f"--log-rotation-config-json={rotation}",
        f"--log-outputs={outputs}",
    ]
    with pytest.raises(SystemExit) as stop:
        load(arguments, {})
    assert stop.value.code == 1
    assert text in capsys.readouterr().err


def test_logs_go_to_files_in_the_format_asked_for(tmp_path: Path) -> None:
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    _, log = load([f"--log-outputs={first},{second}", "--log-level=warn", "--data-dir=d"], {})
    log.info("quiet")
    log.warn("loud", some_field=1)
    log.close()
    assert first.read_text() == second.read_text()
    line = json.loads(first.read_text())
    assert (line["level"], line["msg"], line["some-field"]) == ("warn", "loud", 1)
    third = tmp_path / "c.log"
    _, log = load([f"--log-outputs={third}", "--log-format=console", "--data-dir=d"], {})
    log.warn("loud")
    log.close()
    assert third.read_text().split("\t")[1:2] == ["warn"]


def test_a_rotated_log_begins_anew_beyond_its_size(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    arguments = [
        f"--log-outputs={path}",
        "--enable-log-rotation",
        '--log-rotation-config-json={"maxsize": 1, "maxbackups": 3}',
    ]
    _, log = load(arguments, {})
    for number in range(3):
        log.error("x" * 400_000, number=number)
    log.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert json.loads(path.read_text())["number"] == 2


def test_the_default_route_is_an_address_or_nothing() -> None:
    host = default_route_host()
    assert not host or ipaddress.ip_address(host)


def test_a_log_file_that_cannot_be_opened_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        load([f"--log-outputs={tmp_path / 'no' / 'x.log'}"], {})
    assert stop.value.code == 1
    assert "cannot open the log output" in capsys.readouterr().err
