"""Members of other kinds: with certificates, JWTs, short-lived tokens, and after a restart
(spec/auth.md §6, §7; cases 21, 22, 25, 27)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kvserver.client import Client, ClientConfig, Endpoint
from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.auth.conftest import FAST_HASHES
from tests.support.auth_session import AuthSession, Caller
from tests.support.certificates import Authority, Identity
from tests.support.servers_proc import ServerProcess, keydeck_server, running

pytestmark = pytest.mark.e2e

OLD, BAD_TOKEN = "revision of auth store is old", "invalid auth token"
SECRET = b"0123456789abcdef" * 4


@contextmanager
def enabled(server: ServerProcess) -> Iterator[tuple[AuthSession, Caller, Caller]]:
    """Setup A, enabled, on a member of its own."""
    with running(server):
        session = AuthSession(server.endpoint)
        session.set_up()
        root, u = session.enable()
        yield session, root, u
        session.close()


def test_everything_but_tokens_survives_a_restart(tmp_path: Path) -> None:
    """Case 27; once gracefully, once by power cut, from the tables and from the log."""
    server = keydeck_server(tmp_path / "data", flags=[FAST_HASHES])
    with enabled(server) as (session, root, u):
        root("Auth/RoleAdd", name="later")
        revision = session.nobody("Auth/AuthStatus").authRevision
        # Everything reaches the tables; entries applied again would make their tokens again.
        root("Maintenance/Defragment")
        server.terminate()
        server.spawn()
        read = rpc.RangeRequest(key=b"a1")
        wait = {"timeout": 120, "wait_for_ready": True}
        refused = session.nobody.channel.unary_unary("/etcdserverpb.KV/Range")
        with pytest.raises(grpc.RpcError) as error:
            refused(read.SerializeToString(), metadata=tuple(u.metadata.items()), **wait)
        assert error.value.details() == f"etcdserver: {BAD_TOKEN}"
        status = session.nobody("Auth/AuthStatus")
        assert (status.enabled, status.authRevision) == (True, revision)
        root, u = session.log_in("root", "rp"), session.log_in("u", "up")
        assert u.outcome("KV/Put", key=b"a1") == "ok"
        assert u.outcome("KV/Put", key=b"c1") == "permission denied"
        root("Auth/UserRevokeRole", name="u", role="r")
        server.kill()
        server.spawn()
        with pytest.raises(grpc.RpcError):
            refused(read.SerializeToString(), **wait)
        again = session.log_in("u", "up")
        assert again.outcome("KV/Put", key=b"a1") == "permission denied"
        assert session.nobody("Auth/AuthStatus").authRevision == revision + 1


def test_our_client_logs_in_again_by_itself(tmp_path: Path) -> None:
    """Case 27, the client's side."""
    server = keydeck_server(tmp_path / "data", flags=[FAST_HASHES])
    with enabled(server) as (_session, root, _u):
        endpoint = Endpoint.parse(f"http://{server.endpoint}")
        client = Client(ClientConfig((endpoint,), user="u", password="up"))
        put = rpc.PutRequest(key=b"a1")
        client.write(lambda stubs: stubs.kv.Put, put, 60)
        root("Auth/UserChangePassword", name="u", password="up")  # voids its token
        client.write(lambda stubs: stubs.kv.Put, put, 60)
        client.close()


def test_idle_tokens_expire(tmp_path: Path) -> None:
    """Case 25: with a lifetime of nothing, every token is idle for too long."""
    server = keydeck_server(tmp_path / "data", flags=[FAST_HASHES, "--auth-token-ttl=0"])
    with enabled(server) as (_session, root, u):
        assert u.outcome("KV/Range", key=b"a") == BAD_TOKEN
        assert root.outcome("KV/Range", key=b"a") == BAD_TOKEN


def test_case_21_json_web_tokens(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    flag = f"--auth-token=jwt,sign-method=HS256,priv-key={secret},ttl=10m"
    server = keydeck_server(tmp_path / "data", flags=[FAST_HASHES, flag])
    with enabled(server) as (session, root, u):
        assert u.metadata["token"].count(".") == 2
        assert u.outcome("KV/Put", key=b"a1") == "ok"
        assert u.outcome("KV/Put", key=b"zz") == "permission denied"
        root("Auth/RoleAdd", name="x")
        assert u.outcome("KV/Put", key=b"a1") == OLD
        assert u.outcome("KV/Range", key=b"a1") == OLD
        assert u.outcome("Maintenance/Status") == OLD
        fresh = session.log_in("u", "up")
        assert fresh.outcome("KV/Put", key=b"a1") == "ok"
        head, body, _ = u.metadata["token"].split(".")
        none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + body + "."
        for token in (none, f"{head}.{body}.", "x.1"):
            assert session.with_token(token).outcome("KV/Put", key=b"a1") == BAD_TOKEN
        server.terminate()
        server.spawn()  # signed tokens are not in memory: they live on
        reply = fresh.channel.unary_unary("/etcdserverpb.KV/Range")(
            rpc.RangeRequest(key=b"a1").SerializeToString(),
            metadata=tuple(fresh.metadata.items()),
            timeout=60,
            wait_for_ready=True,
        )
        assert rpc.RangeResponse.FromString(reply).count == 1


def test_members_that_cannot_sign_or_have_no_tokens(tmp_path: Path) -> None:
    identity = Authority().issue("signer")
    public, _ = identity.write(tmp_path, "signer")
    flags = {
        f"--auth-token=jwt,sign-method=ES256,pub-key={public}": (
            "auth: token signing attempted with verify-only key"
        ),
        "--auth-token=": "authentication failed, invalid user ID or password",
    }
    for number, (flag, text) in enumerate(flags.items()):
        server = keydeck_server(tmp_path / f"data{number}", flags=[FAST_HASHES, flag])
        with running(server):
            session = AuthSession(server.endpoint)
            session.set_up()
            session.nobody("Auth/AuthEnable")
            outcome = session.nobody.outcome("Auth/Authenticate", name="u", password="up")
            assert outcome == text
            session.close()


def test_a_flag_that_means_nothing_ends_the_start(tmp_path: Path) -> None:
    server = keydeck_server(tmp_path / "data", flags=["--auth-token=macaroon"])
    server.spawn()
    assert server.wait_exit(120) == 1
    assert "auth: invalid auth options" in server.log()


# Certificates


class TlsMember(ServerProcess):
    """Clients come over TLS, with certificates of `authority`."""

    def arguments(self) -> list[str]:
        plain = super().arguments()
        return [a.replace("http:", "https:") if "client-urls" in a else a for a in plain]


def test_case_22_certificates(tmp_path: Path) -> None:
    authority = Authority()
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    served = authority.issue("server", "127.0.0.1", "localhost")
    certificate, key = served.write(tmp_path, "server")
    flags = [
        FAST_HASHES,
        "--client-cert-auth",
        f"--trusted-ca-file={ca}",
        f"--cert-file={certificate}",
        f"--key-file={key}",
    ]
    plain = keydeck_server(tmp_path / "data", flags=flags)
    server = TlsMember(plain.command, plain.data_dir, flags=plain.flags)

    def session_of(client: Identity) -> AuthSession:
        credentials = grpc.ssl_channel_credentials(
            authority.certificate, client.key, client.certificate
        )
        return AuthSession(server.endpoint, credentials)

    def ready() -> bool:
        read = session_of(authority.issue("root"))
        options = {"timeout": 120, "wait_for_ready": True}
        read.nobody.channel.unary_unary("/etcdserverpb.KV/Range")(
            rpc.RangeRequest(key=b"x").SerializeToString(), **options
        )
        read.close()
        return True

    server.answers = ready  # type: ignore[method-assign]
    with running(server):
        sessions = {name: session_of(authority.issue(name)) for name in ("root", "alice", "eve")}
        root, alice, eve = (sessions[name].nobody for name in ("root", "alice", "eve"))
        no_password = {"no_password": True}
        for name in ("root", "alice"):
            root("Auth/UserAdd", name=name, options=no_password)
        root("Auth/UserGrantRole", user="root", role="root")
        root("Auth/RoleAdd", name="reader")
        root("Auth/UserGrantRole", user="alice", role="reader")
        sessions["root"].grant("reader", auth_pb2.Permission.READ, b"a")
        root("Auth/UserAdd", name="u", password="up")
        root("Auth/AuthEnable")

        assert alice.outcome("KV/Range", key=b"a") == "ok"
        assert alice.outcome("KV/Put", key=b"a") == "permission denied"
        assert root.outcome("Auth/UserAdd", name="v", password="vp") == "ok"
        assert eve.outcome("KV/Range", key=b"a") == "permission denied"
        assert eve.outcome("Auth/UserList") == "user name not found"
        # A token counts before the certificate, also a bad one; through the gateway neither
        # the certificate does.
        u = sessions["root"].log_in("u", "up")
        assert u.outcome("KV/Range", key=b"a") == "permission denied"
        bad = Caller(root.channel, {"token": "x.1"})
        assert bad.outcome("KV/Range", key=b"a") == BAD_TOKEN
        gateway = Caller(root.channel, {"grpcgateway-accept": "*/*"})
        assert gateway.outcome("KV/Range", key=b"a") == "user name is empty"
        assert '"level":"fatal"' not in server.log()
        for session in sessions.values():
            session.close()
