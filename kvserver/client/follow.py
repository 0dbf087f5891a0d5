"""A watch that goes on over broken streams without a hole, and says where it could not.

It resumes at the last revision seen whole + 1, on whatever member answers. When that has been
compacted meanwhile it says so with a `Gap` and goes on behind it. A refusal that will not pass
ends it with `CallFailed`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from kvserver.client.client import Client
from kvserver.client.config import Endpoint
from kvserver.client.failure import CallFailed
from kvserver.client.watch import WatchStream, refusal
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

PASSING = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL}
)
PAUSE_SECONDS = 0.2
PAUSE_SECONDS_MAX = 3.0


@dataclass(frozen=True, slots=True)
class Live:
    """A member serves the watch; every event from `revision` on will come. Said again when the
    member says that it has shown everything below."""

    revision: int


@dataclass(frozen=True, slots=True)
class Resuming:
    """The stream broke. It is tried again from `revision`."""

    revision: int
    why: CallFailed


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of the revisions `first` to `last` were compacted before they could be shown."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Events:
    """`mvccpb.Event`s in the order of their revisions."""

    events: list[Any]


Item = Live | Resuming | Gap | Events


class Follow:
    """Iterate it from one thread; `close` from any. `next_revision` is where it would resume."""

    def __init__(self, client: Client, request: rpc_pb2.WatchCreateRequest, *, start: int) -> None:
        assert start > 0, "a resumable watch begins at a known revision"
        self._client = client
        self._request = request
        self._closed = threading.Event()
        self._stream: WatchStream | None = None
        self.next_revision = start
        self._seen = self._delivered = 0
        """Events of `next_revision` that came in pieces: on this stream, and given at all."""

    @property
    def endpoint(self) -> Endpoint | None:
        """Whose stream it is on, or was last."""
        stream = self._stream
        return stream.endpoint if stream else None

    def close(self) -> None:
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def __iter__(self) -> Iterator[Item]:
        pause = PAUSE_SECONDS
        has_fresh_token = False
        while not self._closed.is_set():
            try:
                for item in self._once():
                    pause, has_fresh_token = PAUSE_SECONDS, False
                    yield item
                failure = self._failure("the member ended the watch")
            except CallFailed as error:
                failure = error
                if error.code is Code.UNAUTHENTICATED and not has_fresh_token:
                    self._client.forget_token()
                    has_fresh_token = True
                elif error.code not in PASSING:
                    raise
            if self._closed.is_set():
                return
            yield Resuming(self.next_revision, failure)
            self._closed.wait(pause)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)

    def _once(self) -> Iterator[Item]:
        """One stream, to its end."""
        endpoint = next(self._client.answering(), None)
        if endpoint is None:
            raise self._failure("no endpoint answers")
        # Without a leader a member shows nothing new: better to be told and to ask another (§7).
        stream = self._stream = WatchStream(
            self._client, endpoint, needs_leader=True, is_checked=True
        )
        try:
            self._create(stream)
            skip, self._seen = self._delivered, 0
            for response in stream:
                if response.created and response.canceled:
                    raise refusal(response, endpoint)
                if response.created:
                    yield Live(self.next_revision)
                elif response.compact_revision:
                    yield Gap(self.next_revision, response.compact_revision)
                    self.next_revision = response.compact_revision + 1
                    self._delivered = skip = 0
                    self._create(stream)
                elif response.canceled:
                    raise refusal(response, endpoint)
                elif response.events:
                    skip = yield from self._deliver(response, skip)
                else:  # progress: nothing came up to this revision (W12)
                    self.next_revision = max(self.next_revision, response.header.revision + 1)
                    yield Live(self.next_revision)
                if self._closed.is_set():
                    return
        finally:
            stream.close()

    def _deliver(self, response: rpc_pb2.WatchResponse, skip: int) -> Generator[Item, None, int]:
        events = list(response.events)
        newest = events[-1].kv.mod_revision
        if response.fragment:
            if newest != self.next_revision:
                self.next_revision, self._delivered, self._seen = newest, 0, 0
            self._seen += sum(event.kv.mod_revision == newest for event in events)
            self._delivered = max(self._delivered, self._seen)
        else:
            self.next_revision, self._delivered = newest + 1, 0
        if len(events) > skip:
            yield Events(events[skip:])
        return max(0, skip - len(events))

    def _create(self, stream: WatchStream) -> None:
        request = rpc_pb2.WatchCreateRequest()
        request.CopyFrom(self._request)
        request.start_revision = self.next_revision
        request.progress_notify = True
        stream.create(request)

    def _failure(self, text: str) -> CallFailed:
        tried = ", ".join(str(endpoint) for endpoint in self._client.config.endpoints)
        return CallFailed(Code.UNAVAILABLE, text, tried, was_sent=False)
