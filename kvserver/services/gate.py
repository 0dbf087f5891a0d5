"""What every call passes before its handler: metadata rules, and the one place where an error of
ours becomes a gRPC status (spec/wire-api.md §3.1, §5; spec/kv.md §4 step 2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from kvserver import errors
from kvserver.auth.identity import NOBODY, Identity
from kvserver.services.access import Access
from kvserver.transport import Call, Stream

UnaryHandler = Callable[[Call, bytes], bytes | None]
M = TypeVar("M", bound=Message)


class MemberState(Protocol):
    """What the gate asks of the member."""

    @property
    def is_learner(self) -> bool: ...

    @property
    def has_leader(self) -> bool: ...


class AuthSwitch(Protocol):
    is_enabled: bool


class NoAuth:
    is_enabled = False


NO_AUTH: AuthSwitch = NoAuth()


class Gate:
    """Wraps handlers. Counts client requests by API version for the metrics."""

    def __init__(self, member: MemberState, access: Access | None = None) -> None:
        """Without `access` nobody is asked who they are: for tests of single services."""
        self._member = member
        self._access = access
        self.client_requests: Counter[tuple[str, str]] = Counter()

    def unary(self, handler: UnaryHandler, *, learner_ok: bool = False) -> UnaryHandler:
        """A handler that first refuses what the metadata or the member's state forbids."""
        count = self.client_requests
        member = self._member
        access = self._access
        auth = NO_AUTH if access is None else access.store

        def guarded(call: Call, body: bytes) -> bytes | None:
            metadata = call.metadata
            version = metadata.get("client-api-version", "unknown")
            count["unary", version] += 1  # type: ignore[index]
            if member.is_learner and not learner_ok:
                raise errors.NotSupportedForLearner
            if "hasleader" in metadata or not version.isprintable():  # type: ignore[union-attr]
                _check_metadata(metadata, member.has_leader)
            if auth.is_enabled:
                assert access is not None
                return access.run(handler, call, body)
            return handler(call, body)

        return guarded

    def open_stream(self, stream: Stream, *, learner_ok: bool = False) -> None:
        """The same checks at the opening of a stream."""
        metadata = stream.metadata
        self.client_requests["stream", str(metadata.get("client-api-version", "unknown"))] += 1
        if self._member.is_learner and not learner_ok:
            raise errors.NotSupportedForLearner
        _check_metadata(metadata, self._member.has_leader)
        if self._access is not None and self._access.store.is_enabled:
            self._access.admit(stream)

    def identity(self, call: Call | Stream) -> Identity:
        """In whose name a command is proposed. Raises `InvalidAuthToken`."""
        return NOBODY if self._access is None else self._access.identity(call)

    async def settle(self, stream: Stream) -> None:
        """Before a request of a stream is judged: wait for a token that is not applied here yet."""
        if self._access is not None:
            await self._access.settle(stream)


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
