"""v3 discovery against a Keydeck member and a real etcd (spec/cluster.md §8.2, case 29)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvserver.client import Client
from kvserver.discovery.registry import Registry, client_config, register_and_wait
from kvserver.errors import FatalError
from kvserver.membership import member_id
from kvserver.proto import rpc_pb2
from tests.support.certificates import Authority
from tests.support.cluster_proc import KEYDECK as KEYDECK_COMMAND
from tests.support.in_process import config
from tests.support.servers import KEYDECK, Server, kinds, running
from tests.support.servers_proc import ServerProcess, wait_until

pytestmark = pytest.mark.e2e

WAIT_SECONDS = 120.0
"""Only an upper bound for a test that hangs."""
_tokens = itertools.count()


@pytest.fixture(scope="module", params=kinds())
def service(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(request.param, Path(tmp_path_factory.mktemp("registry"))) as [server]:
        yield server


def put(server: Server, key: str, value: str) -> None:
    client = server.client()
    request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode())
    client.write(lambda stubs: stubs.kv.Put, request, WAIT_SECONDS)
    client.close()


def token_of_size(server: Server, size: str) -> str:
    token = f"token-{next(_tokens)}"
    put(server, f"/_etcd/registry/{token}/_config/size", size)
    return token


def told(message: str, **fields: object) -> None:
    """Nobody listens."""


def discovered(server: Server, token: str, name: str, *urls: str) -> Mapping[str, tuple[str, ...]]:
    registry = Registry(server.client().config, token, WAIT_SECONDS, told)
    try:
        return register_and_wait(registry, name, urls, token, told)
    finally:
        registry.close()


def test_the_first_three_form_the_cluster_and_the_fourth_is_told(service: Server) -> None:
    token = token_of_size(service, "3")
    names = ("a", "b", "c", "d")

    def start(name: str) -> Mapping[str, tuple[str, ...]] | str:
        try:
            return discovered(service, token, name, f"http://{name}:1", f"http://{name}:2")
        except FatalError as refusal:
            return str(refusal)

    with ThreadPoolExecutor(len(names)) as pool:
        outcomes = list(pool.map(start, names))
    clusters = [found for found in outcomes if not isinstance(found, str)]
    assert len(clusters) == 3
    assert clusters[0] == clusters[1] == clusters[2]
    assert clusters[0] == {
        name: (f"http://{name}:1", f"http://{name}:2")
        for name, found in zip(names, outcomes, strict=True)
        if not isinstance(found, str)
    }
    assert [found for found in outcomes if isinstance(found, str)] == ["discovery: cluster is full"]
    # Killed before it could found its cluster, a member asks again and finds its place.
    name = sorted(clusters[0])[0]
    assert discovered(service, token, name, *clusters[0][name]) == clusters[0]


def test_what_is_registered_is_what_etcd_registers(service: Server) -> None:
    token = token_of_size(service, "1")
    assert discovered(service, token, "a", "http://a:1") == {"a": ("http://a:1",)}
    client = service.client()
    prefix = f"/_etcd/registry/{token}/members/".encode()
    request = rpc_pb2.RangeRequest(key=prefix, range_end=prefix[:-1] + b"0")
    (found,) = client.read(lambda stubs: stubs.kv.Range, request, WAIT_SECONDS).kvs
    client.close()
    assert found.key == prefix + b"%x" % member_id(("http://a:1",), token)
    assert found.value == b"a=http://a:1"


@pytest.mark.parametrize("size", ["", "0", "-1", "many"])
def test_a_size_that_is_none(service: Server, size: str) -> None:
    token = token_of_size(service, size)
    with pytest.raises(FatalError, match="discovery: size key is bad"):
        discovered(service, token, "a", "http://a:1")


def test_a_token_that_nobody_prepared(service: Server) -> None:
    with pytest.raises(FatalError, match="discovery: size key not found"):
        discovered(service, "no-such-token", "a", "http://a:1")


def test_rubbish_among_the_members(service: Server) -> None:
    token = token_of_size(service, "2")
    put(service, f"/_etcd/registry/{token}/members/1234", "x=ftp://nowhere")
    with pytest.raises(FatalError, match="what members have registered is bad"):
        discovered(service, token, "a", "http://a:1")


@pytest.fixture
def nobodys_port() -> Iterator[int]:
    """It is taken, but nobody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_service_that_is_not_there_yet_is_waited_for(service: Server, nobodys_port: int) -> None:
    token = token_of_size(service, "1")
    config = service.client().config
    nobody = replace(config.endpoints[0], port=nobodys_port)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 11:
            registry.close()
            registry._client = Client(config)

    away = replace(config, endpoints=(nobody,), connect_seconds=0.2)
    registry = Registry(away, token, WAIT_SECONDS, told, pause)
    try:
        assert registry.size() == 1
    finally:
        registry.close()
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


# -- the flags


def test_tls_and_a_user(tmp_path: Path) -> None:
    """Every way to be secure about the service, and the one not to be."""
    authority = Authority()
    member, client = authority.issue("member", "localhost"), authority.issue("own")
    cert, key = member.write(tmp_path, "member")
    own_cert, own_key = client.write(tmp_path, "own")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    tls = {
        "tls_ca": authority.certificate,
        "tls_certificate": client.certificate,
        "tls_key": client.key,
        "tls_server_name": "localhost",
    }
    flags = [f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={ca}"]
    with running(KEYDECK, tmp_path / "service", flags=flags, tls=tls) as [server]:
        token = token_of_size(server, "1")
        port = server.endpoint.port
        files = {"discovery_cert": str(own_cert), "discovery_key": str(own_key)}
        for more in (
            {"discovery_endpoints": (f"localhost:{port}",), "discovery_cacert": str(ca)},
            {
                "discovery_endpoints": (f"https://127.0.0.1:{port}",),
                "discovery_insecure_skip_tls_verify": True,
            },
        ):
            found = config(
                tmp_path,
                discovery_token=token,
                discovery_insecure_transport=False,
                **files,
                **more,
            )
            registry = Registry(client_config(found), token, WAIT_SECONDS, told)
            assert registry.size() == 1
            registry.close()
    found = replace(found, discovery_user="u", discovery_password="secret")
    assert (client_config(replace(found, discovery_insecure_skip_tls_verify=False)).user) == "u"
    assert "secret" not in repr(found)


def test_files_and_endpoints_that_cannot_be_used(tmp_path: Path) -> None:
    for flags, text in (
        ({"discovery_cacert": "/missing"}, "open /missing: no such file or directory"),
        ({"discovery_endpoints": ("ftp://x",)}, "--discovery-endpoints: "),
    ):
        given = {"discovery_endpoints": ("http://a:1",), "discovery_token": "t", **flags}
        with pytest.raises(FatalError) as refusal:
            client_config(config(tmp_path, **given))
        assert text in str(refusal.value)


class Discovering(ServerProcess):
    """Is not told its cluster."""

    def arguments(self) -> list[str]:
        return [a for a in super().arguments() if not a.startswith("--initial-cluster=")]


@pytest.mark.parametrize("service", kinds()[:1], indirect=True)
def test_members_found_a_cluster_through_another(service: Server, tmp_path: Path) -> None:
    """From the command line to a cluster that serves; a restart asks nobody."""
    token = token_of_size(service, "2")
    flags = (
        f"--discovery-endpoints={service.client_url}",
        f"--discovery-token={token}",
        "--initial-cluster-token=ignored",
    )
    members = [Discovering(KEYDECK_COMMAND, tmp_path / name, name, flags) for name in ("a", "b")]
    try:
        for member in members:
            member.spawn()
        for member in members:
            member.wait_ready(WAIT_SECONDS)
        service_log = members[0].log(200_000)
        assert "found peers from discovery service" in service_log
        assert members[0].terminate() == 0
        members[0].flags = ("--discovery-endpoints=http://127.0.0.1:1", "--discovery-token=x")
        members[0].spawn()
        members[0].wait_ready(WAIT_SECONDS)
        late = Discovering(KEYDECK_COMMAND, tmp_path / "c", "c", flags)
        late.spawn()
        assert late.wait_exit(WAIT_SECONDS) == 1
        assert "discovery: cluster is full" in late.log()
    finally:
        for member in members:
            if member.running():
                member.kill()


@pytest.mark.parametrize("service", kinds()[-1:], indirect=True)
def test_a_member_that_waits_for_others_can_be_ended(service: Server, tmp_path: Path) -> None:
    token = token_of_size(service, "2")
    flags = (f"--discovery-endpoints={service.client_url}", f"--discovery-token={token}")
    member = Discovering(KEYDECK_COMMAND, tmp_path / "a", "a", flags)
    member.spawn()
    try:
        wait_until(lambda: "found peers" in member.log(100_000), WAIT_SECONDS, "it waits")
    finally:
        status = member.terminate(WAIT_SECONDS)
    assert status not in (-9, 0)
