"""Calls to a cluster: reads with failover, writes once, one call to many members at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from kvserver.client.config import ClientConfig, Endpoint
from kvserver.client.failure import CallFailed, code_of
from kvserver.client.stubs import Stubs
from kvserver.clock import SystemClock
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

Pick = Callable[[Stubs], Any]
"""Names a method: `lambda stubs: stubs.kv.Range`."""

monotonic = SystemClock().monotonic

SIGN_IN_SECONDS_MAX = 3.0

TRY_ANOTHER_MEMBER = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member said to one call of a fan-out: a response or a failure, and how long."""

    endpoint: Endpoint
    response: Any | None
    failure: CallFailed | None
    round_trip_seconds: float


class Client:
    """Shared by threads. Holds one channel an endpoint, opened at first use."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._stubs: dict[Endpoint, Stubs] = {}
        self._preferred = 0
        self._token: str | None = None

    def close(self) -> None:
        with self._lock:
            stubs, self._stubs = list(self._stubs.values()), {}
        for one in stubs:
            one.close()

    def stubs(self, endpoint: Endpoint) -> Stubs:
        with self._lock:
            if endpoint not in self._stubs:
                self._stubs[endpoint] = Stubs(endpoint, self.config)
            return self._stubs[endpoint]

    def read(self, pick: Pick, request: Any, seconds: float) -> Any:
        """Ask endpoint after endpoint, the last good one first, until one answers.

        Only for calls that change nothing. Raises the last `CallFailed` when none answered or
        the answer is a refusal that every member would give.
        """
        deadline = monotonic() + seconds
        failure: CallFailed | None = None
        rotation = self._rotation()
        for turn, (position, endpoint) in enumerate(rotation):
            # An equal share of what is left: one endpoint that swallows packets leaves the
            # others their time.
            share = max(deadline - monotonic(), 0.1) / (len(rotation) - turn)
            try:
                answer = self._call(endpoint, pick, request, share, is_write=False)
            except CallFailed as error:
                failure = error
                if error.code not in TRY_ANOTHER_MEMBER:
                    raise
            else:
                self._preferred = position
                return answer
        assert failure is not None
        raise failure

    def write(self, pick: Pick, request: Any, seconds: float) -> Any:
        """Send once, to the first endpoint that answers. Never repeated after sending."""
        for position, endpoint in self._rotation():
            if self._answers(endpoint):
                answer = self._call(endpoint, pick, request, seconds, is_write=True)
                self._preferred = position
                return answer
        tried = ", ".join(str(endpoint) for endpoint in self.config.endpoints)
        raise CallFailed(
            Code.UNAVAILABLE,
            "no endpoint answers",
            tried,
            was_sent=False,
            is_write=True,
        )

    def write_to(self, endpoint: Endpoint, pick: Pick, request: Any, seconds: float) -> Any:
        """Send once, to this member: for what only the addressed one does."""
        return self._call(endpoint, pick, request, seconds, is_write=True)

    def write_once(self, pick: Pick, request: Any, seconds: float) -> Any:
        """One request on a stream that answers each of its requests once, such as a keepalive."""

        def answer_of(stubs: Stubs) -> Any:
            method = pick(stubs)

            def call(request: Any, **options: Any) -> Any:
                stream = method(iter([request]), **options)
                answer = next(stream, None)
                stream.cancel()
                if answer is None:
                    text = "the stream ended without an answer"
                    raise CallFailed(Code.INTERNAL, text, "", was_sent=True, is_write=True)
                return answer

            return call

        return self.write(answer_of, request, seconds)

    def fan_out(
        self, endpoints: Iterable[Endpoint], pick: Pick, request: Any, seconds: float
    ) -> list[Answer]:
        """One call to every endpoint at once, each with its own deadline; answers in order.

        A member that does not answer costs the others nothing.
        """
        pending = [
            (endpoint, *self._start(endpoint, pick, request, seconds)) for endpoint in endpoints
        ]
        return [self._collect(endpoint, call, clock) for endpoint, call, clock in pending]

    def stream(
        self,
        endpoint: Endpoint,
        pick: Pick,
        requests: Any,
        seconds: float | None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """A call that answers in a stream, to one request or to an iterator of them; iterating it
        raises what gRPC raises (watch.py and download.py turn it round)."""
        try:
            credentials = self._metadata(endpoint)
        except grpc.RpcError as error:
            raise CallFailed.from_rpc(error, str(endpoint), is_write=False) from None
        method = pick(self.stubs(endpoint))
        return method(requests, timeout=seconds, metadata=(*credentials, *metadata))

    def forget_token(self) -> None:
        """The next call signs in anew: a member that restarted knows no token of before."""
        self._token = None

    def answering(self) -> Iterator[Endpoint]:
        """Endpoints that answer at all, the last good one first."""
        for position, endpoint in self._rotation():
            if self._answers(endpoint):
                self._preferred = position
                yield endpoint

    def _rotation(self) -> list[tuple[int, Endpoint]]:
        numbered = list(enumerate(self.config.endpoints))
        first = self._preferred
        return numbered[first:] + numbered[:first]

    def _answers(self, endpoint: Endpoint) -> bool:
        """Whether the member is there, told by a Status: local, cheap and changing nothing.

        A refusal is an answer too. (gRPC's own ready future polls from a thread that trips over
        a channel closed meanwhile.)
        """
        status = self.stubs(endpoint).maintenance.Status
        try:
            status(rpc_pb2.StatusRequest(), timeout=self.config.connect_seconds)
        except grpc.RpcError as error:
            return code_of(error) not in TRY_ANOTHER_MEMBER
        return True

    def _call(
        self, endpoint: Endpoint, pick: Pick, request: Any, seconds: float, *, is_write: bool
    ) -> Any:
        method = pick(self.stubs(endpoint))
        try:
            try:
                return method(request, timeout=seconds, metadata=self._metadata(endpoint))
            except grpc.RpcError as error:
                # Refused before anything ran, so asking again with a fresh one repeats nothing.
                if not self.config.user or not is_stale(error):
                    raise
                self._token = None
                return method(request, timeout=seconds, metadata=self._metadata(endpoint))
        except grpc.RpcError as error:
            raise CallFailed.from_rpc(error, str(endpoint), is_write=is_write) from None

    def _metadata(self, endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
        if not self.config.user:
            return ()
        token = self._token
        if token is None:
            token = self._token = self._authenticate(endpoint)
        return (("token", token),) if token else ()

    def _authenticate(self, endpoint: Endpoint) -> str | None:
        request = rpc_pb2.AuthenticateRequest(
            name=self.config.user or "", password=self.config.password or ""
        )
        try:
            return str(
                self.stubs(endpoint)
                .auth.Authenticate(request, timeout=SIGN_IN_SECONDS_MAX, metadata=())
                .token
            )
        except grpc.RpcError as error:
            if "authentication is not enabled" in (error.details() or ""):
                return None
            raise

    def _start(
        self, endpoint: Endpoint, pick: Pick, request: Any, seconds: float
    ) -> tuple[Any, Stopwatch]:
        clock = Stopwatch()
        try:
            metadata = self._metadata(endpoint)
        except grpc.RpcError as error:
            return error, clock
        clock = Stopwatch()
        call = pick(self.stubs(endpoint)).future(request, timeout=seconds, metadata=metadata)
        call.add_done_callback(clock.stop)
        return call, clock

    def _collect(self, endpoint: Endpoint, call: Any, clock: Stopwatch) -> Answer:
        error: grpc.RpcError
        if isinstance(call, grpc.Future):
            try:
                response = call.result()
                return Answer(endpoint, response, None, clock.seconds())
            except grpc.RpcError as raised:
                error = raised
        else:
            error = call
        if is_stale(error):
            self._token = None
        failure = CallFailed.from_rpc(error, str(endpoint), is_write=False)
        return Answer(endpoint, None, failure, clock.seconds())


def is_stale(error: grpc.RpcError) -> bool:
    """The token is worth nothing any more: a member that restarted has forgotten it, or it was
    signed before the last change of users and roles (spec/auth.md §2, §8)."""
    is_old = (error.details() or "").endswith("revision of auth store is old")
    return is_old or code_of(error) is Code.UNAUTHENTICATED


class Stopwatch:
    """Measures from its making to the first `stop`."""

    __slots__ = ("_start", "_stop")

    def __init__(self) -> None:
        self._start = monotonic()
        self._stop: float | None = None

    def stop(self, _call: object = None) -> None:
        if self._stop is None:
            self._stop = monotonic()

    def seconds(self) -> float:
        return (monotonic() if self._stop is None else self._stop) - self._start
