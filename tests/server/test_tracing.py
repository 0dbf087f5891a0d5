"""Spans of sampled calls arrive at a collector (spec/observability.md §7)."""

import asyncio
import builtins
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from kvserver.errors import FatalError
from kvserver.proto import rpc_pb2
from tests.support.in_process import Member, running

EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = [("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01")]
UNSAMPLED = [("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00")]


class Collector:
    """Takes what an exporter sends."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.address = ""

    async def export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> dict[str, Any]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def resource(self) -> dict[str, str]:
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {attribute.key: attribute.value.string_value for attribute in attributes}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        found.export,
        request_deserializer=trace_service_pb2.ExportTraceServiceRequest.FromString,
        response_serializer=trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler(EXPORT, {"Export": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found.address = f"127.0.0.1:{port}"
    yield found
    await server.stop(0)


def tracing(collector: Collector, **flags: Any) -> dict[str, Any]:
    return {
        "enable_distributed_tracing": True,
        "distributed_tracing_address": collector.address,
        "distributed_tracing_service_name": "kv-east",
        "distributed_tracing_instance_id": "m1",
        **flags,
    }


def attributes(span: Any) -> dict[str, Any]:
    return {
        a.key: a.value.string_value or a.value.int_value or a.value.bool_value
        for a in span.attributes
    }


async def use(member: Member, metadata: list[tuple[str, str]]) -> None:
    await member.kv.Put(rpc_pb2.PutRequest(key=b"sesame", value=b"seed"), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError):
        await member.kv.Put(rpc_pb2.PutRequest(), metadata=metadata)
    await member.kv.Range(rpc_pb2.RangeRequest(key=b"sesame"))
    create = rpc_pb2.WatchCreateRequest(key=b"sesame", start_revision=2)
    stream = member.watch.Watch(
        iter([rpc_pb2.WatchRequest(create_request=create)]), metadata=metadata
    )
    assert (await stream.read()).created
    stream.cancel()


async def flushed(member: Member) -> None:
    """In a thread: the collector runs in this loop."""
    provider = member.server._serving._tracing._provider  # type: ignore[union-attr]
    assert await asyncio.to_thread(provider.force_flush, 20_000)


async def test_what_a_client_samples_is_traced(tmp_path: Path, collector: Collector) -> None:
    async with running(tmp_path, **tracing(collector)) as member:
        await use(member, SAMPLED)
        await flushed(member)
    spans = collector.spans()
    assert set(spans) == {"etcdserverpb.KV/Put", "etcdserverpb.Watch/Watch create"}
    assert collector.resource()["service.name"] == "kv-east"
    assert collector.resource()["service.instance.id"] == "m1"
    for span in spans.values():
        assert span.trace_id.hex() == TRACE_ID
        assert span.parent_span_id.hex() == PARENT_ID
    refused = attributes(spans["etcdserverpb.KV/Put"])  # the later of the two
    assert refused["rpc.service"] == "etcdserverpb.KV"
    assert refused["rpc.grpc.status_code"] == 3
    assert "rpc.response.size" not in refused
    assert attributes(spans["etcdserverpb.Watch/Watch create"])["watch.start_revision"] == 2
    assert b"sesame" not in b"".join(r.SerializeToString() for r in collector.requests)


async def test_what_a_client_does_not_sample_is_not(tmp_path: Path, collector: Collector) -> None:
    """The client's decision holds, whatever the rate."""
    flags = tracing(collector, distributed_tracing_sampling_rate=1_000_000)
    async with running(tmp_path, **flags) as member:
        await use(member, UNSAMPLED)
        await flushed(member)
    assert set(collector.spans()) == {"etcdserverpb.KV/Range"}


async def test_by_default_a_call_without_a_parent_is_not_traced(
    tmp_path: Path, collector: Collector
) -> None:
    async with running(tmp_path, **tracing(collector)) as member:
        await member.kv.Range(rpc_pb2.RangeRequest(key=b"k"))
        await flushed(member)
    assert collector.requests == []


async def test_without_a_collector_the_member_serves_and_logs(tmp_path: Path) -> None:
    nowhere = Collector()
    nowhere.address = "127.0.0.1:1"
    async with running(tmp_path, **tracing(nowhere)) as member:
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k"), metadata=SAMPLED)
        provider = member.server._serving._tracing._provider  # type: ignore[union-attr]
        await asyncio.to_thread(provider.force_flush, 20_000)
        assert member.log.find("tracing")


async def test_the_flag_without_its_packages_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError("no such package")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FatalError, match=r"keydeck\[tracing\]"):
        async with running(tmp_path, enable_distributed_tracing=True):
            pass
