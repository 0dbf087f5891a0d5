"""The load generator counts replies, and believes none that is an error."""

from __future__ import annotations

import asyncio

import pytest
from hpack import Decoder, Encoder

from bench import requests
from bench.connection import Address, ReplyFailed, _leaves_table
from bench.frames import Script, deadline_blocks, header_blocks
from bench.load import Swarm, percentile
from bench.measures import Sample
from bench.report import Figures, table
from bench.targets import Security
from kvserver.proto import rpc_pb2 as rpc
from kvserver.tls import ServerTls, TlsSettings
from kvserver.transport import Server
from tests.compat.conftest import require
from tests.support.etcd_binaries import find_etcd35
from tests.support.servers_proc import etcd_server, running
from tests.transport.running import Service


def test_later_header_blocks_are_short_and_mean_the_same() -> None:
    blocks, decoder = header_blocks("/a/B", "host:1"), Decoder()
    decoded = [decoder.decode(next(blocks)) for _ in range(3)]
    assert decoded[0] == decoded[1] == decoded[2]
    assert len(next(blocks)) < 10


def test_every_deadline_differs() -> None:
    blocks, decoder = deadline_blocks("/a/B", "host:1"), Decoder()
    timeouts = [dict(decoder.decode(next(blocks)))["grpc-timeout"] for _ in range(300)]
    assert len(set(timeouts)) == 300


def test_blocks_that_touch_the_dynamic_table_are_told_apart() -> None:
    encoder = Encoder()
    literal = encoder.encode([("grpc-status", "0")])
    assert not _leaves_table(literal)
    assert _leaves_table(encoder.encode([("grpc-status", "0")]))
    # RFC 7541 §6.2.2, §6.2.3 and §6.3: without indexing, never indexed, a new table size.
    assert _leaves_table(b"\x00\x01a\x01b" + b"\x0f\x30\x01b" + b"\x10\x01a\x01b\x88")
    assert not _leaves_table(b"\x88\x3f\xe1\x1f")


def test_a_script_slices_into_whole_calls() -> None:
    bodies = requests.put_bodies(0, 5)
    script = Script(header_blocks("/a/B", "host:1"), bodies, 1)
    assert script.count == 5
    assert script.offsets[-1] == len(script.data)
    for number, body in enumerate(bodies):
        call = bytes(script.data[script.offsets[number] : script.offsets[number + 1]])
        assert call.endswith(body)
        assert int.from_bytes(call[5:9], "big") == 2 * number + 1


def test_bodies_are_what_protobuf_would_write() -> None:
    put = rpc.PutRequest(key=requests.key(7), value=requests.VALUE)
    assert requests.put_bodies(7, 1) == [put.SerializeToString(deterministic=True)]
    read = rpc.RangeRequest.FromString(requests.get_bodies(100, 3, serializable=True)[2])
    assert (read.key, read.serializable) == (requests.key(2 * 7919 % 100), True)


def test_percentiles() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (51.0, 100.0)


def test_table_gives_ratios_of_medians() -> None:
    figures = Figures(("etcd", "Keydeck"))
    for side, rate in ((0, 100.0), (0, 200.0), (0, 110.0), (1, 330.0)):
        figures.add(side, Sample({"put 100x10": rate}))
    assert "| put 100x10 ↑ | 110.0 /s | 330.0 /s | 3.00 | ≥ 3 |" in table(figures, ["title"])


@pytest.mark.compat
@pytest.mark.e2e
def test_replies_are_counted_and_errors_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with running(etcd_server(require(find_etcd35(), "3.5"), tmp_path / "data")) as server:
        address = Address("127.0.0.1", server.client_port)
        with Swarm(address, requests.PUT, 3) as swarm:
            swarm.prepare(requests.put_bodies(0, 100))
            assert swarm.run(4).calls == 100
        with Swarm(address, requests.PUT, 1) as swarm:
            swarm.prepare([b""])
            with pytest.raises(ReplyFailed, match=r"grpc-status 3.*key is not provided"):
                swarm.run(1)


async def test_replies_over_tls_are_all_seen(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A record that OpenSSL holds already is not announced by the socket again."""
    security = Security.with_tls(tmp_path)
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in security.flags)
    settings = TlsSettings(cert_file=flags["cert-file"], key_file=flags["key-file"])
    service = Service()
    server = Server(service.methods())
    tls = ServerTls(settings, print)
    _, port = await server.listen_tcp("127.0.0.1", 0, tls)

    def load() -> int:
        with Swarm(Address("127.0.0.1", port, security.context), "/pkg.Svc/Echo", 2) as swarm:
            swarm.prepare([b"x" * 5000] * 200)
            result = swarm.run(20)
            assert result.data_bytes == 200 * 5005
            return result.calls

    assert await asyncio.to_thread(load) == 200
    await server.drain(0)
