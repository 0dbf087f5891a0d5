"""What a gRPC server owes its callers, with the `h2` library as the client."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import h2.events
import pytest

from tests.transport.running import H2Client, Running, message, running, wait_for


@pytest.fixture
async def run() -> AsyncIterator[Running]:
    async with running() as run:
        yield run


@pytest.fixture
async def client(run: Running) -> AsyncIterator[H2Client]:
    client = await H2Client.connect(run.port)
    yield client
    await client.close()


async def test_the_shape_of_a_reply(client: H2Client) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"hi"))
    assert await client.answer(stream) == (
        {":status": "200", "content-type": "application/grpc", "grpc-status": "0"},
        message(b"hi"),
    )


async def test_a_failure_is_trailers_only(client: H2Client) -> None:
    stream = client.request("/pkg.Svc/Refuse", message(b"hi"))
    assert await client.answer(stream) == (
        {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-status": "9",
            "grpc-message": "etcdserver: no %E2%80%94 100%25 refused",
        },
        b"",
    )
    assert len(client.of(h2.events.ResponseReceived)) == 1
    assert not client.of(h2.events.TrailersReceived)


@pytest.mark.parametrize(
    "content_type",
    ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"],
)
async def test_content_types(client: H2Client, content_type: str) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"hi"), content_type=content_type)
    assert (await client.answer(stream))[0]["grpc-status"] == "0"


@pytest.mark.parametrize("content_type", ["", "application/json", "application/grpc-web"])
async def test_another_content_type_is_415(client: H2Client, content_type: str) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"hi"), content_type=content_type)
    fields, _ = await client.answer(stream)
    assert fields[":status"] == "415"


async def test_get_is_405(client: H2Client) -> None:
    stream = client.request("/pkg.Svc/Echo", method="GET")
    assert (await client.answer(stream))[0][":status"] == "405"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/pkg.Svc/Nope", "unknown method Nope for service pkg.Svc"),
        ("/pkg.None/Echo", "unknown service pkg.None"),
        ("/a.b.C/d/e", "unknown service a.b.C/d"),
        ("/", 'malformed method name: "/"'),
        ("pkg.Svc/Echo", 'malformed method name: "pkg.Svc/Echo"'),
    ],
)
async def test_unknown_paths(client: H2Client, path: str, text: str) -> None:
    stream = client.request(path, message(b"x"))
    fields, _ = await client.answer(stream)
    assert fields["grpc-status"] == "12"
    assert fields["grpc-message"] == text


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("identity", message(b"abc")),
        ("gzip", message(gzip.compress(b"abc", mtime=0), compressed=True)),
        ("deflate", message(zlib.compress(b"abc"), compressed=True)),
        ("gzip", message(b"abc")),  # the flag decides, message by message
    ],
)
async def test_request_encodings(client: H2Client, encoding: str, packed: bytes) -> None:
    stream = client.request("/pkg.Svc/Echo", packed, [("grpc-encoding", encoding)])
    assert (await client.answer(stream))[1] == message(b"abc")


async def test_an_unknown_encoding_is_told_the_known_ones(client: H2Client) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"x"), [("grpc-encoding", "zstd")])
    fields, _ = await client.answer(stream)
    assert fields["grpc-status"] == "12"
    assert fields["grpc-accept-encoding"] == "identity,gzip,deflate"
    assert '"zstd"' in fields["grpc-message"]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "identity"),
        (b"\x00\x00\x00", "identity"),
        (b"\x00\x00\x00\x00\x05abc", "identity"),
        (message(b"a") + message(b"b"), "identity"),
        (b"\x02\x00\x00\x00\x01x", "identity"),
        (message(b"abc", compressed=True), "identity"),
        (message(b"not gzip", compressed=True), "gzip"),
        (message(gzip.compress(b"cut off", mtime=0)[:-4], compressed=True), "gzip"),
        (message(gzip.compress(b"a", mtime=0) + b"more", compressed=True), "gzip"),
    ],
)
async def test_malformed_unary_requests_are_internal(
    client: H2Client, body: bytes, encoding: str
) -> None:
    stream = client.request("/pkg.Svc/Echo", body, [("grpc-encoding", encoding)])
    assert (await client.answer(stream))[0]["grpc-status"] == "13"


@pytest.mark.parametrize("method", ["Echo", "Bidi"])
async def test_a_message_is_refused_at_its_length(client: H2Client, method: str) -> None:
    """The refusal comes with the prefix; the body is not waited for (spec/wire-api.md §3.2)."""
    prefix = b"\x00" + (2_097_153).to_bytes(4, "big")
    stream = client.request(f"/pkg.Svc/{method}", prefix, end=False)
    fields, _ = await client.answer(stream)
    assert fields["grpc-status"] == "8"
    assert fields["grpc-message"] == (
        "grpc: received message larger than max (2097153 vs. 2097152)"
    )


async def test_a_bomb_is_refused_whatever_it_claims(client: H2Client) -> None:
    bomb = message(gzip.compress(bytes(30 * 1024 * 1024)), compressed=True)
    stream = client.request("/pkg.Svc/Echo", None, [("grpc-encoding", "gzip")], end=False)
    client.h2.send_data(stream, bomb[:16_000])
    client.h2.send_data(stream, bomb[16_000:32_000])
    client.h2.send_data(stream, bomb[32_000:], end_stream=True)
    client.flush()
    assert (await client.answer(stream))[0]["grpc-status"] == "8"


@pytest.mark.parametrize("timeout", ["", "5", "S", "-1S", "123456789S", "5x", "5 S", "+5S"])
async def test_malformed_timeouts(client: H2Client, timeout: str) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"x"), [("grpc-timeout", timeout)])
    assert (await client.answer(stream))[0]["grpc-status"] == "13"


@pytest.mark.parametrize(
    "timeout", ["99999999H", "1H", "5M", "5S", "5000m", "5000000u", "5000000n"]
)
async def test_timeouts(run: Running, client: H2Client, timeout: str) -> None:
    stream = client.request("/pkg.Svc/Echo", message(b"x"), [("grpc-timeout", timeout)])
    await client.ended(stream)
    assert run.service.calls[0].deadline is not None


@pytest.mark.parametrize("method", ["Never", "Slowly", "Silent"])
async def test_the_server_answers_a_passed_deadline(
    run: Running, client: H2Client, method: str
) -> None:
    """spec/wire-api.md §5.2: DEADLINE_EXCEEDED `context deadline exceeded`."""
    stream = client.request(f"/pkg.Svc/{method}", message(b"x"), [("grpc-timeout", "30m")])
    fields, _ = await client.answer(stream)
    assert fields["grpc-status"] == "4"
    assert fields["grpc-message"] == "context deadline exceeded"
    await wait_for(run.service.cancelled)


async def test_an_answer_before_the_end_of_the_request_resets_without_error(
    client: H2Client,
) -> None:
    """RFC 9113 §8.1: trailers, then RST_STREAM NO_ERROR; what still comes is dropped."""
    stream = client.request("/pkg.Svc/Bidi", message(b"fail"), end=False)
    fields, _ = await client.answer(stream)
    assert fields["grpc-status"] == "14"
    await client.until(lambda events: client.of(h2.events.StreamReset))
    assert client.of(h2.events.StreamReset)[0].error_code == 0
    # The peer had not heard yet: not a fault.
    client.writer.write(b"\x00\x00\x01\x00\x01" + stream.to_bytes(4, "big") + b"x")
    again = client.request("/pkg.Svc/Echo", message(b"x"))
    assert (await client.answer(again))[0]["grpc-status"] == "0"


async def test_a_long_header_list_refuses_its_stream_only(client: H2Client) -> None:
    """verification.md: header list ≤ 16 KiB."""
    stream = client.request("/pkg.Svc/Echo", message(b"x"), [("token", "t" * 17_000)])
    fields, _ = await client.answer(stream)
    assert fields[":status"] == "431"
    assert fields["grpc-status"] == "8"
    again = client.request("/pkg.Svc/Echo", message(b"x"))
    assert (await client.answer(again))[0]["grpc-status"] == "0"


async def test_metadata_beside_what_is_well_known(run: Running, client: H2Client) -> None:
    extra = [("x-bin", "AAEC"), ("y-bin", "AAE="), ("bad-bin", "a"), ("hasleader", "true")]
    await client.ended(client.request("/pkg.Svc/Echo", message(b"x"), extra))
    metadata = run.service.calls[0].metadata
    assert metadata["x-bin"] == b"\x00\x01\x02"
    assert metadata["y-bin"] == b"\x00\x01"
    assert metadata["hasleader"] == "true"
    assert metadata[":authority"] == "test"
    assert "bad-bin" not in metadata
    assert "te" not in metadata


async def test_replies_of_one_turn_leave_in_order_of_completion(client: H2Client) -> None:
    streams = [client.request("/pkg.Svc/Later", message(b"%d" % n)) for n in range(50)]
    for stream in streams:
        await client.ended(stream)
    assert [client.data(s) for s in streams] == [message(b"%d" % n) for n in range(50)]


async def test_cancelled_calls_are_silent(run: Running, client: H2Client) -> None:
    stream = client.request("/pkg.Svc/Never", message(b"x"))
    await wait_for(run.service.arrived)
    client.h2.reset_stream(stream)
    client.flush()
    await wait_for(run.service.cancelled)
    call = run.service.calls[0]
    assert call.cancelled and call.on_cancel is None
    call.reply(b"nobody hears this")
    again = client.request("/pkg.Svc/Echo", message(b"x"))
    await client.answer(again)
    assert not [e for e in client.events if getattr(e, "stream_id", None) == stream]


async def test_disconnect_cancels_everything(run: Running) -> None:
    client = await H2Client.connect(run.port)
    client.request("/pkg.Svc/Silent", message(b"x"))
    await wait_for(run.service.arrived)
    run.service.arrived.clear()
    client.request("/pkg.Svc/Never", message(b"x"))
    await wait_for(run.service.arrived)
    client.writer.transport.abort()
    await run.until(lambda: run.server.open_connections == 0)
    assert run.service.calls[0].cancelled
    assert run.service.streams[0].cancelled
    await wait_for(run.service.cancelled)
