"""All other members: what the member loop sends to, and hears from.

Which members there are follows the membership (`reconcile`), after every applied conf change.
Messages to members we do not know are dropped without a word, snapshots aside: raft must hear how
each of them ended. Nothing here blocks raft or calls it back from within `send`.

A *remote* (spec/peer.md §3.4) is a sender that our membership does not name yet, because we lag:
it can be answered by POST at the URLs it told, until the membership decides about it.

Owner: the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from kvserver.clock import Clock
from kvserver.limits import PEER_HEARTBEAT_SECONDS, PEER_IO_SECONDS_MIN, PEER_STABLE_SECONDS
from kvserver.logs import Logger
from kvserver.membership.ids import format_id
from kvserver.membership.types import Member
from kvserver.peers.client import HttpClient
from kvserver.peers.dialler import Dialler, Urls
from kvserver.peers.figures import LinkFigures
from kvserver.peers.frames import EntryCache
from kvserver.peers.identity import Identity, RefusedPeer
from kvserver.peers.peer import Peer
from kvserver.peers.pipeline import Pipeline
from kvserver.peers.prober import Prober
from kvserver.peers.tls import DialTls
from kvserver.raft import Message, MessageType

REMOTES_MAX = 64
COMPLAINT_SECONDS = 30.0
COMPLAINT_SECONDS_MIN = 1.0


class RaftSide(Protocol):
    """What the network tells the member loop."""

    def receive(self, messages: Sequence[Message]) -> None: ...

    def report_unreachable(self, member: int) -> None: ...

    def report_snapshot(self, member: int, is_success: bool) -> None: ...


class Remote:
    """A member we only answer."""

    def __init__(self, urls: Urls, pipeline: Pipeline) -> None:
        self.urls = urls
        self.pipeline = pipeline


class PeerNetwork:
    """Peers by member id."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        identity: Identity,
        tls: DialTls | None,
        raft: RaftSide,
        on_removed: Callable[[], None],
        log: Logger,
        read_seconds_max: float = PEER_IO_SECONDS_MIN,
        write_seconds_max: float = PEER_IO_SECONDS_MIN,
        local_host: str = "",
    ) -> None:
        """A stream on which nothing comes, or nothing leaves, for longer than these is dropped
        and dialled anew."""
        self.identity = identity
        self.client = HttpClient(loop, tls, local_host)
        self.send_snapshot: Callable[[Peer, Message], None] | None = None
        """Fills and sends a SNAPSHOT message; reports how that ended itself."""
        self.on_link: Callable[[], None] = lambda: None
        """Called when a link has come up."""
        self.figures: dict[int, LinkFigures] = {}
        """By member id, those aside that we only answer."""
        self._prober = Prober(loop, clock, self.client, self.peers, log)
        self._loop = loop
        self._clock = clock
        self._raft = raft
        self._on_removed = on_removed
        self._log = log
        self._read_seconds_max, self._stuck_heartbeats_max = io_deadlines(
            read_seconds_max, write_seconds_max
        )
        self._cache = EntryCache()
        self._peers: dict[int, Peer] = {}
        self._remotes: dict[int, Remote] = {}
        self._complaints: dict[int, tuple[str, float]] = {}
        """What was logged last about a link that is down, and when."""
        self._is_removed: Callable[[int], bool] = lambda member: False
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None

    # -- who there is

    def start(self) -> None:
        self._prober.start()
        self._timer = self._loop.call_later(PEER_HEARTBEAT_SECONDS, self._heartbeat)

    def stop(self) -> None:
        self._is_stopped = True
        self._prober.stop()
        self.client.stop()
        if self._timer is not None:
            self._timer.cancel()
        for number in list(self._peers):
            self._drop(number)
        for remote in self._remotes.values():
            remote.pipeline.stop()

    def reconcile(self, members: Iterable[Member], is_removed: Callable[[int], bool]) -> None:
        """Dial whom the membership names, let go of everybody else."""
        self._is_removed = is_removed
        wanted = {m.id: m for m in members if m.id != self.identity.member_id}
        for number in [number for number in self._peers if number not in wanted]:
            self._drop(number)
        if self._is_stopped:
            return
        for number, member in wanted.items():
            known = self._peers.get(number)
            if known is not None:
                known.urls.replace(member.peer_urls)
                continue
            remote = self._remotes.pop(number, None)
            if remote is not None:
                remote.pipeline.stop()
            self._peers[number] = self._make_peer(number, member.peer_urls)

    def _drop(self, number: int) -> None:
        self._complaints.pop(number, None)
        self._peers.pop(number).stop()

    def _make_peer(self, number: int, urls: tuple[str, ...]) -> Peer:
        return Peer(
            number,
            Urls(urls),
            self._cache,
            self,
            self._make_dialler,
            self._make_pipeline,
            self._stuck_heartbeats_max,
            self.figures_of(number),
        )

    def _make_dialler(self, peer: Peer, kind: str) -> Dialler:
        return Dialler(
            loop=self._loop,
            client=self.client,
            identity=self.identity,
            peer_id=peer.id,
            kind=kind,
            urls=peer.urls,
            silence_seconds_max=self._read_seconds_max,
            receive=self._raft.receive,
            on_up=peer.up,
            on_down=peer.down,
            on_removed=self._on_removed,
            figures=peer.figures,
            log=self._log,
        )

    def _make_pipeline(self, peer: Peer) -> Pipeline:
        return Pipeline(
            loop=self._loop,
            client=self.client,
            identity=self.identity,
            urls=peer.urls,
            on_up=peer.up,
            on_failed=peer.failed,
            on_removed=self._on_removed,
            figures=peer.figures,
        )

    def figures_of(self, number: int) -> LinkFigures:
        """What is counted about a member, now or before it went."""
        return self.figures.setdefault(number, LinkFigures())

    def peer(self, number: int) -> Peer | None:
        return self._peers.get(number)

    def peers(self) -> list[Peer]:
        return list(self._peers.values())

    # -- out

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for their members. Never blocks, never calls raft."""
        if self._is_stopped:
            return
        if len(messages) > 1 and messages[-1].type is MessageType.APPEND_RESPONSE:
            messages = without_stale_acknowledgements(messages)
        for message in messages:
            if message.type is MessageType.SNAPSHOT:
                self._send_snapshot(message)
                continue
            peer = self._peers.get(message.to)
            if peer is not None:
                peer.send(message)
            elif (remote := self._remotes.get(message.to)) is not None:
                remote.pipeline.send(message)

    def _send_snapshot(self, message: Message) -> None:
        peer = self._peers.get(message.to)
        if peer is None or self.send_snapshot is None:
            self._loop.call_soon(self._raft.report_snapshot, message.to, False)
        else:
            self.send_snapshot(peer, message)

    def _heartbeat(self) -> None:
        self._timer = self._loop.call_later(PEER_HEARTBEAT_SECONDS, self._heartbeat)
        for peer in list(self._peers.values()):
            peer.send_heartbeats()

    # -- in

    def dialling_peer(self, number: int, urls: str) -> Peer:
        """Who dials us, if it may. Raises `RefusedPeer`."""
        if self._is_removed(number):
            raise RefusedPeer(410, "removed member")
        peer = self._peers.get(number)
        if peer is None or self._is_stopped:
            self.note_remote(number, urls)
            raise RefusedPeer(404, "error sender not found")
        return peer

    def check_sender(self, number: int) -> None:
        """403 stops the other process for good: it is for removed members only."""
        if self._is_removed(number):
            raise RefusedPeer(403, "cannot process message from removed member")

    def note_remote(self, number: int, urls: str) -> None:
        known = (*self._peers, *self._remotes, self.identity.member_id)
        if self._is_stopped or number in known or len(self._remotes) >= REMOTES_MAX:
            return
        listed = tuple(url for url in urls.split(",") if url)
        if not listed or not all(map(is_peer_url, listed)):
            return
        found = Urls(listed)
        pipeline = Pipeline(
            loop=self._loop,
            client=self.client,
            identity=self.identity,
            urls=found,
            on_up=lambda: None,
            on_failed=lambda reason: None,
            on_removed=self._on_removed,
            figures=LinkFigures(),
        )
        self._remotes[number] = Remote(found, pipeline)

    def receive(self, message: Message, size_bytes: int = 0) -> None:
        """One message that came by POST."""
        if message.from_ in self._peers:
            self.figures_of(message.from_).received_bytes += size_bytes
        self._raft.receive((message,))

    # -- the links

    def active_since(self, number: int) -> float | None:
        """When the link to the member came up (monotonic), or None while it is down."""
        peer = self._peers.get(number)
        return None if peer is None else peer.active_since

    def is_stable(self, number: int) -> bool:
        """Whether the link has been up long enough for strict checks (spec/cluster.md §3.6)."""
        since = self.active_since(number)
        return since is not None and self.now() - since >= PEER_STABLE_SECONDS

    def active_count(self) -> int:
        return sum(1 for peer in self._peers.values() if peer.active_since is not None)

    # -- what peers tell (peer.Events)

    def dropped(self, peer_id: int) -> None:
        self.figures_of(peer_id).sent_failures += 1
        if not self._is_stopped:
            self._loop.call_soon(self._raft.report_unreachable, peer_id)

    def changed(self, peer_id: int, is_active: bool, reason: str) -> None:
        if self._is_stopped:
            return
        if is_active:
            self._log.info("peer became active", peer_id=format_id(peer_id))
            self.on_link()
        else:
            self.figures_of(peer_id).disconnects += 1
            self._log.warn("peer became inactive", peer_id=format_id(peer_id), error=reason)

    def unreachable(self, peer_id: int, reason: str) -> None:
        """Ten attempts a second may fail: each reason is told, and again after a while."""
        if self._is_stopped:
            return
        told, at = self._complaints.get(peer_id, ("", 0.0))
        now = self.now()
        if (reason == told and now - at < COMPLAINT_SECONDS) or now - at < COMPLAINT_SECONDS_MIN:
            return
        self._complaints[peer_id] = reason, now
        self._log.warn("failed to reach a peer", peer_id=format_id(peer_id), error=reason)

    def now(self) -> float:
        return self._clock.monotonic()


def io_deadlines(read_seconds: float, write_seconds: float) -> tuple[float, int]:
    """(seconds without a byte, heartbeats in a row that could not leave) that end a stream. The
    first of those heartbeats starts the clock."""
    reading, writing = (max(asked, PEER_IO_SECONDS_MIN) for asked in (read_seconds, write_seconds))
    return reading, 1 + math.ceil(writing / PEER_HEARTBEAT_SECONDS)


def without_stale_acknowledgements(messages: Sequence[Message]) -> Sequence[Message]:
    """Of several acknowledgements to one leader only the last says anything."""
    kept: list[Message] = []
    for message in messages:
        if (
            kept
            and message.type is MessageType.APPEND_RESPONSE
            and not message.reject
            and kept[-1].type is MessageType.APPEND_RESPONSE
            and not kept[-1].reject
            and kept[-1].to == message.to
            and kept[-1].term == message.term
        ):
            kept[-1] = message
        else:
            kept.append(message)
    return kept


def is_peer_url(url: str) -> bool:
    """Scheme, host and port and nothing more (spec/cluster.md §3.1)."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("unix", "unixs"):
            return bool(parts.netloc or parts.path)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port is not None
            and parts.path in ("", "/")
            and not parts.query
        )
    except ValueError:
        return False
