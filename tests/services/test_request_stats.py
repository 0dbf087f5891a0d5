"""Slow unary calls are logged, once and without values (spec/observability.md §6, case 20), and
etcd's `trace[n]` lines of what the store was asked for.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from kvserver import failpoints
from kvserver.logs import Logger, seconds_of
from kvserver.proto import rpc_pb2
from kvserver.services.request_stats import LINES_PER_SECOND_MAX, RequestStats
from kvserver.services.request_traces import TRACE_SECONDS, RequestTraces
from kvserver.transport.slow_calls import EndedCall
from tests.support.in_process import Lines, Member, running

THRESHOLD_SECONDS = 0.05


@contextmanager
def slow_disk(seconds: float = 0.4) -> Iterator[None]:
    failpoints.arm("raftBeforeSave", f'sleep("{round(seconds * 1000)}ms")')
    try:
        yield
    finally:
        failpoints.disarm("raftBeforeSave")


async def stats(member: Member, count: int = 1) -> list[dict]:
    async with asyncio.timeout(60):
        while len(found := member.log.find("request stats")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def test_a_put_that_waits_for_the_disk_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=THRESHOLD_SECONDS) as member:
        with slow_disk():
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow", value=b"sesame" * 9))
        (line,) = await stats(member)
        assert line["response type"] == "/etcdserverpb.KV/Put"
        assert line["time spent"] >= THRESHOLD_SECONDS
        assert line["request content"] == 'key: "slow" value_size:54'
        assert (line["request count"], line["response count"]) == (1, 0)
        assert line["response size"] > 0
        assert line["remote"].startswith("127.0.0.1:")
        assert line["level"] == "warn"


async def test_a_call_that_ends_in_an_error_is_told_too(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=THRESHOLD_SECONDS) as member:
        seconds = 0.125
        # Where even its way takes that long, the member has not seen it for long enough.
        while not any(line["response size"] == -1 for line in member.log.find("request stats")):
            seconds *= 2
            with slow_disk(2 * seconds), pytest.raises(grpc.aio.AioRpcError) as refusal:
                await member.kv.Put(rpc_pb2.PutRequest(key=b"k"), timeout=seconds)
            assert refusal.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            await member.kv.Range(rpc_pb2.RangeRequest(key=b"k"))  # behind the end of that call


async def test_without_a_threshold_nothing_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=0.0) as member:
        with slow_disk():
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow"))
        assert member.log.find("request stats") == []


async def test_at_level_debug_every_call_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, log_level="debug") as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"fast", value=b"sesame"))
        with pytest.raises(grpc.aio.AioRpcError):
            await member.kv.Put(rpc_pb2.PutRequest())
        good, bad = await stats(member, 2)
        assert (good["level"], good["request content"]) == ("debug", 'key: "fast" value_size:6')
        assert (bad["response size"], bad["request size"]) == (-1, 0)


async def test_a_slow_request_of_the_store_leaves_a_trace(tmp_path: Path) -> None:
    """Below the threshold for a warning already; the value is not in it."""
    async with running(tmp_path) as member:
        with slow_disk():
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow", value=b"sesame"))
        async with asyncio.timeout(60):
            while not (found := traces(member.log)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        (line,) = found
        assert (line["msg"], line["level"]) == ("trace[1] put", "info")
        assert line["detail"] == "{key:slow; req_size:14; response_revision:2; }"
        assert seconds_of(line["end"]) - seconds_of(line["start"]) >= TRACE_SECONDS
        assert line["duration"].endswith("ms") and (line["steps"], line["step_count"]) == ([], 0)


def traces(log: Lines) -> list[dict]:
    return [line for line in log.lines if line["msg"].startswith("trace[")]


READ = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a"))
WRITE = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a", value=b"sesame"))
HEADER = rpc_pb2.ResponseHeader(revision=7)


@pytest.mark.parametrize(
    ("method", "request_", "response", "operation", "detail"),
    [
        (
            "Range",
            rpc_pb2.RangeRequest(key=b"a", range_end=b"\xff"),
            rpc_pb2.RangeResponse(header=HEADER, count=9),
            "range",
            "{range_begin:a; range_end:\\xff; response_count:0; response_revision:7; }",
        ),
        (
            "DeleteRange",
            rpc_pb2.DeleteRangeRequest(key=b"a"),
            rpc_pb2.DeleteRangeResponse(header=HEADER, deleted=1),
            "delete_range",
            "{key:a; range_end:; number_of_response:1; response_revision:7; }",
        ),
        (
            "Txn",
            rpc_pb2.TxnRequest(success=[READ], failure=[READ]),
            rpc_pb2.TxnResponse(header=HEADER),
            "transaction",
            "{read_only:true; response_revision:7; number_of_response:0; }",
        ),
        (
            "Txn",
            rpc_pb2.TxnRequest(success=[READ], failure=[WRITE]),
            None,
            "transaction",
            "{read_only:false; response_revision:0; number_of_response:0; }",
        ),
        (
            "Compact",
            rpc_pb2.CompactionRequest(revision=5),
            rpc_pb2.CompactionResponse(header=HEADER),
            "compact",
            "{revision:5; response_revision:7; }",
        ),
    ],
)
def test_what_traces_tell(
    method: str, request_: Message, response: Message | None, operation: str, detail: str
) -> None:
    lines = Lines()
    told = RequestTraces(Clock(), Logger((lines,)))  # type: ignore[arg-type]
    body = None if response is None else response.SerializeToString()
    asked = request_.SerializeToString()
    for path in (f"/etcdserverpb.KV/{method}", "/etcdserverpb.Maintenance/Defragment"):
        told.tell(EndedCall(path, "h:1", 0.5, asked, 0, body))
    told.tell(EndedCall(f"/etcdserverpb.KV/{method}", "h:1", 0.05, asked, 0, body))
    (line,) = lines.lines  # the others took no time, or are not the store's
    assert (line["msg"], line["detail"]) == (f"trace[1] {operation}", detail)
    assert line["duration"] == "500ms"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now


def test_where_everything_is_slow_a_few_lines_say_so() -> None:
    """Ten a second, and how many were left out; of what is quick not one."""
    clock, lines = Clock(), Lines()
    stats = RequestStats(clock, Logger((lines,)), 0.1)  # type: ignore[arg-type]
    call = EndedCall("/etcdserverpb.KV/Put", "h:1", 0.5, b"", 0, b"")
    stats.tell(replace(call, took_seconds=0.09))
    for _ in range(LINES_PER_SECOND_MAX + 7):
        stats.tell(call)
    assert len(lines.find("request stats")) == LINES_PER_SECOND_MAX
    clock.now += 1
    stats.tell(call)
    stats.tell(call)
    *_, first, second = lines.find("request stats")
    assert first["requests left out"] == 7 and "requests left out" not in second
