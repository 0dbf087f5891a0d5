"""The client against real members: failover of reads, writes at most once, tokens renewed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvserver.client import CallFailed, Client, ClientConfig, Endpoint
from kvserver.errors import Code
from kvserver.proto import rpc_pb2
from tests.support.auth import auth_kinds, enable_auth
from tests.support.servers import Server, kinds, running

pytestmark = pytest.mark.e2e

SECONDS_MAX = 60.0
"""Only an upper bound for a test that hangs."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://h:1", Endpoint("h", 1)),
        ("https://h:1/", Endpoint("h", 1, True)),
        ("h:1", Endpoint("h", 1)),
        ("http://h", Endpoint("h", 2379)),
        (" http://[::1]:2379 ", Endpoint("::1", 2379)),
    ],
)
def test_endpoints(text: str, expected: Endpoint) -> None:
    assert Endpoint.parse(text) == expected
    assert Endpoint.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "http://", "ftp://h:1", "http://h:x", "http://h:1/p", "http://u@h:1", "unix:///x"]
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError):
        Endpoint.parse(text)


@pytest.fixture(scope="module", params=kinds())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    with running(request.param, tmp_path_factory.mktemp("client")) as [one]:
        yield one


@pytest.fixture
def dead() -> Iterator[Endpoint]:
    """Nobody listens there, and nobody will: the port is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Endpoint("127.0.0.1", taken.getsockname()[1])


@pytest.fixture
def client(server: Server, dead: Endpoint) -> Iterator[Client]:
    """Knows a dead endpoint first and the live one second."""
    one = Client(ClientConfig((dead, server.endpoint), connect_seconds=SECONDS_MAX))
    yield one
    one.close()


def put(key: bytes, **more: object) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=b"v", **more)


def test_a_read_finds_the_endpoint_that_answers(client: Client) -> None:
    answer = client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"k"), SECONDS_MAX)
    assert answer.header.revision >= 1


def test_a_write_finds_the_endpoint_that_answers(client: Client) -> None:
    first = client.write(lambda s: s.kv.Put, put(b"once"), SECONDS_MAX).header.revision
    assert client.write(lambda s: s.kv.Put, put(b"once"), SECONDS_MAX).header.revision == first + 1


def test_a_refusal_is_not_asked_again_elsewhere(client: Client) -> None:
    with pytest.raises(CallFailed) as caught:
        client.read(
            lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"k", revision=10**9), SECONDS_MAX
        )
    assert caught.value.code is Code.OUT_OF_RANGE
    assert "future revision" in caught.value.message


def test_a_refused_write_is_known_not_to_have_happened(client: Client) -> None:
    with pytest.raises(CallFailed) as caught:
        client.write(lambda s: s.kv.Put, put(b"k", lease=77), SECONDS_MAX)
    assert caught.value.code is Code.NOT_FOUND
    assert not caught.value.fate_is_unknown


def test_a_write_nobody_took_is_known_not_to_have_happened(dead: Endpoint) -> None:
    client = Client(ClientConfig((dead,)))
    with pytest.raises(CallFailed) as caught:
        client.write(lambda s: s.kv.Put, put(b"k"), SECONDS_MAX)
    assert caught.value.code is Code.UNAVAILABLE
    assert not caught.value.fate_is_unknown
    client.close()


def test_a_fan_out_answers_for_each_member(client: Client, server: Server, dead: Endpoint) -> None:
    answers = client.fan_out(
        [dead, server.endpoint],
        lambda s: s.maintenance.Status,
        rpc_pb2.StatusRequest(),
        SECONDS_MAX,
    )
    assert [answer.endpoint for answer in answers] == [dead, server.endpoint]
    assert answers[0].failure is not None
    assert answers[0].failure.code is Code.UNAVAILABLE
    assert answers[1].response is not None
    assert answers[1].response.raftTerm >= 1


@pytest.fixture(scope="module", params=auth_kinds())
def guarded(request, tmp_path_factory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("guarded")
    with running(request.param, directory) as [one]:
        client = one.client()
        client.write(lambda s: s.kv.Put, put(b"/pub/a"), SECONDS_MAX)
        enable_auth(client)
        client.close()
        yield one


def signed_in(server: Server, user: str, password: str = "pw") -> Client:
    return Client(ClientConfig((server.endpoint,), user=user, password=password))


def test_a_user_reads_what_the_roles_allow(guarded: Server) -> None:
    client = signed_in(guarded, "rita")
    assert (
        client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"/pub/a"), SECONDS_MAX).count
        == 1
    )
    with pytest.raises(CallFailed) as caught:
        client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"/other"), SECONDS_MAX)
    assert caught.value.code is Code.PERMISSION_DENIED
    client.close()


def test_a_wrong_password_is_a_failure_with_the_servers_words(guarded: Server) -> None:
    client = signed_in(guarded, "rita", "wrong")
    with pytest.raises(CallFailed, match="authentication failed"):
        client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"/pub/a"), SECONDS_MAX)
    client.close()


def test_a_token_the_member_forgot_is_renewed(guarded: Server) -> None:
    """spec/auth.md: simple tokens live in memory only, a restart forgets them."""
    client = signed_in(guarded, "root")
    request = rpc_pb2.RangeRequest(key=b"/other")
    client.read(lambda s: s.kv.Range, request, SECONDS_MAX)
    client._token = "forgotten.1"
    assert client.read(lambda s: s.kv.Range, request, SECONDS_MAX).count == 0
    client._token = "forgotten.1"
    client.write(lambda s: s.kv.Put, put(b"/other"), SECONDS_MAX)
    client.close()


@pytest.fixture(params=auth_kinds())
def signing(request, tmp_path: Path) -> Iterator[Server]:
    """A member whose tokens are signed and hold the auth revision."""
    key = tmp_path / "token.key"
    key.write_text("a secret of some length, for tests")
    flags = [f"--auth-token=jwt,sign-method=HS256,priv-key={key},ttl=10m", "--bcrypt-cost=4"]
    with running(request.param, tmp_path, flags=flags) as [one]:
        client = one.client()
        enable_auth(client)
        client.close()
        yield one


def test_a_token_from_before_a_change_of_roles_is_renewed(signing: Server) -> None:
    """spec/auth.md §2: each change makes older signed tokens worthless."""
    client, other = signed_in(signing, "root"), signed_in(signing, "root")
    read = rpc_pb2.RangeRequest(key=b"/other")

    def change(role: str) -> None:
        other.write(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=role), SECONDS_MAX)

    client.read(lambda s: s.kv.Range, read, SECONDS_MAX)
    change("one")
    assert client.read(lambda s: s.kv.Range, read, SECONDS_MAX).count == 0
    change("two")
    client.write(lambda s: s.kv.Put, put(b"/other"), SECONDS_MAX)
    client.close()
    other.close()


@pytest.fixture(params=auth_kinds())
def open_server(request, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, tmp_path) as [one]:
        yield one


def test_credentials_do_no_harm_where_authentication_is_off(open_server: Server) -> None:
    client = signed_in(open_server, "rita")
    assert client.read(
        lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"k"), SECONDS_MAX
    ).header.revision
    client.close()
