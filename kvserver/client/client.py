"""Calls to a cluster: reads with failover, writes once, one call to many members at once.

Nobody waits for a member that stands still: a read that is not answered soon is asked of the next
one too (race.py), and an endpoint that failed comes last for some seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from kvserver.client.config import ClientConfig, Endpoint
from kvserver.client.failure import LEADER_CHANGED, TRY_ANOTHER_MEMBER, CallFailed
from kvserver.client.race import Race, is_there
from kvserver.client.stubs import Stubs
from kvserver.clock import SystemClock
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

Pick = Callable[[Stubs], Any]
"""Names a method: `lambda stubs: stubs.kv.Range`."""

monotonic = SystemClock().monotonic

SIGN_IN_SECONDS_MAX = 3.0
HEDGE_SECONDS = 0.5
"""Longer than nearly every answer takes, shorter than people wait without wondering."""
PASSING_SECONDS = 0.1
FAILED_SECONDS = 5.0
"""An endpoint that failed comes after the others for so long."""
DEAD_LOOK_SECONDS = 1.0
"""Where all of them have, this is how long a look whether one is there again may take."""


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
        self._preferred = config.endpoints[0]
        self._failed_until: dict[Endpoint, float] = {}
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
        try:
            return self._read(pick, request, seconds)
        except CallFailed as error:
            # Refused before anything ran: with a fresh token it may be asked again.
            if not self.config.user or not is_stale(error):
                raise
            self._token = None
            return self._read(pick, request, seconds)

    def _read(self, pick: Pick, request: Any, seconds: float) -> Any:
        deadline = monotonic() + seconds
        metadata = self._metadata()
        failure: CallFailed | None = None

        def begin(endpoint: Endpoint) -> Any:
            left = max(deadline - monotonic(), 0.1)
            return self._begin(endpoint, pick, request, left, metadata)

        race = self._race(begin)
        for endpoint, call in race:
            try:
                answer = call.result()
            except grpc.RpcError as error:
                failure = CallFailed.from_rpc(error, str(endpoint), is_write=False)
                if failure.code not in TRY_ANOTHER_MEMBER:
                    break
                if failure.message == LEADER_CHANGED:
                    race.ask_again(endpoint, PASSING_SECONDS)
                else:
                    self._note_failed(endpoint)
            else:
                self._note_good(endpoint)
                return answer
        assert failure is not None
        raise failure

    def write(self, pick: Pick, request: Any, seconds: float) -> Any:
        """Send once, to the first endpoint that answers. Never repeated after sending."""
        for endpoint in self.answering():
            return self._call(endpoint, pick, request, seconds)
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
        return self._call(endpoint, pick, request, seconds)

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
        try:
            metadata = self._metadata()
        except CallFailed as error:
            if error.code not in TRY_ANOTHER_MEMBER:
                return [Answer(endpoint, None, error, 0.0) for endpoint in endpoints]
            metadata = ()  # nobody gave a token: each member says for itself what is wrong
        pending = []
        for endpoint in endpoints:
            clock = Stopwatch()
            call = self._begin(endpoint, pick, request, seconds, metadata)
            call.add_done_callback(clock.stop)
            pending.append((endpoint, call, clock))
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
        method = pick(self.stubs(endpoint))
        return method(requests, timeout=seconds, metadata=(*self._metadata(), *metadata))

    def forget_token(self) -> None:
        """The next call signs in anew: a member that restarted knows no token of before."""
        self._token = None

    def answering(self) -> Iterator[Endpoint]:
        """Endpoints that answer at all, the last good one first."""
        for endpoint, look in self._race(self._look, doubts=False):
            if is_there(look):
                self._note_good(endpoint)
                yield endpoint
            else:
                self._note_failed(endpoint)

    def answers(self, endpoint: Endpoint) -> bool:
        """Whether this member is there at all."""
        return is_there(self._look(endpoint))

    def _race(self, begin: Callable[[Endpoint], Any], *, doubts: bool = True) -> Race:
        """The last good endpoint first, those that failed lately last. Where all of them have,
        nobody waits for one before asking the next."""
        rotation = self._rotation()
        return Race(
            rotation,
            begin,
            hedge_seconds=0.0 if self._has_failed(rotation[0]) else HEDGE_SECONDS,
            # With nobody else to ask, giving up early would only take a busy member for a dead one.
            look=self._look if doubts and len(rotation) > 1 else None,
        )

    def _rotation(self) -> list[Endpoint]:
        endpoints = self.config.endpoints
        first = endpoints.index(self._preferred)
        return sorted(endpoints[first:] + endpoints[:first], key=self._has_failed)

    def _has_failed(self, endpoint: Endpoint) -> bool:
        return self._failed_until.get(endpoint, 0.0) > monotonic()

    def _note_good(self, endpoint: Endpoint) -> None:
        self._failed_until.pop(endpoint, None)
        self._preferred = endpoint

    def _note_failed(self, endpoint: Endpoint) -> None:
        self._failed_until[endpoint] = monotonic() + FAILED_SECONDS

    def _look(self, endpoint: Endpoint) -> Any:
        """Asks whether the member is there, by a Status: local, cheap and changing nothing.

        (gRPC's own ready future polls from a thread that trips over a channel closed meanwhile.)
        """
        patience = self.config.connect_seconds
        if len(self.config.endpoints) > 1 and self._has_failed(endpoint):
            patience = min(patience, DEAD_LOOK_SECONDS)
        status = self.stubs(endpoint).maintenance.Status
        return status.future(rpc_pb2.StatusRequest(), timeout=patience)

    def _call(self, endpoint: Endpoint, pick: Pick, request: Any, seconds: float) -> Any:
        """A write: sent once to this endpoint, but for a token that it no longer takes."""
        metadata = self._metadata()
        method = pick(self.stubs(endpoint))
        try:
            return method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            failure = CallFailed.from_rpc(error, str(endpoint), is_write=True)
        # Refused before anything ran, so asking again with a fresh one repeats nothing.
        if not self.config.user or not is_stale(failure):
            raise failure
        self._token = None
        metadata = self._metadata()
        try:
            return method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise CallFailed.from_rpc(error, str(endpoint), is_write=True) from None

    def _begin(
        self,
        endpoint: Endpoint,
        pick: Pick,
        request: Any,
        seconds: float,
        metadata: tuple[tuple[str, str], ...],
    ) -> Any:
        return pick(self.stubs(endpoint)).future(request, timeout=seconds, metadata=metadata)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self.config.user:
            return ()
        token = self._token
        if token is None:
            token = self._token = self._authenticate()
        return (("token", token),) if token else ()

    def _authenticate(self) -> str | None:
        """A token of whoever gives one: every member takes it. Raises `CallFailed`, of a call that
        was not sent: what needed the token never was."""
        request = rpc_pb2.AuthenticateRequest(
            name=self.config.user or "", password=self.config.password or ""
        )

        def begin(endpoint: Endpoint) -> Any:
            sign_in = self.stubs(endpoint).auth.Authenticate
            return sign_in.future(request, timeout=SIGN_IN_SECONDS_MAX, metadata=())

        failure: CallFailed | None = None
        for endpoint, call in self._race(begin):
            try:
                return str(call.result().token)
            except grpc.RpcError as error:
                failure = CallFailed.from_rpc(error, str(endpoint), is_write=False)
                if "authentication is not enabled" in failure.message:
                    return None
                if failure.code not in TRY_ANOTHER_MEMBER:
                    break
                self._note_failed(endpoint)
        assert failure is not None
        raise failure

    def _collect(self, endpoint: Endpoint, call: Any, clock: Stopwatch) -> Answer:
        try:
            return Answer(endpoint, call.result(), None, clock.seconds())
        except grpc.RpcError as error:
            failure = CallFailed.from_rpc(error, str(endpoint), is_write=False)
        if is_stale(failure):
            self._token = None
        return Answer(endpoint, None, failure, clock.seconds())


def is_stale(failure: CallFailed) -> bool:
    """The token is worth nothing any more: a member that restarted has forgotten it, or it was
    signed before the last change of users and roles (spec/auth.md §2, §8)."""
    is_old = failure.message.endswith("revision of auth store is old")
    return is_old or failure.code is Code.UNAUTHENTICATED


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
