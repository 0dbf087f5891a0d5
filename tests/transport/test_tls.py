"""TLS listeners: ALPN, plain HTTP over HTTP/2, client certificates, handshakes that go wrong."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.transport import ALPN_PROTOCOLS, TransportLimits
from kvserver.transport.tls import server_name_of
from tests.transport.certificates import Certificates
from tests.transport.raw import RawClient
from tests.transport.running import WAIT_SECONDS, FixedTls, H2Client, Running, message, running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("tls")))


def server_context(certificates: Certificates, client_auth: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificates.server_cert, certificates.server_key)
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    if client_auth:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca)
    return context


def client_context(
    certificates: Certificates, alpn: list[str], with_certificate: bool = False
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    if with_certificate:
        context.load_cert_chain(certificates.client_cert, certificates.client_key)
    return context


async def test_grpc_over_tls(certificates: Certificates) -> None:
    async with running(ssl=server_context(certificates)) as run:
        credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{run.port}", credentials) as channel:
            body = b"s" * 300_000
            assert await channel.unary_unary("/pkg.Svc/Echo")(body, timeout=60) == body
        peer = run.service.calls[0].peer
        assert peer.is_tls
        assert peer.common_name is None


async def test_a_client_certificate_names_its_owner(certificates: Certificates) -> None:
    """verification.md: identity only from that connection's own TLS session."""
    async with running(ssl=server_context(certificates, client_auth=True)) as run:
        credentials = grpc.ssl_channel_credentials(
            certificates.ca.read_bytes(),
            certificates.client_key.read_bytes(),
            certificates.client_cert.read_bytes(),
        )
        async with grpc.aio.secure_channel(f"localhost:{run.port}", credentials) as channel:
            await channel.unary_unary("/pkg.Svc/Echo")(b"x", timeout=60)
        assert run.service.calls[0].peer.common_name == "alice"


async def test_plain_http_over_http2(certificates: Certificates) -> None:
    """spec/wire-api.md §3.4: what is not application/grpc is HTTP."""
    async with running(ssl=server_context(certificates)) as run:
        client = await H2Client.connect(run.port, client_context(certificates, ["h2"]))
        get = client.request("/health?x=1", content_type="", method="GET")
        fields, body = await client.answer(get)
        assert (fields[":status"], body) == ("200", b"GET /health x=1 0")
        post = client.request("/v3/kv", b"{}", content_type="application/json")
        assert (await client.answer(post))[1] == b"POST /v3/kv  2"
        head = client.request("/health", content_type="", method="HEAD")
        fields, body = await client.answer(head)
        assert (fields["content-length"], body) == ("15", b"")
        streamed = client.request("/stream", content_type="", method="GET")
        assert (await client.answer(streamed))[1] == b"piece 0\npiece 1\npiece 2\n"
        broken = client.request("/broken", content_type="", method="GET")
        assert (await client.answer(broken))[0][":status"] == "500"
        upload = client.request("/upload", b"u" * 9000, content_type="")
        assert (await client.answer(upload))[1] == b"9000"
        call = client.request("/pkg.Svc/Echo", message(b"x"))
        assert (await client.answer(call))[0]["grpc-status"] == "0"
        unknown = client.request("/no.Such/Method", message(b"x"))
        assert (await client.answer(unknown))[0]["grpc-status"] == "12"
        await client.close()


async def test_http_over_http2_has_its_limits(certificates: Certificates) -> None:
    limits = TransportLimits(http_body_bytes_max=1000)
    async with running(limits, ssl=server_context(certificates)) as run:
        client = await H2Client.connect(run.port, client_context(certificates, ["h2"]))
        stream = client.request("/v3/kv", b"x" * 1001, content_type="", end=False)
        assert (await client.answer(stream))[0][":status"] == "413"
        cancelled = client.request("/upload", b"x", content_type="", end=False)
        await run.until(lambda: run.server.open_streams == 1)
        client.h2.reset_stream(cancelled)
        client.flush()
        await run.until(lambda: run.server.open_streams == 0)
        await client.close()
        assert client.of(h2.events.ConnectionTerminated) == []


@pytest.mark.parametrize("alpn", [[], ["http/1.1"]])
async def test_http1_over_tls(certificates: Certificates, alpn: list[str]) -> None:
    async with running(ssl=server_context(certificates)) as run:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", run.port, ssl=client_context(certificates, alpn)
        )
        writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"GET /health  0"), WAIT_SECONDS)
        writer.close()


async def rejected(run: Running) -> dict[str, object]:
    await run.until(lambda: run.log)
    level, text, fields = run.log[0]
    assert (level, text) == ("warn", "rejected connection on client endpoint")
    return fields


async def test_plain_text_on_a_tls_port(certificates: Certificates) -> None:
    async with running(ssl=server_context(certificates)) as run:
        client = await RawClient.connect(run.port)
        await client.until_closed()
        assert str((await rejected(run))["remote-addr"]).startswith("127.0.0.1:")
        assert run.server.counters.handshakes_failed == 1
        await client.close()


async def test_no_client_certificate(certificates: Certificates) -> None:
    async with running(ssl=server_context(certificates, client_auth=True)) as run:
        context = client_context(certificates, ["h2"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", run.port, ssl=context)
        await rejected(run)


async def test_a_handshake_has_a_deadline(certificates: Certificates) -> None:
    limits = TransportLimits(handshake_seconds=0.05)
    async with running(limits, ssl=server_context(certificates)) as run:
        client = await RawClient.connect(run.port, b"")
        await client.until_closed()
        await rejected(run)
        await client.close()


async def test_stalled_handshakes_are_limited(certificates: Certificates) -> None:
    limits = TransportLimits(handshakes_max=2)
    async with running(limits, ssl=server_context(certificates)) as run:
        stalled = [await RawClient.connect(run.port, b"") for _ in range(2)]
        await run.until(lambda: run.server.counters.connections_accepted == 2)
        third = await RawClient.connect(run.port, b"")
        await third.until_closed()
        assert "too many" in str((await rejected(run))["error"])
        await stalled[0].close()
        await run.until(lambda: len(run.log) == 2)
        client = await H2Client.connect(run.port, client_context(certificates, ["h2"]))
        call = client.request("/pkg.Svc/Echo", message(b"x"))
        assert (await client.answer(call))[0]["grpc-status"] == "0"
        for each in (client, third, stalled[1]):
            await each.close()
        await run.until(lambda: len(run.log) == 3)


async def test_open_connections_are_limited(certificates: Certificates) -> None:
    """What is left of the file descriptors belongs to the log and the backend."""
    limits = TransportLimits(connections_max=2)
    async with running(limits, ssl=server_context(certificates)) as run:
        counters = run.server.counters
        client = await H2Client.connect(run.port, client_context(certificates, ["h2"]))
        call = client.request("/pkg.Svc/Echo", message(b"x"))
        assert (await client.answer(call))[0]["grpc-status"] == "0"
        pending = await RawClient.connect(run.port, b"")
        await run.until(lambda: counters.connections_pending == 1)
        third = await RawClient.connect(run.port, b"")
        await third.until_closed()
        assert (await rejected(run))["error"] == "too many open connections"
        await pending.close()
        await run.until(lambda: counters.connections_pending == 0)
        # Whoever fails the handshake, or is refused after it, makes room as well.
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04junk"):
            failed = await RawClient.connect(run.port, garbage)
            await failed.until_closed()
            await failed.close()
        await run.until(lambda: counters.connections_pending == 0)
        again = await H2Client.connect(run.port, client_context(certificates, ["h2"]))
        call = again.request("/pkg.Svc/Echo", message(b"x"))
        assert (await again.answer(call))[0]["grpc-status"] == "0"
        await third.close()
        await again.close()
        await client.close()


async def test_who_is_refused_after_the_handshake_leaves_no_trace(
    certificates: Certificates,
) -> None:
    tls = FixedTls(server_context(certificates, client_auth=True), refusal="not you")
    async with running(ssl=None) as run:
        _, port = await run.server.listen_tcp("127.0.0.1", 0, tls)
        context = client_context(certificates, ["h2"], with_certificate=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        with suppress(ConnectionError, ssl.SSLError):
            await asyncio.wait_for(reader.read(), WAIT_SECONDS)
        writer.close()
        fields = await rejected(run)
        assert fields["error"] == "not you"
        assert fields["dns-names"] == ["localhost"]
        assert fields["ip-addresses"] == ["127.0.0.1"]
        await run.until(lambda: run.server.counters.connections_pending == 0)


@pytest.mark.parametrize("name", ["localhost", "db.internal", ""])
async def test_the_name_that_a_client_asks_for(certificates: Certificates, name: str) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = client_context(certificates, ["h2"])
    client = context.wrap_bio(incoming, outgoing, server_hostname=name or None)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    assert server_name_of(hello) == name
    for end in range(len(hello)):
        assert server_name_of(hello[:end]) in (name, "")


@given(st.binary(max_size=400))
def test_rubbish_asks_for_no_name(data: bytes) -> None:
    assert isinstance(server_name_of(b"\x16\x03\x01\x00\x00\x01" + data), str)
