"""The servers under comparison, and plain questions to them over grpcio (outside any figure)."""

from __future__ import annotations

import os
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.connection import Address
from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.certificates import Authority
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import ServerProcess, etcd_server, keydeck_server

SETTINGS = (
    "--quota-backend-bytes=8589934592",
    "--snapshot-count=10000",
    "--max-request-bytes=1572864",
)
"""Given to both alike. 10 000 entries between snapshots keeps etcd's memory at its smallest."""

USER, PASSWORD = "bench", "bench"
"""Of servers that live as long as a run."""
CALL_SECONDS_MAX = 600.0


@dataclass
class Target:
    """One running member with a channel to it."""

    label: str
    server: ServerProcess
    tls: ssl.SSLContext | None = None
    channel: grpc.Channel | None = None
    wants_auth: bool = False
    token: str = ""

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server.client_port, self.tls, self.token)

    def start(self) -> float:
        """Start the member; returns the seconds until it answered a linearizable read."""
        began = time.perf_counter()
        self.server.start()
        seconds = time.perf_counter() - began
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = self.server.channel(options)
        if self.wants_auth:
            sign_in(self)
        return seconds

    def stop(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.server.terminate()

    @property
    def kv(self) -> services.KVStub:
        return services.KVStub(self.channel)

    @property
    def lease(self) -> services.LeaseStub:
        return services.LeaseStub(self.channel)

    @property
    def maintenance(self) -> services.MaintenanceStub:
        return services.MaintenanceStub(self.channel)

    def revision(self) -> int:
        reply = self.kv.Range(rpc.RangeRequest(key=b"\0", count_only=True), timeout=60)
        return int(reply.header.revision)

    def version(self) -> str:
        return str(self.maintenance.Status(rpc.StatusRequest(), timeout=60).version)

    def compact(self, revision: int) -> None:
        request = rpc.CompactionRequest(revision=revision, physical=True)
        self.kv.Compact(request, timeout=CALL_SECONDS_MAX)

    def defragment(self) -> None:
        self.maintenance.Defragment(rpc.DefragmentRequest(), timeout=CALL_SECONDS_MAX)

    def cpu_seconds(self) -> float:
        """Processor time the member has used so far, in user and kernel mode."""
        # The command name may hold blanks: fields are counted from its closing parenthesis.
        stat = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def loop_lag_seconds(self) -> float | None:
        """The event loop's worst lag so far, where the member reports one (Keydeck does)."""
        found = re.search(
            r"^keydeck_\w*loop_lag\w*max\w*(?:{[^}]*})? (\S+)$",
            self.server.http_get("/metrics"),
            re.M,
        )
        return float(found.group(1)) if found else None


def sign_in(target: Target) -> None:
    """Auth on, if it is not on already; from here on the target is asked as one user whose role
    covers all keys, and maintained as root."""
    assert target.channel is not None
    auth = services.AuthStub(target.channel)
    if not auth.AuthStatus(rpc.AuthStatusRequest(), timeout=60).enabled:
        everything = auth_pb2.Permission(
            permType=auth_pb2.Permission.READWRITE, key=b"\0", range_end=b"\0"
        )
        for name, role in (("root", "root"), (USER, "everything")):
            auth.UserAdd(rpc.AuthUserAddRequest(name=name, password=PASSWORD), timeout=60)
            auth.RoleAdd(rpc.AuthRoleAddRequest(name=role), timeout=60)
            auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user=name, role=role), timeout=60)
        grant = rpc.AuthRoleGrantPermissionRequest(name="everything", perm=everything)
        auth.RoleGrantPermission(grant, timeout=60)
        auth.AuthEnable(rpc.AuthEnableRequest(), timeout=60)
    tokens = [
        auth.Authenticate(rpc.AuthenticateRequest(name=name, password=PASSWORD), timeout=60).token
        for name in ("root", USER)
    ]
    target.channel = grpc.intercept_channel(target.channel, _Signed(tokens[0]))
    target.token = tokens[1]


class _Signed(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Adds a token to what the bench itself asks."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("token", self._token)]
        return continuation(details._replace(metadata=metadata), request)


@dataclass(frozen=True)
class Security:
    """What makes a server speak TLS and the generator trust it, and whether callers sign in."""

    flags: tuple[str, ...] = ()
    authority: bytes | None = None
    context: ssl.SSLContext | None = None
    wants_auth: bool = False

    @classmethod
    def with_tls(cls, directory: Path) -> Security:
        """A certificate as most are, ECDSA on P-256, for both servers alike."""
        authority = Authority()
        cert, key = authority.issue("server", "127.0.0.1").write(directory, "server")
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        context.set_alpn_protocols(["h2"])
        flags = (f"--cert-file={cert}", f"--key-file={key}")
        return cls(flags, authority.certificate, context)


NO_SECURITY = Security()


def etcd_target(
    release: EtcdRelease, data: Path, label: str = "", security: Security = NO_SECURITY
) -> Target:
    label = label or f"etcd {release.version}"
    flags = (*SETTINGS, *security.flags)
    server = etcd_server(release, data, flags=flags, authority=security.authority)
    return Target(label, server, security.context, wants_auth=security.wants_auth)


def keydeck_target(data: Path, security: Security = NO_SECURITY) -> Target:
    flags = (*SETTINGS, "--log-level=warn", *security.flags)
    server = keydeck_server(data, flags=flags, authority=security.authority)
    return Target("Keydeck", server, security.context, wants_auth=security.wants_auth)
