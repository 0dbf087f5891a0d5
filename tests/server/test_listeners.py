"""From URLs and TLS flags to listeners (spec/config.md §2.1, §5)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kvserver.clock import SystemClock
from kvserver.config import Config, ConfigError
from kvserver.config.complete import complete
from kvserver.config.sources import read_file
from kvserver.errors import FatalError
from kvserver.listeners import Listeners
from kvserver.logs import Logger
from kvserver.transport import HttpRequest, HttpResponse, Server
from tests.support.certificates import Authority
from tests.support.in_process import Lines, config
from tests.support.servers_proc import free_port


def listeners(found: Config, lines: Lines) -> Listeners:
    return Listeners(found, SystemClock(), Logger((lines,)))


@asynccontextmanager
async def listening(found: Config, lines: Lines) -> AsyncIterator[None]:
    """Client and metrics listeners of this configuration, with next to nothing behind them."""

    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, {}, b"here")

    servers = Server((), answer), Server((), answer)
    try:
        await listeners(found, lines).listen_to_clients(*servers)
        yield
    finally:
        for server in servers:
            await server.drain(0)


async def test_a_port_is_shared_by_those_who_want_to(tmp_path: Path) -> None:
    """--socket-reuse-port."""
    url = f"http://127.0.0.1:{free_port()}"
    for shared in (True, False):
        flags: dict[str, Any] = {
            "listen_client_urls": (url,),
            "advertise_client_urls": (url,),
            "socket_reuse_port": shared,
        }
        found = config(tmp_path, **flags)
        async with listening(found, Lines()):
            if shared:
                async with listening(found, Lines()):
                    continue
            with pytest.raises(FatalError, match="address already in use"):
                async with listening(found, Lines()):
                    pytest.fail("it listens")


async def test_insecure_listeners_are_told_apart(tmp_path: Path) -> None:
    cert, key = Authority().issue("m").write(tmp_path, "m")
    lines = Lines()
    urls = ("http://127.0.0.1:0", "https://127.0.0.1:0")
    found = config(
        tmp_path,
        listen_client_urls=urls,
        listen_metrics_urls=("http://127.0.0.1:0",),
        cert_file=str(cert),
        key_file=str(key),
    )
    async with listening(found, lines):
        told = {line["url"]: line["msg"] for line in lines.lines if "url" in line}
    assert told[urls[1]] == "serving client traffic securely"
    assert lines.find("serving client traffic insecurely; this is strongly discouraged!")
    assert len(lines.find("serving metrics traffic")) == 1
    (tls,) = lines.find("starting with client TLS")
    assert tls["tls-info"].startswith(f"cert = {cert}, key = {key}, ")


def test_certificates_that_are_given_are_not_made(tmp_path: Path) -> None:
    cert, key = Authority().issue("m").write(tmp_path, "m")
    lines = Lines()
    found = config(
        tmp_path,
        listen_client_urls=("https://127.0.0.1:0",),
        cert_file=str(cert),
        key_file=str(key),
        auto_tls=True,
    )
    listeners(found, lines)
    assert lines.find("ignoring client auto TLS since certs given")
    assert not (tmp_path / "fixtures").exists()


def test_without_a_secure_url_no_certificate_is_made(tmp_path: Path) -> None:
    listeners(config(tmp_path, auto_tls=True, peer_auto_tls=True), Lines())
    assert not (tmp_path / "fixtures").exists()


def test_what_a_file_says_of_allowed_names_counts(tmp_path: Path) -> None:
    """spec/config.md §3: clients' common names have a place in the file, though etcd has no flag
    for them; a rule that was passed over in silence would let everybody in."""
    text = "client-transport-security:\n  allowed-cn: [alice]\n"
    path = tmp_path / "etcd.yaml"
    path.write_text(text)
    assert complete(read_file(str(path)).values).client_cert_allowed_cn == ("alice",)
    path.write_text(text + "  allowed-hostname: [a.example.com]\n")
    with pytest.raises(ConfigError, match="AllowedCN and AllowedHostname are mutually exclusive"):
        complete(read_file(str(path)).values)


async def test_allowed_names_reach_the_listener(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue("m", "127.0.0.1").write(tmp_path, "m")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    found = config(
        tmp_path,
        listen_client_urls=("https://127.0.0.1:0",),
        cert_file=str(cert),
        key_file=str(key),
        trusted_ca_file=str(ca),
        client_cert_allowed_cn=("alice",),
    )
    lines = Lines()
    async with listening(found, lines):
        (line,) = lines.find("serving client traffic securely")
        host, _, port = line["address"].rpartition(":")
        for name, status in (("alice", True), ("bob", False)):
            own_cert, own_key = authority.issue(name).write(tmp_path, name)
            context = ssl.create_default_context(cafile=str(ca))
            context.load_cert_chain(own_cert, own_key)
            assert await is_let_in(host, int(port), context) is status


async def is_let_in(host: str, port: int, context: ssl.SSLContext) -> bool:
    """Whether an HTTP request is answered at all."""
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
    except (OSError, ssl.SSLError):
        return False
    return answer.startswith(b"HTTP/1.1 ")
