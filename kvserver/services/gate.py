"""What every call passes before its handler: metadata rules, and the one place where an error of
ours becomes a gRPC status (spec/wire-api.md §3.1, §5; spec/kv.md §4 step 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from kvserver import errors
from kvserver.transport import Call, Stream

UnaryHandler = Callable[[Call, bytes], bytes | None]
M = TypeVar("M", bound=Message)


class MemberState(Protocol):
    """What the gate asks of the member."""

    @property
    def is_learner(self) -> bool: ...

    @property
    def has_leader(self) -> bool: ...


class Gate:
    """Wraps handlers. Counts client requests by API version for the metrics."""

    def __init__(self, member: MemberState) -> None:
        self._member = member
        self.client_requests: Counter[tuple[str, str]] = Counter()

    def unary(self, handler: UnaryHandler, *, learner_ok: bool = False) -> UnaryHandler:
        """A handler that first refuses what the metadata or the member's state forbids."""
        count = self.client_requests
        member = self._member

        def guarded(call: Call, body: bytes) -> bytes | None:
            metadata = call.metadata
            version = metadata.get("client-api-version", "unknown")
            count["unary", version] += 1  # type: ignore[index]
            if member.is_learner and not learner_ok:
                raise errors.NotSupportedForLearner
            if "hasleader" in metadata or not version.isprintable():  # type: ignore[union-attr]
                _check_metadata(metadata, member.has_leader)
            return handler(call, body)

        return guarded

    def open_stream(self, stream: Stream, *, learner_ok: bool = False) -> None:
        """The same checks at the opening of a stream."""
        metadata = stream.metadata
        self.client_requests["stream", str(metadata.get("client-api-version", "unknown"))] += 1
        if self._member.is_learner and not learner_ok:
            raise errors.NotSupportedForLearner
        _check_metadata(metadata, self._member.has_leader)


def _check_metadata(metadata: object, has_leader: bool) -> None:
    fields = dict(metadata)  # type: ignore[call-overload]
    try:
        str(fields.get("client-api-version", "")).encode()
    except UnicodeEncodeError:
        raise errors.InvalidClientAPIVersion from None
    if fields.get("hasleader") == "true" and not has_leader:
        raise errors.NoLeader


def error_status(error: BaseException) -> tuple[int, str] | None:
    """The gRPC status of an error of ours, for the transport; None for a stranger."""
    if isinstance(error, errors.RequestError):
        return error.code, error.message
    return None


def parse(message: type[M], body: bytes) -> M:
    """Decode a request; what is no such message is the caller's fault, with gRPC's own code."""
    try:
        return message.FromString(body)
    except DecodeError as error:
        raise errors.RequestError(
            f"grpc: error unmarshalling request: proto: {error}", errors.Code.INTERNAL
        ) from None
