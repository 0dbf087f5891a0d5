"""OpenTelemetry traces: a span for each sampled unary call and watch create
(spec/observability.md §7).

The libraries are an optional extra (`keydeck[tracing]`); without the flag nothing of this is
imported and no handler is wrapped. A client decides by its `traceparent` whether it wants to be
traced; of the others, as many per million as `--distributed-tracing-sampling-rate` says. Spans hold
sizes, codes and times, never what was asked for.

Owner: the loop; spans leave through a thread of the library's own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from kvserver.config import Config
from kvserver.errors import FatalError
from kvserver.logs import Logger
from kvserver.proto import rpc_pb2
from kvserver.transport import Call, Method, Stream
from kvserver.transport.slow_calls import EndedCall, watch_end

PER_MILLION = 1_000_000
EXPORT_SECONDS_MAX = 2.0
FLUSH_SECONDS_MAX = 0.5
"""At the end: a supervisor waits for this process."""
SERVER_FAULTS = frozenset({2, 4, 12, 13, 14, 15})
"""gRPC codes that mark a server's span as failed: the others are the caller's."""


class Tracing:
    """Wraps methods, so that sampled calls leave spans."""

    def __init__(self, config: Config, log: Logger) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.context import Context
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise FatalError(
                "--enable-distributed-tracing needs the packages of the extra keydeck[tracing]: "
                f"{error}"
            ) from None
        _forward_complaints(log)
        fields = {"service.name": config.distributed_tracing_service_name}
        if config.distributed_tracing_instance_id:
            fields["service.instance.id"] = config.distributed_tracing_instance_id
        rate = min(max(config.distributed_tracing_sampling_rate, 0), PER_MILLION)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(rate / PER_MILLION)),
            resource=Resource.create(fields),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            endpoint=config.distributed_tracing_address,
            insecure=True,
            timeout=EXPORT_SECONDS_MAX,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("keydeck")
        self._extract = TraceContextTextMapPropagator().extract
        self._trace = trace
        self._root = Context()

    def wrap(self, methods: Iterable[Method]) -> None:
        for method in methods:
            if method.is_unary:
                method.handler = self._traced(method)

    def _traced(self, method: Method) -> Any:
        handler = method.handler
        name = method.path[1:]
        service, _, short = name.rpartition("/")

        def traced(call: Any, body: bytes) -> Any:
            if isinstance(call, Call):  # calls of the gateway have no traceparent
                span = self._start(name, call.metadata)
                if span.is_recording():
                    span.set_attributes(
                        {
                            "rpc.system": "grpc",
                            "rpc.service": service,
                            "rpc.method": short,
                            "network.peer.address": call.peer.address,
                            "rpc.request.size": len(body),
                        }
                    )
                    watch_end(call, call.connection.loop.time(), lambda end: self._end(span, end))
            return handler(call, body)

        return traced

    def watch_created(self, stream: Stream, request: rpc_pb2.WatchCreateRequest) -> None:
        """A watch was asked for on this stream."""
        span = self._start("etcdserverpb.Watch/Watch create", stream.metadata)
        if span.is_recording():
            span.set_attributes(
                {
                    "rpc.system": "grpc",
                    "rpc.service": "etcdserverpb.Watch",
                    "rpc.method": "Watch",
                    "watch.start_revision": request.start_revision,
                    "watch.is_range": bool(request.range_end),
                }
            )
        span.end()

    def _start(self, name: str, metadata: Mapping[str, Any]) -> Any:
        carrier = {
            key: str(metadata[key]) for key in ("traceparent", "tracestate") if key in metadata
        }
        return self._tracer.start_span(
            name,
            context=self._extract(carrier) if carrier else self._root,
            kind=self._trace.SpanKind.SERVER,
        )

    def _end(self, span: Any, call: EndedCall) -> None:
        span.set_attribute("rpc.grpc.status_code", call.code)
        if call.response is not None:
            span.set_attribute("rpc.response.size", len(call.response))
        if call.code in SERVER_FAULTS:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def stop(self) -> None:
        """Send what is left, if the collector takes it quickly."""
        thread = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS_MAX)


class _Forward(logging.Handler):
    """What the library complains of goes to our log."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.warn("tracing", error=record.getMessage())


def _forward_complaints(log: Logger) -> None:
    library = logging.getLogger("opentelemetry")
    library.handlers = [_Forward(log)]
    library.propagate = False
