"""Configurations that cannot work: refused with etcd's exit code and etcd's words.

etcd runs as a process; Keydeck reads the same arguments in this one and goes as far as building a
member, which is where its last refusals come from. Compared is what etcd says, less what it adds
around it; what only a later etcd knows, or Keydeck refuses on purpose, is not here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kvserver.config import load
from kvserver.errors import KeydeckError
from kvserver.server import MemberServer
from tests.support.certificates import Authority
from tests.support.etcd_binaries import find_etcd35
from tests.support.servers_proc import free_port

pytestmark = pytest.mark.compat

START_SECONDS_MAX = 90.0
PEER = ("--listen-peer-urls", "http://127.0.0.1:{peer}")
CLIENT = (
    "--listen-client-urls", "https://127.0.0.1:{client}",
    "--advertise-client-urls", "https://127.0.0.1:{client}",
)  # fmt: skip
PAIR = ("--cert-file", "one.crt", "--key-file", "one.key")
ROTATED = ("--enable-log-rotation", "--log-outputs", "file.log", "--log-rotation-config-json")

FLAGS: list[tuple[str, ...]] = [
    ("--nope",),
    ("--nope=3",),
    ("---name=x",),
    ("foo",),
    ("--name",),
    ("--initial-cluster-state", "foo"),
    ("--heartbeat-interval", "300"),
    ("--heartbeat-interval", "0"),
    ("--heartbeat-interval", "-1"),
    ("--election-timeout", "0"),
    ("--election-timeout", "60000"),
    ("--auto-compaction-mode", "foo"),
    ("--auto-compaction-retention", "x"),
    ("--auto-compaction-retention", "-1"),
    ("--quota-backend-bytes", "abc"),
    ("--snapshot-count", "-1"),
    ("--max-txn-ops", "1.5"),
    ("--pre-vote=maybe",),
    ("--grpc-keepalive-min-time", "5"),
    ("--grpc-keepalive-min-time", "x"),
    ("--logger", "capnslog"),
    ("--logger", "x"),
    ("--log-outputs", "default,stdout"),
    ("--log-outputs", "systemd/journal,stdout"),
    ("--enable-log-rotation",),
    ("--enable-log-rotation", "--log-outputs", "file.log,other.log"),
    (*ROTATED, "{"),
    (*ROTATED, '{"maxsize": "x"}'),
    (*ROTATED, '{"maxsize": 1.5}'),
    (*ROTATED, '{"compress": 1}'),
    (*ROTATED, "[]"),
    ("--config-file", "missing.yaml"),
]
URLS: list[tuple[str, ...]] = [
    ("--listen-client-urls", "http://127.0.0.1:1"),
    ("--listen-client-urls", "http://127.0.0.1:1/x"),
    ("--listen-client-urls", "ftp://127.0.0.1:1"),
    ("--listen-client-urls", "127.0.0.1:1"),
    ("--listen-client-urls", "http://127.0.0.1"),
    ("--listen-client-urls", "http://127.0.0.1:x"),
    ("--listen-client-urls", "http://example.com:1", "--advertise-client-urls", "http://a:1"),
    ("--listen-peer-urls", "http://example.com:1"),
    ("--initial-advertise-peer-urls", "http://:2380"),
    ("--initial-cluster", ""),
    ("--initial-cluster", "other=http://localhost:2380"),
    ("--initial-cluster", "default=http://localhost:2381"),
    ("--initial-cluster", "default=http://localhost:2380,default=http://127.0.0.1:1"),
    ("--initial-cluster", "default=http://localhost:2380,a=http://localhost:2380"),
    ("--initial-cluster", "default"),
    ("--initial-cluster", "default="),
    ("--initial-cluster", "default=ftp://a:1"),
    ("--name", ""),
]
TLS: list[tuple[str, ...]] = [
    CLIENT,
    (*CLIENT, "--cert-file", "one.crt"),
    (*CLIENT, "--key-file", "one.key"),
    (*CLIENT, "--cert-file", "one.crt", "--key-file", "two.key"),
    (*CLIENT, "--cert-file", "missing.crt", "--key-file", "one.key"),
    (*CLIENT, "--cert-file", "garbage", "--key-file", "one.key"),
    (*CLIENT, "--cert-file", "one.crt", "--key-file", "garbage"),
    (*CLIENT, *PAIR, "--trusted-ca-file", "missing"),
    (*CLIENT, *PAIR, "--client-cert-file", "two.crt"),
    (*CLIENT, *PAIR, "--cipher-suites", "TLS_NOPE"),
    (*CLIENT, "--auto-tls", "--self-signed-cert-validity", "0"),
    ("--listen-peer-urls", "https://127.0.0.1:{peer}", "--peer-cert-file", "one.crt"),
    (
        "--listen-peer-urls", "https://127.0.0.1:{peer}",
        "--peer-cert-file", "one.crt", "--peer-key-file", "two.key",
    ),
]  # fmt: skip
FILES = [
    "initial-cluster-state: foo",
    'listen-client-urls: "ftp://a:1"',
    "heartbeat-interval: 0",
    'auto-compaction-mode: "foo"',
    "initial-cluster: other=http://localhost:2380",
]
VARIABLES = [
    {"ETCD_QUOTA_BACKEND_BYTES": "abc"},
    {"ETCD_LISTEN_CLIENT_URLS": "ftp://a:1"},
    {"ETCD_PRE_VOTE": "maybe"},
    {"ETCD_INITIAL_CLUSTER_STATE": "x"},
    {"ETCD_HEARTBEAT_INTERVAL": "300"},
]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where relative names lead: certificates of two, a key that fits neither, garbage."""
    authority = Authority()
    for name in ("one", "two"):
        authority.issue(name, "127.0.0.1").write(tmp_path, name)
    (tmp_path / "garbage").write_bytes(b"garbage")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_ports(arguments: Sequence[str]) -> list[str]:
    ports = {"peer": str(free_port()), "client": str(free_port())}
    listens = {"--listen-peer-urls", "--initial-advertise-peer-urls", "--initial-cluster"}
    has_peers = listens & set(arguments) or "--config-file" in arguments
    full = [*arguments] if has_peers or arguments == ("foo",) else [*PEER, *arguments]
    return [part.format(**ports) if part.startswith("http") else part for part in full]


def said_by_etcd(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
    release = find_etcd35()
    if release is None:
        pytest.skip("needs etcd 3.5")
    done = subprocess.run(
        [release.etcd, *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS_MAX,
        env={**os.environ, **variables},
    )
    reasons = []
    for line in (done.stdout + done.stderr).splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            reasons.append(line)
            continue
        if fields["level"] in ("fatal", "panic") or fields["msg"] == "failed to verify flags":
            reasons.insert(0, fields.get("error") or fields["msg"])
    return done.returncode, next(line for line in reasons if line and "[core]" not in line)


def said_by_keydeck(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str]:
    try:
        config, log = load(arguments, variables)
    except SystemExit as refusal:
        assert isinstance(refusal.code, int)
        return refusal.code, capsys.readouterr().err

    async def build() -> str:
        try:
            MemberServer(config, log, asyncio.get_running_loop())
        except KeydeckError as refusal:
            return str(refusal)
        pytest.fail("it would start")

    try:
        return 1, asyncio.run(build())
    finally:
        log.close()


def compare(
    arguments: Sequence[str],
    capsys: pytest.CaptureFixture[str],
    variables: Mapping[str, str] | None = None,
) -> None:
    full = with_ports(arguments)
    code, words = said_by_etcd(full, variables or {})
    for left in Path().glob("*.etcd"):
        shutil.rmtree(left)
    ours, text = said_by_keydeck(full, variables or {}, capsys)
    assert ours == code, text
    assert words in text


@pytest.mark.parametrize("arguments", [*FLAGS, *URLS, *TLS], ids=" ".join)
def test_flags(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    compare(arguments, capsys)


@pytest.mark.parametrize("text", FILES)
def test_files(directory: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (directory / "etcd.yaml").write_text(f"{text}\n")
    compare(("--config-file", "etcd.yaml"), capsys)


@pytest.mark.parametrize("variables", VARIABLES, ids=lambda variables: next(iter(variables)))
def test_variables(
    directory: Path, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    compare((), capsys, variables)
