"""The network between machines: links that delay, drop, double, reorder and are cut, each
direction by itself.

Raft's messages are packets that may be lost. Calls (clients to members, members to each other over
HTTP) are connections: what is sent arrives in the end or the connection breaks, unless the link is
cut; then nothing comes and the caller's own deadline ends it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvserver.membership.types import Member
from kvserver.peers.client import Answer, HttpClient, PeerUnreachable
from kvserver.peers.dialler import Urls
from kvserver.peers.figures import LinkFigures
from kvserver.peers.identity import Identity, RefusedPeer
from kvserver.peers.network import without_stale_acknowledgements
from kvserver.raft import Message, MessageType
from kvserver.raft.codec import decode_message, encode_message
from kvserver.transport import HttpRequest, HttpResponse, Peer
from tests.support.sim.world import World

if TYPE_CHECKING:
    from tests.support.sim.machine import Process

DIAL_SECONDS = 2.0
STABLE_SECONDS = 5.0
Link = tuple[str, str]


@dataclass
class Weather:
    """How links are at the moment: shares of packets, seconds of delay."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_min: float = 0.0002
    delay_max: float = 0.002


class Fabric:
    """All links, and who stands at their ends."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_dead = False
        self.paused = None
        self.weather = Weather()
        self.cut: set[Link] = set()
        self.slow: dict[Link, float] = {}
        self.encodes = False
        """Whether raft's messages go through their wire format."""
        self.processes: dict[str, Process] = {}
        """Running processes by the name of their machine."""
        self.names: dict[int, str] = {}
        """Names of machines by member id."""
        self.urls: dict[str, str] = {}
        """Names of machines by peer URL."""
        self.on_database: Callable[[str, str], None] | None = None
        """Told when one begins its way, by the names of both ends."""
        self.farewell_chance = 0.6
        """That the kernel outlives its process and closes its connections (streams.py)."""
        self.stream_rng = world.chance("streams")
        self._rng = world.chance("network")
        self._last: dict[Link, float] = {}
        self._since: dict[Link, float] = {}

    def on_death(self, reason: str) -> None:
        raise AssertionError("the network cannot die")

    def on_failure(self, error: BaseException) -> None:
        raise error

    # -- links

    def set_cut(self, links: Iterable[Link]) -> None:
        before, self.cut = self.cut, set(links)
        for link in sorted(before - self.cut):
            self._since[link] = self.world.now

    def note_start(self, name: str) -> None:
        for other in self.urls.values():
            self._since[name, other] = self._since[other, name] = self.world.now

    def up_since(self, one: str, other: str) -> float | None:
        """When both directions and the other end came to work, or None while they do not."""
        links = (one, other), (other, one)
        if other not in self.processes or any(link in self.cut for link in links):
            return None
        return max(self._since.get(link, 0.0) for link in links)

    def delay(self, link: Link) -> float:
        weather = self.weather
        return self._rng.uniform(weather.delay_min, weather.delay_max) + self.slow.get(link, 0.0)

    # -- packets

    def send_raft(self, source: Process, to: int, messages: Sequence[Message]) -> None:
        name = self.names.get(to)
        if name is None:
            return
        link = source.name, name
        rng, weather = self._rng, self.weather
        if link in self.cut or (weather.drop and rng.random() < weather.drop):
            self._lost(source, to)
            return
        arrives = self.world.now + self.delay(link)
        if weather.reorder and rng.random() < weather.reorder:
            arrives += rng.uniform(0, 0.3)
        else:
            arrives = self._last[link] = max(self._last.get(link, 0.0), arrives)
        self.world.call_at(arrives, self, self._arrive_raft, link, source, to, messages)
        if weather.duplicate and rng.random() < weather.duplicate:
            # TCP doubles nothing, and a proposal that came twice would be applied twice; the rest
            # of raft does not mind.
            messages = [m for m in messages if m.type is not MessageType.PROPOSE]
            later = arrives + rng.uniform(0, 0.5)
            self.world.call_at(later, self, self._arrive_raft, link, source, to, messages)

    def _arrive_raft(
        self, link: Link, source: Process, to: int, messages: Sequence[Message]
    ) -> None:
        process = self.processes.get(link[1])
        if process is None or link in self.cut or process.member_id != to:
            self._lost(source, to)
            return
        if process.core.state.membership.is_removed(source.member_id):
            if self.processes.get(source.name) is source:  # 410, 403
                self.world.call_later(
                    self.delay(link), source.loop, source.core.cluster.note_removed
                )
            return
        if self.encodes:
            messages = [decode_message(encode_message(message)) for message in messages]
        process.loop.call_soon(process.receive, source.member_id, messages)

    def _lost(self, source: Process, to: int) -> None:
        """A sender's transport often notices."""
        if self.processes.get(source.name) is source and self._rng.random() < 0.5:
            source.loop.call_soon(source.core.member.mailbox.report_unreachable, to)

    # -- connections

    def connect(
        self,
        link: Link,
        serve: Callable[[Process], None],
        refused: Callable[[], None],
    ) -> None:
        """Bring a request to the process at the link's end, or say that nobody listens there."""
        self.world.call_later(self.delay(link), self, self._connected, link, serve, refused)

    def _connected(
        self, link: Link, serve: Callable[[Process], None], refused: Callable[[], None]
    ) -> None:
        if link in self.cut:
            return
        process = self.processes.get(link[1])
        if process is None:
            refused()
        else:
            process.loop.call_soon(serve, process)

    def answer(self, link: Link, owner: Any, callback: Callable[..., None], *args: Any) -> None:
        """Something that goes back over a connection; it waits in vain while the link is cut."""
        if link not in self.cut:
            arrives = max(self._last.get(link, 0.0), self.world.now + self.delay(link))
            self._last[link] = arrives
            self.world.call_at(arrives, owner, self._answered, link, callback, args)

    def _answered(self, link: Link, callback: Callable[..., None], args: tuple[Any, ...]) -> None:
        if link not in self.cut:
            callback(*args)


class SimPeer:
    """In place of peers.Peer: what the sender of databases uses of one."""

    def __init__(self, number: int, urls: tuple[str, ...], process: Process) -> None:
        self.id = number
        self.urls = Urls(urls)
        self.figures = process.network.figures_of(number)
        self._process = process

    def up(self) -> None:
        """What is seen of links is not what the sender sees."""

    def down(self, reason: str) -> None:
        self._process.log.info(f"peer is down: {reason}")


class SimNetwork:
    """In place of peers.PeerNetwork, for one process."""

    def __init__(self, process: Process, identity: Identity) -> None:
        self.identity = identity
        self.client = SimHttpClient(process)
        self.send_snapshot: Callable[[SimPeer, Message], None] | None = None
        self.on_link: Callable[[], None] = lambda: None
        self._process = process
        self._fabric = process.fabric
        self._peers: dict[int, SimPeer] = {}
        self._figures: dict[int, LinkFigures] = {}
        self._remotes: set[int] = set()
        self._is_removed: Callable[[int], bool] = lambda member: False
        self._is_started = False

    # -- who there is

    def start(self) -> None:
        self._is_started = True
        self._process.loop.call_later(0.05, self._linked)

    def _linked(self) -> None:
        self.on_link()

    def reconcile(self, members: Iterable[Member], is_removed: Callable[[int], bool]) -> None:
        self._is_removed = is_removed
        wanted = {m.id: m.peer_urls for m in members if m.id != self.identity.member_id}
        for number in [number for number in self._peers if number not in wanted]:
            del self._peers[number]
        for number, urls in wanted.items():
            if number in self._peers:
                self._peers[number].urls.replace(urls)
            else:
                self._peers[number] = SimPeer(number, urls, self._process)
        self._remotes -= set(wanted)

    def note_remote(self, member: int, urls: str = "") -> None:
        if member not in self._peers:
            self._remotes.add(member)

    def figures_of(self, number: int) -> LinkFigures:
        return self._figures.setdefault(number, LinkFigures())

    # -- in

    def check_sender(self, number: int) -> None:
        if self._is_removed(number):
            raise RefusedPeer(403, "cannot process message from removed member")

    def receive(self, message: Message, size_bytes: int = 0) -> None:
        """A database has come; whatever else goes by `Fabric.send_raft`."""
        assert message.snapshot is not None
        process = self._process
        name = f"snapshot {message.snapshot.index}:{message.snapshot.term}"
        process.world.trace(process.name, f"{name} received")
        process.witness.database_received(process, message)
        process.receive(message.from_, [message])

    # -- out

    def send(self, messages: Sequence[Message]) -> None:
        if len(messages) > 1:
            messages = without_stale_acknowledgements(messages)
        process = self._process
        packets: dict[int, list[Message]] = {}
        for message in messages:
            process.witness.sent(process, message)
            if message.type is MessageType.SNAPSHOT:
                self._send_snapshot(message)
            elif message.to in self._peers or message.to in self._remotes:
                packets.setdefault(message.to, []).append(message)
        for to, packet in packets.items():
            process.trace_sent(to, packet)
            self._fabric.send_raft(process, to, packet)

    def _send_snapshot(self, message: Message) -> None:
        peer = self._peers.get(message.to)
        if peer is None or self.send_snapshot is None:
            report = self._process.core.member.mailbox.report_snapshot
            self._process.loop.call_soon(report, message.to, False)
        else:
            process, fabric = self._process, self._fabric
            name = fabric.names.get(message.to, "")
            process.world.trace(process.name, f"database for {name} begins")
            if fabric.on_database is not None and name:
                fabric.on_database(process.name, name)
            self.send_snapshot(peer, message)

    # -- the links

    def active_since(self, number: int) -> float | None:
        name = self._fabric.names.get(number)
        if name is None or number not in self._peers:
            return None
        since = self._fabric.up_since(self._process.name, name)
        if since is None:
            return None
        return self._process.clock.monotonic() - (self._process.world.now - since)

    def is_stable(self, number: int) -> bool:
        since = self.active_since(number)
        return since is not None and self._process.clock.monotonic() - since >= STABLE_SECONDS

    def active_count(self) -> int:
        return sum(self.active_since(number) is not None for number in sorted(self._peers))


class SimHttpClient(HttpClient):
    """What goes over streams is the product's; short requests to other members' peer ports take a
    shorter way: they arrive whole."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.loop)
        self._process = process

    async def request(
        self,
        url: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_seconds: float = 5.0,
        is_kept: bool = False,
    ) -> Answer:
        process = self._process
        fabric = process.fabric
        name = fabric.urls.get(url)
        if name is None:
            raise PeerUnreachable(f"dial {url}: nobody there")
        future: asyncio.Future[Answer] = process.loop.create_future()
        there, back = (process.name, name), (name, process.name)

        def settle(answer: Answer | PeerUnreachable) -> None:
            if future.done():
                return
            if isinstance(answer, Answer):
                future.set_result(answer)
            else:
                future.set_exception(answer)

        def refused() -> None:
            unreachable = PeerUnreachable(f"dial {url}: refused")
            fabric.answer(back, process.loop, settle, unreachable)

        lower = {key.lower(): value for key, value in (headers or {}).items()}
        request = HttpRequest(method, path, "", lower, body, Peer("sim"))

        def serve(other: Process) -> None:
            def reply(response: HttpResponse) -> None:
                assert isinstance(response.body, bytes)
                answer = Answer(response.status, response.headers, response.body)
                fabric.answer(back, process.loop, settle, answer)

            other.serve_http(request, reply)

        fabric.connect(there, serve, refused)
        try:
            async with asyncio.timeout(min(timeout_seconds, 7.0)):
                return await future
        except TimeoutError:
            raise PeerUnreachable(f"{method} {url}{path}: timed out") from None


def split(rng: random.Random, names: Sequence[str]) -> set[Link]:
    """The links that a partition cuts: two sides, one member alone, one way, or a bridge."""
    kind = rng.random()
    if kind < 0.45:
        side = set(rng.sample(list(names), rng.randint(1, max(1, len(names) // 2))))
        return {(a, b) for a in names for b in names if (a in side) != (b in side)}
    if kind < 0.65:
        one = rng.choice(list(names))
        others = [name for name in names if name != one]
        if rng.random() < 0.5:
            return {(one, other) for other in others}
        return {(other, one) for other in others}
    if kind < 0.85:
        pairs = [(a, b) for a in names for b in names if a != b]
        return set(rng.sample(pairs, rng.randint(1, max(1, len(pairs) // 2))))
    bridge = rng.choice(list(names))
    rest = [name for name in names if name != bridge]
    side = set(rest[: len(rest) // 2])
    return {(a, b) for a in rest for b in rest if (a in side) != (b in side)}
