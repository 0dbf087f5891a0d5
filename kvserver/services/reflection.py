"""Server reflection: which services there are, and their descriptors.

Real etcd does not register it (spec/wire-api.md §1.1); we do, so that `grpcurl` and its like work
without .proto files. Both published versions are answered; their messages are the same on the
wire, and the descriptor of v1alpha is derived from that of v1.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from kvserver.errors import Code
from kvserver.proto import reflection_pb2
from kvserver.transport import Method, RpcError, Stream

_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_V1, _V1ALPHA = _PACKAGES
_REQUEST_BYTES_MAX = 64 * 1024
_ALPHA_FILE = "kvserver/proto/reflection_v1alpha.proto"


def _alpha_descriptor() -> bytes:
    """reflection.proto under the older package name."""
    proto = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(proto)
    proto.name = _ALPHA_FILE
    proto.package = _V1ALPHA
    old, new = f".{_V1}.", f".{_V1ALPHA}."
    for message in proto.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(old, new)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return proto.SerializeToString()


def _asked(request: reflection_pb2.ServerReflectionRequest) -> str:
    kind = request.WhichOneof("message_request")
    return str(getattr(request, kind)).strip() if kind else ""


def _with_dependencies(file: FileDescriptor, seen: set[str]) -> list[bytes]:
    if file.name in seen:
        return []
    seen.add(file.name)
    files = [file.serialized_pb]
    for dependency in file.dependencies:
        files += _with_dependencies(dependency, seen)
    return files


class Reflection:
    def __init__(self, service_names: Iterable[str]) -> None:
        own = [f"{package}.ServerReflection" for package in _PACKAGES]
        self._services = sorted({*service_names, *own})
        self._pool = descriptor_pool.Default()
        self._alpha = _alpha_descriptor()

    async def info(self, stream: Stream) -> None:
        async for body in stream:
            try:
                request = reflection_pb2.ServerReflectionRequest.FromString(body)
            except DecodeError as error:
                raise RpcError(Code.INTERNAL, "grpc: not a ServerReflectionRequest") from error
            stream.send(self.answer(request).SerializeToString())
            await stream.drain()

    def answer(
        self, request: reflection_pb2.ServerReflectionRequest
    ) -> reflection_pb2.ServerReflectionResponse:
        response = reflection_pb2.ServerReflectionResponse(
            valid_host=request.host, original_request=request
        )
        kind = request.WhichOneof("message_request")
        try:
            if kind == "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                files = self._file_named(request.file_by_filename)
                response.file_descriptor_response.file_descriptor_proto.extend(files)
            elif kind == "file_containing_symbol":
                files = self._file_with(request.file_containing_symbol)
                response.file_descriptor_response.file_descriptor_proto.extend(files)
            elif kind == "all_extension_numbers_of_type":
                # proto3 messages without extension ranges: known types have none.
                name = request.all_extension_numbers_of_type
                self._pool.FindMessageTypeByName(name)
                response.all_extension_numbers_response.base_type_name = name
            elif kind == "file_containing_extension":
                raise KeyError(request.file_containing_extension.containing_type)
            else:
                response.error_response.error_code = Code.INVALID_ARGUMENT
                response.error_response.error_message = "no question in the request"
        except KeyError:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = f"not found: {_asked(request)}"
        return response

    def methods(self) -> list[Method]:
        return [
            Method(
                f"/{package}.ServerReflection/ServerReflectionInfo",
                "stream",
                self.info,
                _REQUEST_BYTES_MAX,
            )
            for package in _PACKAGES
        ]

    def _file_named(self, name: str) -> list[bytes]:
        if name == _ALPHA_FILE:
            return [self._alpha]
        return _with_dependencies(self._pool.FindFileByName(name), set())

    def _file_with(self, symbol: str) -> list[bytes]:
        if symbol.startswith(_V1ALPHA + "."):
            # The same names exist in v1; an unknown one is a KeyError there.
            self._containing(symbol.replace(_V1ALPHA, _V1, 1))
            return [self._alpha]
        return _with_dependencies(self._containing(symbol), set())

    def _containing(self, symbol: str) -> FileDescriptor:
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            # The pool knows no methods by their names, but services do.
            parent, _, name = symbol.rpartition(".")
            service = self._pool.FindServiceByName(parent)
            if name not in service.methods_by_name:
                raise
            return service.file
