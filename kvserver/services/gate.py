"""What every call passes before its handler: metadata rules, and the one place where an error of
ours becomes a gRPC status (spec/wire-api.md §3.1, §5; spec/kv.md §4 step 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


class Conclusion:
    """What a list of header fields asks for, and how many requests came with such a list."""

    __slots__ = ("needs_leader", "requests")

    def __init__(self, needs_leader: bool) -> None:
        self.needs_leader = needs_leader
        self.requests = 0


class Gate:
    """Wraps handlers. Counts client requests by API version for the metrics."""

    def __init__(self, member: MemberState, access: Access | None = None) -> None:
        """Without `access` nobody is asked who they are: for tests of single services."""
        self._member = member
        self._access = access
        self._conclusions: dict[tuple[str, str, bool], Conclusion] = {}

    def unary(self, handler: UnaryHandler, *, learner_ok: bool = False) -> UnaryHandler:
        """A handler that first refuses what the metadata or the member's state forbids."""
        member = self._member
        access = self._access
        auth = NO_AUTH if access is None else access.store

        def guarded(call: Call, body: bytes) -> bytes | None:
            # Hot: what the metadata means is worked out once per distinct list of header fields.
            conclusion = call.head.note if isinstance(call, Call) else None
            if conclusion is None:
                conclusion = self._conclude("unary", call.metadata)
                if isinstance(call, Call):
                    call.head.note = conclusion
            conclusion.requests += 1
            if member.is_learner and not learner_ok:
                raise errors.NotSupportedForLearner
            if conclusion.needs_leader and not member.has_leader:
                raise errors.NoLeader
            if auth.is_enabled:
                assert access is not None
                return access.run(handler, call, body)
            return handler(call, body)

        return guarded

    def open_stream(self, stream: Stream, *, learner_ok: bool = False) -> None:
        """The same checks at the opening of a stream."""
        conclusion = self._conclude("stream", stream.metadata)
        conclusion.requests += 1
        if self._member.is_learner and not learner_ok:
            raise errors.NotSupportedForLearner
        if conclusion.needs_leader and not self._member.has_leader:
            raise errors.NoLeader
        if self._access is not None and self._access.store.is_enabled:
            self._access.admit(stream)

    def _conclude(self, kind: str, metadata: Mapping[str, str | bytes]) -> Conclusion:
        """What these fields ask for. Raises `InvalidClientAPIVersion`."""
        version = str(metadata.get("client-api-version", "unknown"))
        try:
            version.encode()
        except UnicodeEncodeError:  # the transport keeps what is no UTF-8 as lone surrogates
            raise errors.InvalidClientAPIVersion from None
        needs_leader = metadata.get("hasleader") == "true"
        found = self._conclusions.get((kind, version, needs_leader))
        if found is None:
            found = self._conclusions[kind, version, needs_leader] = Conclusion(needs_leader)
        return found

    def client_requests(self) -> Iterator[tuple[str, str, int]]:
        """(kind, client API version, requests), for the metrics."""
        for kind, version in sorted({key[:2] for key in self._conclusions}):
            both = (self._conclusions.get((kind, version, needs)) for needs in (False, True))
            yield kind, version, sum(found.requests for found in both if found is not None)

    @property
    def is_open(self) -> bool:
        """Whether auth is there and off, so that nobody is asked who they are."""
        return self._access is not None and not self._access.store.is_enabled

    def identity(self, call: Call | Stream) -> Identity:
        """In whose name a command is proposed. Raises `InvalidAuthToken`."""
        return NOBODY if self._access is None else self._access.identity(call)

    async def settle(self, stream: Stream) -> None:
        """Before a request of a stream is judged: wait for a token that is not applied here yet."""
        if self._access is not None:
            await self._access.settle(stream)


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
        raise undecodable(error) from None


def undecodable(error: DecodeError) -> errors.RequestError:
    return errors.RequestError(
        f"grpc: error unmarshalling request: proto: {error}", errors.Code.INTERNAL
    )
