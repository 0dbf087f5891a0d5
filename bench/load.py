"""Closed loops over many connections: each keeps a fixed number of calls outstanding."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.connection import Address, Connection, ReplyFailed
from bench.frames import Script, deadline_blocks, header_blocks

STALL_SECONDS_MAX = 120.0
Bodies = Callable[[int], bytes]
"""The body of the i-th call of the whole run."""


@dataclass(slots=True)
class Result:
    """What one run showed. `generator_share`: CPU of this process per second of the run."""

    calls: int
    seconds: float
    generator_share: float
    data_bytes: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


class Swarm:
    """Some connections to one server that repeat one method."""

    def __init__(
        self, address: Address, path: str, connections: int, *, deadlines: bool = False
    ) -> None:
        blocks = deadline_blocks if deadlines else header_blocks
        authority = f"{address[0]}:{address[1]}"
        self.connections = [Connection(*address[:3]) for _ in range(connections)]
        self._blocks: list[Iterator[bytes]] = [
            blocks(path, authority, address.token) for _ in self.connections
        ]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepare(self, bodies: Sequence[bytes]) -> None:
        """Deal the calls out to the connections and encode them: not part of any figure."""
        share = len(self.connections)
        for number, (connection, blocks) in enumerate(
            zip(self.connections, self._blocks, strict=True)
        ):
            connection.load(Script(blocks, bodies[number::share], connection.next_stream_id))

    def run(self, streams: int) -> Result:
        """Send what was prepared, `streams` outstanding calls on each connection."""
        by_descriptor = {c.socket.fileno(): c for c in self.connections}
        total = sum(c.script.count for c in self.connections if c.script)
        data_before = sum(c.data_bytes for c in self.connections)
        poll = select.epoll()
        for connection in self.connections:
            connection.socket.setblocking(False)
            poll.register(connection.socket, select.EPOLLIN)
        cpu, started = time.process_time(), time.perf_counter()
        for connection in self.connections:
            connection.send_calls(streams)
        remaining = total
        while remaining:
            ready = poll.poll(STALL_SECONDS_MAX)
            if not ready:
                raise ReplyFailed(f"no reply for {STALL_SECONDS_MAX} s, {remaining} calls missing")
            for descriptor, _ in ready:
                connection = by_descriptor[descriptor]
                remaining -= connection.receive()
                room = streams - connection.outstanding
                if room:
                    connection.send_calls(room)
        seconds = time.perf_counter() - started
        share = (time.process_time() - cpu) / seconds
        poll.close()
        received = sum(c.data_bytes for c in self.connections) - data_before
        return Result(total, seconds, share, received)

    def run_one_by_one(self, keep_going: Callable[[], bool] | None = None) -> Result:
        """One call at a time on the first connection, each timed; stops early when told."""
        (connection,) = self.connections
        connection.socket.setblocking(True)
        assert connection.script is not None
        latencies: list[float] = []
        clock = time.perf_counter
        cpu, started = time.process_time(), clock()
        for _ in range(connection.script.count):
            if keep_going is not None and not keep_going():
                break
            before = clock()
            while not connection.send_calls(1):
                connection.receive()
            while not connection.receive():
                pass
            latencies.append(clock() - before)
        seconds = clock() - started
        share = (time.process_time() - cpu) / seconds
        return Result(len(latencies), seconds, share, connection.data_bytes, latencies)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
