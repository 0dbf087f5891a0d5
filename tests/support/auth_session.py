"""Callers with and without credentials, for tests of who may do what.

A `Caller` speaks gRPC by path and message, so that a table of all methods can be walked; what the
methods take and give is read from the interface definitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from kvserver.proto import auth_pb2, election_pb2, lock_pb2
from kvserver.proto import rpc_pb2 as rpc

CALL_SECONDS_MAX = 60.0


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for file in (rpc, lock_pb2, election_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method


METHODS = dict(_methods())
"""Every method of etcd's API by its path."""
SHORT = {path.partition(".")[2]: path for path in METHODS}
"""`KV/Put` and the like, for tests."""


class Refusal(Exception):
    """A call that ended with a status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


@dataclass
class Caller:
    """One identity on one channel."""

    channel: grpc.Channel
    metadata: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str, request: Any = None, /, **fields: Any) -> Any:
        """The reply of a unary method, or the first message of a stream that has one."""
        path = SHORT[name]
        method = METHODS[path]
        if request is None:
            request = GetMessageClass(method.input_type)(**fields)
        reply_class = GetMessageClass(method.output_type)
        options = {"timeout": CALL_SECONDS_MAX, "metadata": tuple(self.metadata.items())}
        try:
            if not method.server_streaming:
                body = self.channel.unary_unary(path)(request.SerializeToString(), **options)
                return reply_class.FromString(body)
            if method.client_streaming:
                stream = self.channel.stream_stream(path)
                call = stream(iter([request.SerializeToString()]), **options)
            else:
                call = self.channel.unary_stream(path)(request.SerializeToString(), **options)
            body = next(call, None)
            call.cancel()
            return None if body is None else reply_class.FromString(body)
        except grpc.RpcError as error:
            raise Refusal(error.code().value[0], error.details() or "") from None

    def outcome(self, name: str, request: Any = None, /, **fields: Any) -> str:
        """`ok`, or the text of the refusal without etcd's prefix."""
        try:
            self(name, request, **fields)
        except Refusal as refusal:
            return refusal.text.removeprefix("etcdserver: ")
        return "ok"


@dataclass
class AuthSession:
    """One member, seen by many."""

    endpoint: str
    credentials: Any = None
    nobody: Caller = field(init=False)

    def __post_init__(self) -> None:
        self.nobody = Caller(self._channel())

    def _channel(self) -> grpc.Channel:
        if self.credentials is None:
            return grpc.insecure_channel(self.endpoint)
        return grpc.secure_channel(self.endpoint, self.credentials)

    def close(self) -> None:
        self.nobody.channel.close()

    def with_token(self, token: str, key: str = "token") -> Caller:
        return Caller(self.nobody.channel, {key: token})

    def log_in(self, name: str, password: str) -> Caller:
        reply = self.nobody("Auth/Authenticate", name=name, password=password)
        return self.with_token(reply.token)

    def set_up(self) -> None:
        """Setup A of spec/auth.md §10, not enabled yet."""
        do = self.nobody
        for name in ("root", "u"):
            do("Auth/UserAdd", name=name, password=name[0] + "p")
        do("Auth/UserGrantRole", user="root", role="root")
        do("Auth/RoleAdd", name="r")
        do("Auth/UserGrantRole", user="u", role="r")
        self.grant("r", auth_pb2.Permission.READWRITE, b"a", b"b")
        self.grant("r", auth_pb2.Permission.READ, b"c", b"d")

    def grant(self, role: str, kind: int, key: bytes, end: bytes = b"", by: Any = None) -> None:
        permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
        (by or self.nobody)("Auth/RoleGrantPermission", name=role, perm=permission)

    def enable(self) -> tuple[Caller, Caller]:
        """root and u, logged in."""
        self.nobody("Auth/AuthEnable")
        return self.log_in("root", "rp"), self.log_in("u", "up")

    def wipe(self, root: Caller | None = None) -> None:
        """No users, no roles, no keys, no leases, auth off."""
        do = self.nobody
        if do("Auth/AuthStatus").enabled:
            (root or self.log_in("root", "rp"))("Auth/AuthDisable")
        for name in do("Auth/UserList").users:
            do("Auth/UserDelete", name=name)
        for name in do("Auth/RoleList").roles:
            do("Auth/RoleDelete", role=name)
        do("KV/DeleteRange", key=b"\0", range_end=b"\0")
        for lease in do("Lease/LeaseLeases").leases:
            do("Lease/LeaseRevoke", ID=lease.ID)
