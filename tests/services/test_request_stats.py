"""Slow unary calls are logged, once and without values (spec/observability.md §6, case 20)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from kvserver import failpoints
from kvserver.logs import Logger
from kvserver.proto import rpc_pb2
from kvserver.services.request_stats import LINES_PER_SECOND_MAX, RequestStats
from kvserver.transport.slow_calls import EndedCall
from tests.support.in_process import Lines, Member, running

THRESHOLD_SECONDS = 0.05


@contextmanager
def slow_disk() -> Iterator[None]:
    failpoints.arm("raftBeforeSave", 'sleep("400ms")')
    try:
        yield
    finally:
        failpoints.disarm("raftBeforeSave")


async def stats(member: Member) -> list[dict]:
    async with asyncio.timeout(20):
        while not (found := member.log.find("request stats")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def test_a_put_that_waits_for_the_disk_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=THRESHOLD_SECONDS) as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"fast", value=b"v"))
        assert member.log.find("request stats") == []
        with slow_disk():
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow", value=b"sesame" * 9))
        (line,) = await stats(member)
        assert line["response type"] == "/etcdserverpb.KV/Put"
        assert line["time spent"] >= THRESHOLD_SECONDS
        assert line["request content"] == 'key: "slow" value_size:54'
        assert (line["request count"], line["response count"]) == (1, 0)
        assert line["response size"] > 0
        assert line["remote"].startswith("127.0.0.1:")


async def test_a_call_that_ends_in_an_error_is_told_too(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=THRESHOLD_SECONDS) as member:
        with slow_disk(), pytest.raises(grpc.aio.AioRpcError) as refusal:
            await member.kv.Put(rpc_pb2.PutRequest(key=b"k"), timeout=0.25)
        assert refusal.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        (line,) = await stats(member)
        assert line["response size"] == -1


async def test_without_a_threshold_nothing_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, warning_unary_request_duration=0.0) as member:
        with slow_disk():
            await member.kv.Put(rpc_pb2.PutRequest(key=b"slow"))
        assert member.log.find("request stats") == []


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now


def test_where_everything_is_slow_a_few_lines_say_so() -> None:
    """Ten a second, and how many were left out."""
    clock, lines = Clock(), Lines()
    stats = RequestStats(clock, Logger((lines,)))  # type: ignore[arg-type]
    call = EndedCall("/etcdserverpb.KV/Put", "h:1", 0.5, b"", 0, b"")
    for _ in range(LINES_PER_SECOND_MAX + 7):
        stats.tell(call)
    assert len(lines.find("request stats")) == LINES_PER_SECOND_MAX
    clock.now += 1
    stats.tell(call)
    stats.tell(call)
    *_, first, second = lines.find("request stats")
    assert first["requests left out"] == 7 and "requests left out" not in second
