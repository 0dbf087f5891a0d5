"""Nonsense on every method and on the bare connection: the member answers and goes on serving."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from kvserver.proto import election_pb2, health_pb2, lock_pb2, rpc_pb2
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.servers_proc import ServerProcess, make_subject, running, wait_until

pytestmark = pytest.mark.e2e

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes(3) + b"\x04\x00" + bytes(4)
CALL_SECONDS_MAX = 3.0
STREAM_SECONDS = 0.5
"""Of calls that may rightly wait for ever."""
ANSWER_SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One member for all that it may not even notice. Each test looks whether it still serves."""
    with running(make_subject(tmp_path_factory.mktemp("sturdy") / "data")) as member:
        yield member


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in (rpc_pb2, lock_pb2, election_pb2, health_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


def still_serves(member: ServerProcess) -> None:
    with grpc.insecure_channel(member.endpoint) as channel:
        read = rpc.RangeRequest(key=b"a")
        services.KVStub(channel).Range(read, timeout=ANSWER_SECONDS_MAX)
        services.MaintenanceStub(channel).Status(rpc.StatusRequest(), timeout=ANSWER_SECONDS_MAX)
    assert member.running(), member.log()


def test_every_method_with_random_bytes(member: ServerProcess) -> None:
    dice = random.Random(1)
    with grpc.insecure_channel(member.endpoint) as channel, ThreadPoolExecutor(8) as pool:
        for path, method in methods():
            calls = [pool.submit(_call, channel, path, method, body) for body in _bodies(dice)]
            for call in calls:
                call.result()
            still_serves(member)
    assert not _complaints(member)


def _bodies(dice: random.Random) -> Iterator[bytes]:
    for size in (1, 2, 7, 40, 300):
        yield dice.randbytes(size)
    # Field 1 announced longer than it is; a field number of zero; a varint without an end.
    yield b"\x0a\x7fabc"
    yield b"\x00\x01"
    yield b"\x08" + b"\xff" * 11


def _call(channel: grpc.Channel, path: str, method: MethodDescriptor, body: bytes) -> None:
    """One call with these bytes as request; whatever is answered is fine if it is an answer."""
    one = method.input_type is not None and not method.client_streaming
    try:
        if one and not method.server_streaming:
            channel.unary_unary(path)(body, timeout=CALL_SECONDS_MAX)
        elif one:
            replies = channel.unary_stream(path)(body, timeout=STREAM_SECONDS)
            for _ in zip(range(3), replies, strict=False):
                pass
        else:
            replies = channel.stream_stream(path)(iter([body, body]), timeout=STREAM_SECONDS)
            for _ in zip(range(3), replies, strict=False):
                pass
    except grpc.RpcError as error:
        assert error.code() != grpc.StatusCode.UNAVAILABLE, f"{path} {body!r}: {error}"


def _complaints(member: ServerProcess) -> list[str]:
    """Tracebacks: an exception outside our own tree has got somewhere it should not."""
    return [line for line in member.log(1_000_000).splitlines() if "Traceback" in line]


def test_undecodable_requests_are_refused(sturdy: ServerProcess) -> None:
    """A request that is no message is an error of the call, as in etcd: INTERNAL."""
    with grpc.insecure_channel(sturdy.endpoint) as channel:
        for path, method in methods():
            if method.client_streaming or method.server_streaming:
                continue
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"\x0a\x7fabc", timeout=ANSWER_SECONDS_MAX)
            assert refused.value.code() in (
                grpc.StatusCode.INTERNAL,
                grpc.StatusCode.UNIMPLEMENTED,
            ), f"{path}: {refused.value}"


def test_unknown_methods_are_unimplemented(sturdy: ServerProcess) -> None:
    with grpc.insecure_channel(sturdy.endpoint) as channel:
        for path in ("/etcdserverpb.KV/Nonsense", "/no.Such/Service"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"", timeout=ANSWER_SECONDS_MAX)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def _frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _openings() -> Iterator[tuple[str, bytes]]:
    dice = random.Random(2)
    yield "nothing at all", b""
    yield "random bytes", dice.randbytes(4000)
    yield "half a preface", PREFACE[:10]
    yield "preface and random bytes", PREFACE + dice.randbytes(4000)
    yield "a truncated frame", PREFACE + SETTINGS + b"\x00\x00"
    yield "a frame that is too large", PREFACE + SETTINGS + _frame(0, 0, 1, b"", 0xFFFFFF)
    yield "data on an idle stream", PREFACE + SETTINGS + _frame(0, 1, 1, b"\0\0\0\0\0")
    yield "headers that are no HPACK", PREFACE + SETTINGS + _frame(1, 5, 1, b"\xff" * 40)
    yield "headers on stream 0", PREFACE + SETTINGS + _frame(1, 5, 0, b"\x82")
    yield "headers on an even stream", PREFACE + SETTINGS + _frame(1, 5, 2, b"\x82")
    yield "continuation of nothing", PREFACE + SETTINGS + _frame(9, 4, 1, b"\x82")
    yield "a window update of zero", PREFACE + SETTINGS + _frame(8, 0, 0, bytes(4))
    yield "settings of a wrong size", PREFACE + _frame(4, 0, 0, b"abc")
    yield "a ping of a wrong size", PREFACE + SETTINGS + _frame(6, 0, 0, b"abc")
    yield "an unknown frame type", PREFACE + SETTINGS + _frame(0xEE, 0xFF, 7, dice.randbytes(50))
    yield "a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200)
    yield "a bad HTTP/1 request", b"GET / HTTP/9.9\r\nnonsense\r\n\r\n"
    yield "an endless header", b"GET / HTTP/1.1\r\nA: " + b"a" * 200_000


@pytest.mark.parametrize(
    ("what", "opening"), list(_openings()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_bad_bytes_on_a_connection(sturdy: ServerProcess, what: str, opening: bytes) -> None:
    for abrupt in (False, True):
        with socket.create_connection(("127.0.0.1", sturdy.client_port), timeout=60) as peer:
            try:
                peer.sendall(opening)
                if not abrupt:
                    peer.shutdown(socket.SHUT_WR)
                    peer.settimeout(10)
                    while peer.recv(65536):
                        pass
            except OSError:
                # Being hung up on is a fine answer.
                pass
    still_serves(sturdy)
    assert not _complaints(sturdy)


def test_hundreds_of_connections_that_say_nothing(sturdy: ServerProcess) -> None:
    idle = [socket.create_connection(("127.0.0.1", sturdy.client_port)) for _ in range(500)]
    try:
        still_serves(sturdy)
    finally:
        for peer in idle:
            peer.close()
    still_serves(sturdy)


def test_requests_that_kill_an_etcd(member: ServerProcess) -> None:
    """spec/kv.md R1 and T4: an unknown sort target; a put that keeps what the txn has deleted."""
    own = {"timeout": ANSWER_SECONDS_MAX}
    with grpc.insecure_channel(member.endpoint) as channel:
        kv = services.KVStub(channel)
        kv.Put(rpc.PutRequest(key=b"k", value=b"v"), **own)
        unsorted = rpc.RangeRequest(key=b"a", range_end=b"z")
        unsorted.sort_target = 99  # type: ignore[assignment]
        unsorted.sort_order = rpc.RangeRequest.ASCEND
        with pytest.raises(grpc.RpcError) as refused:
            kv.Range(unsorted, **own)
        assert refused.value.details() == "etcdserver: invalid sort option"
        delete = rpc.DeleteRangeRequest(key=b"a", range_end=b"\0")
        for keep in ({"ignore_value": True}, {"ignore_lease": True}):
            kv.Put(rpc.PutRequest(key=b"k", value=b"v"), **own)
            put = rpc.PutRequest(key=b"k", **keep)
            ops = [rpc.RequestOp(request_delete_range=delete), rpc.RequestOp(request_put=put)]
            # The put finds nothing to keep: it writes a bare key, and no member is harmed.
            assert kv.Txn(rpc.TxnRequest(success=ops), **own).succeeded
            (found,) = kv.Range(rpc.RangeRequest(key=b"k"), **own).kvs
            assert (found.version, found.value, found.lease) == (1, b"", 0)
    still_serves(member)
    member.kill()
    member.start()
    still_serves(member)


def test_the_connection_table_is_empty_again(member: ServerProcess) -> None:
    """Peers that vanish leave nothing behind (read from the process's own descriptors)."""

    def open_sockets() -> int:
        count = 0
        for link in Path(f"/proc/{member.pid}/fd").iterdir():
            # A descriptor may be closed between the listing and the look.
            with contextlib.suppress(FileNotFoundError):
                count += "socket:" in str(link.readlink())
        return count

    before = open_sockets()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", member.client_port)) as peer:
            peer.sendall(PREFACE + SETTINGS)
    wait_until(lambda: open_sockets() <= before, 120, "all sockets are closed")
