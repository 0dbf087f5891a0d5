"""History of a range, read to a known revision by replaying a watch. Bounded in time.

A watch says what happened but not when it has said everything: a range nobody wrote to is
silent. Three things end a replay, each for certain:

- an event of the last revision wanted, or of the revision known to be the range's last;
- an answer to a progress request (spec/watch.md W11, W12);
- on members that answer progress too early (etcd before 3.4.25 and 3.5.8) the same answer after
  two *sentinels*: watches of the newest revision, created one after the other on the same
  stream. A member serves the watchers that lag in passes, each pass everything up to now or a
  thousand revisions a watcher (V5); the second sentinel's event proves a whole pass.

Where the user may not watch the whole keyspace there is no sentinel, and three answers with
silence between them have to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvserver.client.client import Client
from kvserver.client.failure import CallFailed
from kvserver.client.watch import WatchStream, is_progress, refusal
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

FROM_NUL = b"\x00"
PASSES_FOR_CERTAIN = 2
ANSWERS_WITHOUT_SENTINEL = 3
FULL_PASS_REVISIONS = 1000

SERVER_DEADLINE = "context deadline exceeded"
"""What a member says when it sees the deadline first; up to 3.4 with the code UNKNOWN."""


class Replay:
    """One reading. Iterate `batches`; the attributes say afterwards what was covered.

    `compact_revision`: what the cluster had compacted, as far as this replay met it, else 0.
    `stops_at_compaction` is for who only wants to know that one.
    `last_revision`: every event wanted up to it was yielded. `is_complete`: that is `until`.
    """

    def __init__(
        self,
        client: Client,
        key: bytes,
        range_end: bytes,
        *,
        start: int,
        until: int,
        seconds: float,
        known_last: int = 0,
        has_prev: bool = False,
        stops_at_compaction: bool = False,
    ) -> None:
        self._client = client
        self._key, self._range_end = key, range_end
        self._seconds = seconds
        self._last = known_last or until
        self._has_prev = has_prev
        self._until = until
        self._stops_at_compaction = stops_at_compaction
        self.first_revision = max(start, 1)
        self.last_revision = self.first_revision - 1
        self.compact_revision = 0
        self.is_complete = False
        self._has_seen = False

    def batches(self) -> Iterator[list[Any]]:
        """Lists of `mvccpb.Event`, oldest first. Raises `CallFailed` when no member would."""
        if self._until <= 1 or self.first_revision > self._until:
            # A new store is at revision 1 and nothing happened in it.
            self._complete()
            return
        if self._seconds <= 0:
            return
        failure: CallFailed | None = None
        for endpoint in self._client.answering():
            stream = WatchStream(self._client, endpoint, seconds=self._seconds)
            try:
                yield from self._read(stream)
                return
            except CallFailed as error:
                failure = error
                if error.code is Code.DEADLINE_EXCEEDED or error.message == SERVER_DEADLINE:
                    return
                if error.code is not Code.UNAVAILABLE or self._has_seen:
                    raise
            finally:
                stream.close()
        raise failure or CallFailed(
            Code.UNAVAILABLE, "no endpoint answers", self._endpoints(), was_sent=False
        )

    def _read(self, stream: WatchStream) -> Iterator[list[Any]]:
        watchers = _Watchers(stream, self._until)
        self._create(watchers)
        for response in stream:
            if response.created:
                watchers.created(response)
            elif response.compact_revision and response.watch_id == watchers.main_id:
                if self._has_seen:
                    return  # the member compacted what was not read yet: a hole is no history
                self.compact_revision = self.last_revision = response.compact_revision
                self.first_revision = response.compact_revision + 1
                if self._stops_at_compaction:
                    return
                if self.last_revision >= self._last:
                    self._complete()
                else:
                    self._create(watchers)
            elif response.events and response.watch_id == watchers.main_id:
                watchers.main_said(response)
                yield self._take(response)
                if self.last_revision >= self._last:
                    self._complete()
            elif watchers.have_passed(response):
                self._complete()
            if self.is_complete:
                return

    def _create(self, watchers: _Watchers) -> None:
        watchers.watch(
            rpc_pb2.WatchCreateRequest(
                key=self._key,
                range_end=self._range_end,
                start_revision=self.first_revision,
                prev_kv=self._has_prev,
            )
        )

    def _take(self, response: rpc_pb2.WatchResponse) -> list[Any]:
        self._has_seen = True
        newest = response.events[-1].kv.mod_revision
        # Of a batch in pieces the newest revision may be in the next piece too.
        self.last_revision = newest - 1 if response.fragment else newest
        if newest <= self._until:
            return list(response.events)
        return [event for event in response.events if event.kv.mod_revision <= self._until]

    def _complete(self) -> None:
        self.last_revision = max(self.last_revision, self._until)
        self.is_complete = True

    def _endpoints(self) -> str:
        return ", ".join(str(endpoint) for endpoint in self._client.config.endpoints)


class _Watchers:
    """The main watcher and, one after the other, the sentinels on its stream."""

    def __init__(self, stream: WatchStream, until: int) -> None:
        self._stream = stream
        self._until = until
        self._id = 0
        self.main_id = self._sentinel_id = 0
        self._awaited: list[int] = []
        self._passes = self._answers = self._revisions = 0
        self._answers_needed = 1

    def watch(self, request: rpc_pb2.WatchCreateRequest) -> None:
        """Start the main watcher, anew after a compaction, and a first sentinel behind it."""
        self.main_id = self._create(request)
        self._passes = self._revisions = 0
        # The whole keyspace has an event of every revision: it needs no sentinel.
        if not (request.key == FROM_NUL and request.range_end == FROM_NUL):
            self._next_sentinel()

    def created(self, response: rpc_pb2.WatchResponse) -> None:
        """Created responses come in the order of the requests (W4); a refusal names no id."""
        watch_id = self._awaited.pop(0)
        if not response.canceled:
            return
        if watch_id == self.main_id:
            raise refusal(response, self._stream.endpoint)
        self._answers_needed = ANSWERS_WITHOUT_SENTINEL
        self._stream.asks_progress = True

    def main_said(self, response: rpc_pb2.WatchResponse) -> None:
        self._answers = 0
        self._revisions += len({event.kv.mod_revision for event in response.events})

    def have_passed(self, response: rpc_pb2.WatchResponse) -> bool:
        """Whether this response proves that the main watcher has shown everything."""
        if response.watch_id == self._sentinel_id and response.events and not response.fragment:
            self._stream.cancel(self._sentinel_id)
            is_full = self._revisions >= FULL_PASS_REVISIONS
            self._passes = 0 if is_full else self._passes + 1
            self._revisions = 0
            if self._passes >= PASSES_FOR_CERTAIN:
                self._stream.asks_progress = True
            else:
                self._next_sentinel()
            return False
        if not is_progress(response) or not self._stream.asks_progress:
            return False
        self._answers += response.header.revision >= self._until
        return self._answers >= self._answers_needed

    def _next_sentinel(self) -> None:
        self._sentinel_id = self._create(
            rpc_pb2.WatchCreateRequest(key=FROM_NUL, range_end=FROM_NUL, start_revision=self._until)
        )

    def _create(self, request: rpc_pb2.WatchCreateRequest) -> int:
        self._id += 1
        request.watch_id = self._id
        self._awaited.append(self._id)
        self._stream.create(request)
        return self._id
