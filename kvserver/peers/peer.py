"""One other member: the channel for each message, and whether the link lives
(spec/peer.md §3.5, §6). Owner: the loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from kvserver.peers.dialler import Dialler, Urls
from kvserver.peers.figures import LinkFigures
from kvserver.peers.frames import AppendWriter, EntryCache, MessageWriter
from kvserver.peers.outgoing import OutgoingStream
from kvserver.peers.pipeline import Pipeline
from kvserver.raft import Message, MessageType

MESSAGE, APPENDS = "message", "msgapp"
KINDS = (MESSAGE, APPENDS)


class Events(Protocol):
    """What a peer tells its network."""

    def dropped(self, peer_id: int) -> None:
        """A message to the member went lost."""

    def changed(self, peer_id: int, is_active: bool, reason: str) -> None:
        """The link came up or broke."""

    def unreachable(self, peer_id: int, reason: str) -> None:
        """One more attempt at a link that is down has failed."""

    def now(self) -> float: ...


class Peer:
    """Sends to one member; its diallers read from it."""

    def __init__(
        self,
        peer_id: int,
        urls: Urls,
        cache: EntryCache,
        events: Events,
        make_dialler: Callable[[Peer, str], Dialler],
        make_pipeline: Callable[[Peer], Pipeline],
        stuck_heartbeats_max: int,
        figures: LinkFigures | None = None,
    ) -> None:
        """`stuck_heartbeats_max`: so many in a row that could not leave end a stream."""
        self.id = peer_id
        self.urls = urls
        self.figures = figures or LinkFigures()
        self.active_since: float | None = None
        self._cache = cache
        self._events = events
        self._stuck_heartbeats_max = stuck_heartbeats_max
        self._streams: dict[str, OutgoingStream] = {}
        self._pipeline = make_pipeline(self)
        self._diallers = [make_dialler(self, kind) for kind in KINDS]

    def send(self, message: Message) -> None:
        """By the best channel there is; a full one drops the message and says so."""
        streams = self._streams
        stream = streams.get(APPENDS) if message.type is MessageType.APPEND else None
        stream = stream or streams.get(MESSAGE)
        is_sent = stream.send(message) if stream is not None else self._pipeline.send(message)
        if not is_sent:
            self._events.dropped(self.id)

    def attach(self, kind: str) -> AsyncIterator[bytes]:
        """The member has dialled us: the body of our answer. Ends an older one of its kind."""
        return self.attach_stream(kind).body()

    def attach_stream(self, kind: str) -> OutgoingStream:
        """The same, for who can write past the body too."""
        older = self._streams.pop(kind, None)
        if older is not None:
            older.close()
        writer = AppendWriter(self._cache) if kind == APPENDS else MessageWriter(self._cache)
        stream = OutgoingStream(
            writer, lambda stream, lost: self._detached(kind, stream, lost), self.figures
        )
        self._streams[kind] = stream
        stream.send_heartbeat()
        self.up()
        return stream

    def _detached(self, kind: str, stream: OutgoingStream, lost: int) -> None:
        if self._streams.get(kind) is stream:
            del self._streams[kind]
        if lost:
            self._events.dropped(self.id)

    def send_heartbeats(self) -> None:
        """On every attached stream, whatever else goes over it; drop those that are stuck."""
        for stream in list(self._streams.values()):
            stream.send_heartbeat()
            if stream.stuck_heartbeats >= self._stuck_heartbeats_max:
                stream.close()
                self._events.dropped(self.id)
                self.down("the member takes nothing")

    def up(self) -> None:
        if self.active_since is None:
            self.active_since = self._events.now()
            self._events.changed(self.id, True, "")

    def down(self, reason: str) -> None:
        if self.active_since is not None:
            self.active_since = None
            self._events.changed(self.id, False, reason)
        else:
            self._events.unreachable(self.id, reason)

    def failed(self, reason: str) -> None:
        """A POST went lost."""
        self.down(reason)
        self._events.dropped(self.id)

    def stop(self) -> None:
        for dialler in self._diallers:
            dialler.stop()
        self._pipeline.stop()
        for stream in list(self._streams.values()):
            stream.close()
