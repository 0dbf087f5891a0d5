"""Health and reflection over a real connection (spec/wire-api.md §1.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from kvserver.proto import health_pb2, reflection_pb2, rpc_pb2
from kvserver.services.health import Health
from kvserver.services.reflection import Reflection
from kvserver.transport import Method, Server

Request = reflection_pb2.ServerReflectionRequest
SERVICES = ["etcdserverpb.KV", "grpc.health.v1.Health"]
assert rpc_pb2.DESCRIPTOR  # its symbols are in the default pool


@asynccontextmanager
async def channel_to(methods: list[Method]) -> AsyncIterator[grpc.aio.Channel]:
    server = Server(methods)
    _, port = await server.listen_tcp("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.drain(0)


async def test_check() -> None:
    health = Health()
    async with channel_to(health.methods()) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert (await check(health_pb2.HealthCheckRequest())).status == 1
        health.set_serving(False)
        assert (await check(health_pb2.HealthCheckRequest())).status == 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(health_pb2.HealthCheckRequest(service="etcdserverpb.KV"))
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "unknown service"


async def test_watch_sees_changes() -> None:
    health = Health()
    async with channel_to(health.methods()) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        call = watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == 1
        health.set_serving(False)
        assert (await call.read()).status == 2
        health.set_serving(True)
        assert (await call.read()).status == 1
        call.cancel()
        unknown = watch(health_pb2.HealthCheckRequest(service="x"))
        assert (await unknown.read()).status == 3
        unknown.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_stream(version: str) -> None:
    reflection = Reflection(SERVICES)
    async with channel_to(reflection.methods()) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=Request.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(Request(list_services="*"))
        listed = (await call.read()).list_services_response
        names = [service.name for service in listed.service]
        assert names == sorted(
            [
                *SERVICES,
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ]
        )
        for name in names:
            await call.write(Request(file_containing_symbol=name))
            answer = await call.read()
            files = answer.file_descriptor_response.file_descriptor_proto
            found = _load(list(files)).FindServiceByName(name)
            assert found.methods
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF


def _load(files: list[bytes]) -> descriptor_pool.DescriptorPool:
    """What a reflecting client does: a pool built from nothing but the answer."""
    pool = descriptor_pool.DescriptorPool()
    for data in reversed(files):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(data))
    return pool


def test_reflection_answers() -> None:
    reflection = Reflection(SERVICES)
    by_name = reflection.answer(Request(file_by_filename="kvserver/proto/kv.proto"))
    assert len(by_name.file_descriptor_response.file_descriptor_proto) == 1
    alpha = "kvserver/proto/reflection_v1alpha.proto"
    assert reflection.answer(Request(file_by_filename=alpha)).HasField("file_descriptor_response")
    numbers = reflection.answer(Request(all_extension_numbers_of_type="mvccpb.KeyValue"))
    assert numbers.all_extension_numbers_response.base_type_name == "mvccpb.KeyValue"
    method = reflection.answer(Request(file_containing_symbol="etcdserverpb.KV.Range"))
    assert method.HasField("file_descriptor_response")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request(file_by_filename="nope.proto"), 5),
        (Request(file_containing_symbol="no.Such"), 5),
        (Request(file_containing_symbol="grpc.reflection.v1alpha.Nope"), 5),
        (Request(all_extension_numbers_of_type="no.Such"), 5),
        (Request(file_containing_extension={"containing_type": "a", "extension_number": 1}), 5),
        (Request(host="x"), 3),
    ],
)
def test_reflection_errors(request_: Request, code: int) -> None:
    answer = Reflection(SERVICES).answer(request_)
    assert answer.error_response.error_code == code
    assert answer.original_request == request_
