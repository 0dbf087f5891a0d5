"""Where values come from and what wins (spec/config.md §1, §2.8, §3, §9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvserver.config import Config, load

Environment = dict[str, str]


def loaded(*arguments: str, env: Environment | None = None) -> Config:
    config, log = load([*arguments, "--log-outputs=/dev/null"], env or {})
    log.close()
    return config


def refused(
    capsys: pytest.CaptureFixture[str], *arguments: str, env: Environment | None = None
) -> tuple[int, str]:
    """(exit code, stderr) of a start that is refused."""
    with pytest.raises(SystemExit) as stop:
        load(list(arguments), env or {})
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


def logged(
    capfd: pytest.CaptureFixture[str], *arguments: str, env: Environment | None = None
) -> list[dict[str, Any]]:
    """The lines that a start logs while it reads its configuration."""
    load(list(arguments), env or {})
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_defaults_make_one_member_named_default() -> None:
    """Case 31 and §2."""
    config = loaded()
    assert config.name == "default"
    assert config.data_dir == "default.etcd"
    assert config.initial_cluster == {"default": ("http://localhost:2380",)}
    assert config.snapshot_count == 10_000
    assert config.grpc_keepalive_interval == 7200.0
    assert config.pre_vote is True
    assert config.explicit == {"log-outputs"}


@pytest.mark.parametrize(
    "arguments",
    [["--name=a"], ["--name", "a"], ["-name=a"], ["-name", "a"], ["--name=b", "--name=a"]],
)
def test_every_way_to_write_a_flag(arguments: list[str]) -> None:
    """§1 rule 7; a repeated flag: the last wins."""
    config = loaded(*arguments)
    assert config.name == "a"
    assert config.data_dir == "a.etcd"
    assert config.initial_cluster == {"a": ("http://localhost:2380",)}


def test_booleans_stand_alone_or_take_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("--force-new-cluster").force_new_cluster is True
    assert loaded("--pre-vote=false").pre_vote is False
    assert loaded("--pre-vote=F").pre_vote is False
    code, text = refused(capsys, "--pre-vote", "false")
    assert (code, "'false' is not a valid flag" in text) == (1, True)


def test_a_value_may_contain_equals_signs_and_begin_with_a_dash() -> None:
    config = loaded(
        "--initial-cluster=default=http://localhost:2380", "--quota-backend-bytes", "-1"
    )
    assert config.initial_cluster == {"default": ("http://localhost:2380",)}
    assert config.quota_backend_bytes == -1


def test_environment_fills_what_flags_leave_open() -> None:
    """§1 rules 2, 3."""
    env = {"ETCD_MAX_WALS": "7", "ETCD_PRE_VOTE": "f", "ETCD_GRPC_KEEPALIVE_MIN_TIME": "100ms"}
    config = loaded("--name=x", env=env)
    assert (config.max_wals, config.pre_vote, config.grpc_keepalive_min_time) == (7, False, 0.1)
    assert config.is_explicit("max-wals")
    assert not config.is_explicit("max-snapshots")


@pytest.mark.parametrize("value", ["a", "b"])
def test_a_variable_beside_its_flag_is_fatal(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    """Case 1 (live), even if both are equal."""
    code, text = refused(capsys, "--name", "b", env={"ETCD_NAME": value})
    assert code == 1
    assert (
        'conflicting environment variable "ETCD_NAME" is shadowed by corresponding command-line '
        "flag (either unset environment variable or disable flag)" in text
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    assert loaded("--name=b", env={"ETCD_NAME": ""}).name == "b"


def test_a_variable_that_does_not_parse_is_fatal(capsys: pytest.CaptureFixture[str]) -> None:
    """Case 30."""
    code, text = refused(capsys, env={"ETCD_QUOTA_BACKEND_BYTES": "abc"})
    assert code == 1
    assert 'invalid value "abc" for ETCD_QUOTA_BACKEND_BYTES: parse error' in text


def test_foreign_variables_only_warn(capfd: pytest.CaptureFixture[str]) -> None:
    """Case 5 (live): Kubernetes injects such for a Service named etcd."""
    lines = logged(capfd, env={"ETCD_BOGUS": "1", "ETCD_PORT": "tcp://1", "ETCD_NAME": "n"})
    unknown = [
        line["environment-variable"]
        for line in lines
        if line["msg"] == "unrecognized environment variable"
    ]
    assert unknown == ["ETCD_BOGUS", "ETCD_PORT"]
    used = [line for line in lines if line["msg"] == "recognized and used environment variable"]
    assert [line["variable-value"] for line in used] == ["n"]


def test_passwords_are_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    load([], {"ETCD_DISCOVERY_PASSWORD": "canary-1", "ETCD_ROOT_PASSWORD": "canary-2"})
    assert "canary" not in capfd.readouterr().err


def test_an_unknown_flag_shows_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Case 2 (live)."""
    code, text = refused(capsys, "--nope")
    assert code == 2
    assert "flag provided but not defined: -nope" in text
    assert "Usage:" in text


def test_a_positional_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Case 3 (live)."""
    code, text = refused(capsys, "foo")
    assert (code, "'foo' is not a valid flag" in text) == (1, True)


def test_two_dashes_end_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("--name=x", "--log-outputs=/dev/null").name == "x"
    code, text = refused(capsys, "--name=x", "--", "--data-dir=y")
    assert (code, "'--data-dir=y' is not a valid flag" in text) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen-client-urls", "http://127.0.0.1:1/x"],  # case 8 (live)
        ["--listen-client-urls", "ftp://127.0.0.1:1"],
        ["--listen-client-urls", "http://127.0.0.1"],
        ["--listen-client-urls", ""],
        ["--listen-peer-urls", "http://127.0.0.1:99999"],
        ["--initial-cluster-state", "foo"],  # case 10 (live)
        ["--max-wals", "many"],
        ["--max-wals", "-1"],
        ["--quota-backend-bytes", "99999999999999999999"],
        ["--corrupt-check-time", "5"],
        ["--pre-vote=maybe"],
        ["--feature-gates=Nope=true"],  # case 20
        ["--feature-gates=LeaseCheckpoint=x"],
        ["--feature-gates=LeaseCheckpoint"],
        ["--name"],
        ["---name=x"],
    ],
)
def test_what_cannot_be_read_exits_with_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, text = refused(capsys, *arguments)
    assert code == 2
    assert "Usage:" in text


def test_the_gate_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized feature gate: Nope" in refused(capsys, "--feature-gates=Nope=true")[1]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Case 4 (live); §1 rule 10."""
    for arguments in (["--version"], ["--help"], ["-h"], ["--name=x", "--version"]):
        with pytest.raises(SystemExit) as stop:
            load(arguments, {"ETCD_NAME": "y"})
        assert stop.value.code == 0
        out = capsys.readouterr().out
        if "--version" in arguments:
            assert out.splitlines()[0] == "etcd Version: 3.7.1"
            assert len(out.splitlines()) == 4
            assert "Keydeck" in out
        else:
            assert "--data-dir" in out


@pytest.mark.parametrize("old", ["--experimental-", "--"])
def test_older_names_mean_the_newer_flags(old: str) -> None:
    """§2.8."""
    config = loaded(
        f"{old}watch-progress-notify-interval=5s",
        f"{old}compaction-batch-limit=77",
        f"{old}snapshot-catchup-entries=9",
    )
    assert config.watch_progress_notify_interval == 5.0
    assert config.compaction_batch_limit == 77
    assert config.snapshot_catchup_entries == 9
    assert config.is_explicit("compaction-batch-limit")


def test_the_newer_name_wins_and_the_older_warns(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--experimental-compaction-batch-limit=1", "--compaction-batch-limit=2"]
    assert loaded(*arguments).compaction_batch_limit == 2
    assert loaded(*reversed(arguments)).compaction_batch_limit == 2
    messages = [line["msg"] for line in logged(capfd, *arguments)]
    assert (
        "--experimental-compaction-batch-limit is deprecated, use --compaction-batch-limit instead"
        in messages
    )


def test_older_flags_that_became_gates() -> None:
    assert loaded("--experimental-initial-corrupt-check=true").has_feature("InitialCorruptCheck")
    assert loaded(env={"ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT": "1"}).has_feature(
        "LeaseCheckpoint"
    )
    both = ["--experimental-initial-corrupt-check", "--feature-gates=InitialCorruptCheck=false"]
    assert not loaded(*both).has_feature("InitialCorruptCheck")


def test_gates_and_their_defaults() -> None:
    """§2.8: alpha off, beta on, and the two that set many."""
    usual = loaded().feature_gates
    assert [name for name, on in usual.items() if on] == [
        "TxnModeWriteWithSharedBuffer",
        "FastLeaseKeepAlive",
    ]
    all_alpha = loaded("--feature-gates=AllAlpha=true,CompactHashCheck=false").feature_gates
    assert not all_alpha["CompactHashCheck"]
    assert all_alpha["LeaseCheckpoint"]
    assert not any(loaded("--feature-gates=AllBeta=false").feature_gates.values())


def test_retired_flags_are_read_and_ignored() -> None:
    """§1 rule 12: with a value or without."""
    config = loaded("--snapshot", "--v=3", "--peer-heartbeat-interval=5", "--vv", "--name=n")
    assert config.name == "n"


def test_flags_without_effect_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    lines = logged(capfd, "--memory-mlock", "--backend-bbolt-freelist-type=array")
    noted = {line["flag"] for line in lines if "without effect" in line["msg"]}
    assert noted == {"memory-mlock", "backend-bbolt-freelist-type"}


KUBEADM = [
    "--advertise-client-urls=https://10.0.0.1:2379",
    "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--initial-advertise-peer-urls=https://10.0.0.1:2380",
    "--initial-cluster=cp=https://10.0.0.1:2380",
    "--initial-cluster-state=new",
    "--key-file=/etc/kubernetes/pki/etcd/server.key",
    "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
    "--listen-metrics-urls=http://127.0.0.1:2381",
    "--listen-peer-urls=https://10.0.0.1:2380",
    "--name=cp",
    "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
    "--peer-client-cert-auth=true",
    "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
    "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--snapshot-count=10000",
    "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
]


@pytest.mark.parametrize(
    "spelling",
    [
        [
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
        ],
        ["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"],
    ],
)
def test_what_kubeadm_passes_is_accepted(spelling: list[str]) -> None:
    """Case 19."""
    config = loaded(*KUBEADM, *spelling)
    assert config.has_feature("InitialCorruptCheck")
    assert config.watch_progress_notify_interval == 5.0
    assert config.listen_client_urls == ("https://10.0.0.1:2379", "https://127.0.0.1:2379")
    assert config.initial_cluster == {"cp": ("https://10.0.0.1:2380",)}
    assert config.listen_metrics_urls == ("http://127.0.0.1:2381",)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "etcd.yaml"
    path.write_text(text)
    return str(path)


def from_file(tmp_path: Path, text: str, *arguments: str, env: Environment | None = None) -> Config:
    path = write(tmp_path, text + '\nlog-outputs: ["/dev/null"]\n')
    config, log = load([f"--config-file={path}", *arguments], env or {})
    log.close()
    return config


def test_the_file_alone_decides(tmp_path: Path) -> None:
    """Case 13 (live); §1 rule 1."""
    config = from_file(
        tmp_path, "name: filed\nbogus-key: 3", "--data-dir=X", env={"ETCD_NAME": "from-env"}
    )
    assert config.name == "filed"
    assert config.data_dir == "filed.etcd"


def test_the_file_may_come_from_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, "name: filed\nlog-outputs: [/dev/null]\n")
    assert load([], {"ETCD_CONFIG_FILE": path})[0].name == "filed"


def test_values_in_the_file(tmp_path: Path) -> None:
    """Case 14 (live); §3."""
    config = from_file(
        tmp_path,
        """
auto-compaction-retention: "1"
quota-backend-bytes: 1048576
log-level: warn
heartbeat-interval: 200
grpc-keepalive-min-time: 3000000000
corrupt-check-time: 10s
listen-client-urls: http://127.0.0.1:2,http://127.0.0.1:1
advertise-client-urls: http://127.0.0.1:1
cors: "https://a,https://b"
cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
feature-gates: LeaseCheckpoint=true
experimental-compaction-batch-limit: 12
socket-options: {reuse-port: true}
client-transport-security:
  cert-file: c.pem
  key-file: k.pem
  client-cert-auth: true
  allowed-hostname: only.one
peer-transport-security:
  cert-file: pc.pem
  allowed-cn: [a, b]
discovery-config:
  dial-timeout: 1000000000
  auth: {username: u, password: p}
""",
    )
    assert config.auto_compaction_seconds == 3600.0
    assert config.quota_backend_bytes == 1_048_576
    assert config.log_level == "warn"
    assert config.heartbeat_interval == 200
    assert config.grpc_keepalive_min_time == 3.0
    assert config.corrupt_check_time == 10.0
    assert config.listen_client_urls == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert config.cors == ("https://a", "https://b")
    assert config.has_feature("LeaseCheckpoint")
    assert config.compaction_batch_limit == 12
    assert config.socket_reuse_port is True
    assert (config.cert_file, config.client_cert_auth) == ("c.pem", True)
    assert config.client_cert_allowed_hostname == ("only.one",)
    assert (config.peer_cert_file, config.peer_cert_allowed_cn) == ("pc.pem", ("a", "b"))
    assert config.discovery_dial_timeout == 1.0
    assert (config.discovery_user, config.discovery_password) == ("u", "p")


def test_an_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    config, log = load([f"--config-file={write(tmp_path, '')}"], {})
    assert (config.name, config.explicit) == ("default", frozenset())
    log.close()


def test_json_is_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"name": "j", "log-outputs": ["/dev/null"]}))
    assert load(["--config-file", path], {})[0].name == "j"


def test_a_bare_number_for_retention(tmp_path: Path) -> None:
    """§2.7: the file's value should be text; a number works too."""
    text = "auto-compaction-retention: 5\nauto-compaction-mode: revision"
    assert from_file(tmp_path, text).auto_compaction_revisions == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("peer-transport-security: yes please", "invalid peer-transport-security"),
        ("initial-cluster-state: foo", 'unexpected clusterState "foo"'),
        ("listen-peer-urls: http://127.0.0.1:1/x", "unexpected error setting up listen-peer-urls:"),
        ("max-wals: many", 'invalid value "many" for max-wals: parse error'),
        ("max-wals: [1]", "invalid value for max-wals"),
        ("max-wals: true", "invalid value for max-wals"),
        ("pre-vote: 3", "invalid value for pre-vote"),
        ("max-wals: -3", "max-wals"),
        ("- a list", "a mapping of keys to values is expected"),
        ("name: [unclosed", "error converting YAML to JSON: yaml: line 1: "),
        ("feature-gates: Nope=true", "unrecognized feature gate: Nope"),
    ],
)
def test_a_file_that_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    code, said = refused(capsys, f"--config-file={write(tmp_path, text)}")
    assert code == 1
    assert reason in said


def test_a_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(capsys, f"--config-file={tmp_path / 'none'}")
    assert (code, "no such file or directory" in said) == (1, True)
