"""History: replays of a watch, bounded in time, count and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from console.gateway import wire
from console.gateway.errors import domain_error
from console.gateway.records import Event, History
from console.keys.paging import KeyRange, after
from kvserver.client import CallFailed, Client, Replay

HISTORY_SECONDS = 8.0
EVENTS_MAX = 1000
BYTES_MAX = 32 * 1024 * 1024


class Scan:
    """One reading of a range's history, oldest event first. Ask `covered` after iterating."""

    def __init__(
        self,
        client: Client,
        keys: KeyRange,
        *,
        start: int,
        until: int,
        known_last: int = 0,
        seconds: float | None = None,
    ) -> None:
        self._until = until
        self._replay = Replay(
            client,
            keys.start,
            wire_end(keys),
            start=start,
            until=until,
            seconds=HISTORY_SECONDS if seconds is None else seconds,
            known_last=known_last,
            has_prev=True,
        )

    def __iter__(self) -> Iterator[Event]:
        try:
            for batch in self._replay.batches():
                yield from map(wire.event, batch)
        except CallFailed as error:
            raise domain_error(error) from None

    def covered(self, events: tuple[Event, ...] = (), left_out: int = 0) -> History:
        replay = self._replay
        return History(
            events=events,
            first=replay.first_revision,
            compacted=replay.compact_revision,
            read_to=min(replay.last_revision, self._until),
            until=self._until,
            left_out=left_out,
            is_complete=replay.is_complete,
        )

    def newest(self) -> History:
        """The newest events that fit the bounds. What does not fit is left out from the old end
        and counted: what happened last is what people ask for."""
        kept: deque[Event] = deque()
        kept_bytes = left_out = 0
        for event in self:
            kept.append(event)
            kept_bytes += event.size_bytes
            while len(kept) > EVENTS_MAX or kept_bytes > BYTES_MAX:
                kept_bytes -= kept.popleft().size_bytes
                left_out += 1
        return self.covered(tuple(kept), left_out)


def compact_revision(client: Client, keys: KeyRange, newest: int) -> int:
    """What the cluster has compacted, asked over a range its user may read; 0 for nothing.

    There is no call for it: a watch from the first revision is cancelled with the answer.
    """
    replay = Replay(
        client,
        keys.start,
        # One key is enough, and where nothing was compacted nothing else need be read.
        b"",
        start=1,
        until=newest,
        seconds=HISTORY_SECONDS,
        stops_at_compaction=True,
    )
    try:
        for _ in replay.batches():
            pass
    except CallFailed as error:
        raise domain_error(error) from None
    return replay.compact_revision


def wire_end(keys: KeyRange) -> bytes:
    """A range of one key as the server likes it best: a watcher of one key."""
    return b"" if keys.end == after(keys.start) and keys.has_end else keys.end
