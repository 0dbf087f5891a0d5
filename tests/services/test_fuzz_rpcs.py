"""Whatever arrives at any method ends in a status of ours: no handler raises anything else, and the
member goes on serving (verification.md rung 10).

`KEYDECK_FUZZ_MESSAGES` asks for more per method, `KEYDECK_FUZZ_SEED` for others.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kvserver.proto import rpc_pb2
from tests.support.auth_session import METHODS
from tests.support.in_process import Member, running

SEED = int(os.environ.get("KEYDECK_FUZZ_SEED", "20261129"))
MESSAGES_PER_METHOD = int(os.environ.get("KEYDECK_FUZZ_MESSAGES", "120"))
DEPTH_MAX = 4
CALL_SECONDS_MAX = 5.0
WAIT_SECONDS = 0.5
"""For calls that may rightly wait for ever: streams, and whoever queues up behind another. They are
made all at once, so that this passes once per method."""
QUEUEING = ("/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign")
LAST = ("/etcdserverpb.Maintenance/Alarm",)
"""Alarms stop writes: nothing else is told anything after them."""

BYTES = (b"", b"\0", b"a", b"b", b"\xff" * 3, b"a" * 2000, b"\0\0")
TEXTS = ("", "a", "\0", "3.6", "no url", "http://", "\N{RIGHT-TO-LEFT OVERRIDE}x", "y" * 2000)
NUMBERS = (0, 1, 2, 3, 7, 2**31 - 1, 2**63 - 1)


class Maker:
    """Random messages that lean to the edges."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def message(self, kind: type[Message], depth: int = 0) -> Message:
        made = kind()
        for field in kind.DESCRIPTOR.fields:
            if self._random.random() < 0.4:
                self._fill(made, field, depth)
        return made

    def _fill(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth < DEPTH_MAX:
                self._fill_message(made, field, depth)
            return
        values = [self._value(field) for _ in range(self._random.randint(0, 3))]
        if field.is_repeated:
            getattr(made, field.name).extend(values)
        elif values:
            setattr(made, field.name, values[0])

    def _fill_message(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        inner = GetMessageClass(field.message_type)
        if field.is_repeated:
            for _ in range(self._random.randint(0, 3)):
                getattr(made, field.name).append(self.message(inner, depth + 1))
        else:
            getattr(made, field.name).CopyFrom(self.message(inner, depth + 1))

    def _value(self, field: FieldDescriptor) -> Any:
        choose = self._random.choice
        if field.type == FieldDescriptor.TYPE_BYTES:
            return choose(BYTES)
        if field.type == FieldDescriptor.TYPE_STRING:
            return choose(TEXTS)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return choose((True, False))
        if field.type == FieldDescriptor.TYPE_ENUM:
            return choose((0, 1, 2, 3, 77))
        number = choose(NUMBERS)
        if field.cpp_type == FieldDescriptor.CPPTYPE_INT64 and choose((True, False)):
            return -number - 1
        is_short = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
        return min(number, 2**31 - 1) if is_short else number

    def garbled(self, body: bytes) -> bytes:
        """A few of its bytes changed, lost or added."""
        garbled = bytearray(body or b"\x0a\x05")
        for _ in range(self._random.randint(1, 4)):
            place = self._random.randrange(len(garbled) + 1)
            garbled[place : place + self._random.randint(0, 2)] = self._random.randbytes(
                self._random.randint(0, 2)
            )
        return bytes(garbled)


def bodies(maker: Maker, path: str) -> Iterator[bytes]:
    kind = GetMessageClass(METHODS[path].input_type)
    for number in range(MESSAGES_PER_METHOD):
        body = maker.message(kind).SerializeToString()
        yield maker.garbled(body) if number % 3 == 2 else body


async def call(member: Member, path: str, requests: list[bytes]) -> None:
    method = METHODS[path]
    if method.client_streaming or method.server_streaming:
        await asyncio.gather(*(first_answer(member, path, body) for body in requests))
        return
    unary = member.channel.unary_unary(path)
    if path in QUEUEING:
        await asyncio.gather(*(answer(unary(body, timeout=WAIT_SECONDS)) for body in requests))
        return
    for body in requests:
        await answer(unary(body, timeout=CALL_SECONDS_MAX))


async def first_answer(member: Member, path: str, body: bytes) -> None:
    stream = member.channel.stream_stream(path)(iter([body]), timeout=WAIT_SECONDS)
    await answer(stream.read())
    stream.cancel()


async def answer(waiting: Any) -> None:
    try:
        await waiting
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL:
            assert "grpc: error unmarshalling request" in (error.details() or ""), error


async def test_no_request_is_met_by_a_stranger_of_an_exception(tmp_path: Path) -> None:
    maker = Maker(SEED)
    paths = [path for path in METHODS if path not in LAST] + list(LAST)
    async with running(tmp_path, max_txn_ops=10_000, bcrypt_cost=4) as member:
        for path in paths:
            await call(member, path, list(bodies(maker, path)))
            assert member.log.find("handler failed") == [], path
            await member.kv.Range(rpc_pb2.RangeRequest(key=b"a"))  # it is still there
        for line in member.log.lines:
            assert line["level"] not in ("error", "fatal"), line
        await reaches_the_disk(member)
    async with running(tmp_path) as member:  # what was applied is applied again, or is there
        await reaches_the_disk(member)


async def reaches_the_disk(member: Member) -> None:
    await member.maintenance.Defragment(rpc_pb2.DefragmentRequest())
    await member.kv.Range(rpc_pb2.RangeRequest(key=b"a"))
