"""Passwords, tokens and keys are nowhere to be found: not in the write-ahead log, the backend, a
snapshot of raft's or of an operator's, the log file, a trace, a metric or a profile
(spec/auth.md §1 and case 31; verification.md, "a canary password").

What the write-ahead log does hold is the sixteen letters of a simple token: every member makes the
token of an Authenticate entry itself, from its letters and its index (§7.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from kvserver.proto import rpc_pb2 as rpc
from tests.auth.conftest import FAST_HASHES
from tests.support.auth_session import AuthSession, Caller
from tests.support.certificates import Authority
from tests.support.servers_proc import ServerProcess, keydeck_server, running, wait_until

pytestmark = pytest.mark.e2e

SECONDS_MAX = 20.0
SECRETS = ("canary-root-Xq7", "canary-user-Zr8", "canary-next-Lp9", "canary-wrong-Kd5")
ROOT, USER, NEXT, WRONG = SECRETS
FOUND = b"the-key-is-found"
SIGNED = b"canary-signing-secret-" + b"0123456789abcdef" * 4
EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"
PAGES = ("/metrics", "/debug/vars", "/debug/pprof/goroutine?debug=2", "/debug/pprof/cmdline")


@dataclass
class Collector:
    """Takes what the exporter of traces sends, and keeps it."""

    port: int = 0
    received: list[bytes] = field(default_factory=list)

    def export(self, request: bytes, context: object) -> bytes:
        self.received.append(request)
        return b""

    def spans(self) -> set[str]:
        exports = map(trace_service_pb2.ExportTraceServiceRequest.FromString, self.received)
        return {
            span.name
            for export in exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(collector.export)
    service = grpc.method_handlers_generic_handler(EXPORT, {"Export": handler})
    server.add_generic_rpc_handlers((service,))
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector
    finally:
        server.stop(0)


def files_with(directory: Path, text: bytes) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and text in path.read_bytes()
    }


def snapshot(root: Caller) -> bytes:
    """What an operator saves."""
    stream = root.channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")
    messages = stream(b"", metadata=tuple(root.metadata.items()), timeout=SECONDS_MAX)
    return b"".join(rpc.SnapshotResponse.FromString(message).blob for message in messages)


def log_in_and_out(session: AuthSession) -> tuple[Caller, set[str]]:
    """Everything that takes a password or a token, rightly and wrongly; root, and all tokens."""
    do = session.nobody
    do("Auth/UserAdd", name="root", password=ROOT)
    do("Auth/UserGrantRole", user="root", role="root")
    do("Auth/UserAdd", name="u", password=USER)
    do("Auth/UserAdd", name="none", password=WRONG, options={"no_password": True})
    do("Auth/AuthEnable")
    u = session.log_in("u", USER)
    assert do.outcome("Auth/Authenticate", name="u", password=WRONG) != "ok"
    assert do.outcome("Auth/UserAdd", name="refused", password=WRONG) != "ok"
    assert do.outcome("Auth/UserAdd", name="\0", password=WRONG * 9) != "ok"
    first = session.log_in("root", ROOT)
    first("Auth/UserChangePassword", name="u", password=NEXT)
    callers = (u, first, session.log_in("root", ROOT), session.log_in("u", NEXT))
    forged = WRONG + ".9"
    assert session.with_token(forged).outcome("KV/Range", key=b"a") == "invalid auth token"
    return callers[2], {forged, *(caller.metadata["token"] for caller in callers)}


@pytest.mark.parametrize("provider", ["simple", "jwt"])
def test_no_place_holds_a_password_a_token_or_a_key(tmp_path: Path, provider: str) -> None:
    """The places are in `data`, what belongs to the secrets themselves beside it."""
    authority, own = Authority(), tmp_path / "own"
    own.mkdir()
    identity = authority.issue("member", "127.0.0.1")
    cert, key = identity.write(own, "member")
    secret = own / "secret"
    secret.write_bytes(SIGNED)
    token = "simple" if provider == "simple" else f"jwt,sign-method=HS256,priv-key={secret}"
    with collecting() as collector:
        server = keydeck_server(
            tmp_path / "data" / "m",
            authority=authority.certificate,
            environment={"OTEL_BSP_SCHEDULE_DELAY": "100", "ETCD_DISCOVERY_PASSWORD": WRONG},
            flags=[
                FAST_HASHES,
                "--log-level=debug",
                "--snapshot-count=5",
                "--enable-distributed-tracing",
                "--distributed-tracing-sampling-rate=1000000",
                f"--distributed-tracing-address=127.0.0.1:{collector.port}",
                f"--auth-token={token}",
                f"--cert-file={cert}",
                f"--key-file={key}",
            ],
        )
        with running(server):
            saved, pages, tokens = use(server, collector)
    data = tmp_path / "data"
    (data / "saved.db").write_bytes(saved)
    (data / "pages").write_text(pages)
    (data / "traces").write_bytes(b"".join(collector.received))
    material = [line for line in identity.key.splitlines() if b"-----" not in line]
    secrets = [*(text.encode() for text in (*SECRETS, *tokens)), SIGNED, *material[:-1]]
    held = {text: files_with(data, text) for text in secrets}
    assert not any(held.values()), held
    # The search finds what is there.
    places = {name.rpartition(".")[2].rpartition("/")[2] for name in files_with(data, FOUND)}
    assert places >= {"wal", "db", "log"}, places  # the copy that was saved is a db too
    assert "saved.db" in files_with(data, FOUND)
    assert "traces" in files_with(data, b"etcdserverpb.Auth/Authenticate")
    assert snaps(data)
    if provider == "simple":  # its letters are in the log and nowhere else
        for letters in (text.partition(".")[0] for text in tokens - {WRONG + ".9"}):
            assert {Path(name).suffix for name in files_with(data, letters.encode())} == {".wal"}


def snaps(data: Path) -> set[str]:
    return {str(path) for path in data.rglob("*.snap")}


def use(server: ServerProcess, collector: Collector) -> tuple[bytes, str, set[str]]:
    """A backup, what plain HTTP tells, and the tokens that were made."""
    session = AuthSession(server.endpoint, grpc.ssl_channel_credentials(server.authority))
    root, tokens = log_in_and_out(session)
    root("KV/Put", key=FOUND, value=b"v")
    root("Maintenance/Defragment")  # everything reaches the backend's file
    wait_until(lambda: snaps(server.data_dir), SECONDS_MAX, "raft's snapshot is written")
    saved = snapshot(root)
    pages = "".join(server.http_get(page) for page in PAGES)
    assert "etcd_debugging_auth_revision" in pages and "thread MainThread" in pages
    told = {"etcdserverpb.Auth/Authenticate", "etcdserverpb.Auth/UserChangePassword"}
    wait_until(lambda: collector.spans() >= told, SECONDS_MAX, "the traces arrive")
    session.close()
    return saved, pages, tokens
