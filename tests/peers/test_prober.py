"""Round trips and clocks (spec/cluster.md §5, spec/observability.md §2.5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from kvserver.logs import Level, Logger, seconds_of, timestamp
from kvserver.peers.client import Answer, PeerUnreachable
from kvserver.peers.dialler import Urls
from kvserver.peers.figures import LinkFigures
from kvserver.peers.prober import Prober
from tests.support.in_process import Lines

WALL = 1_700_000_000.25


class Peer:
    id = 0xAB
    urls = Urls(("http://m:1",))

    def __init__(self) -> None:
        self.figures = LinkFigures()


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL


class Client:
    """Answers after 3 ms with its own time, or not at all."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ahead_seconds: float | None = 0.0

    async def request(self, url: str, method: str, path: str, **_: Any) -> Answer:
        assert (url, method, path) == ("http://m:1", "GET", "/raft/probing")
        if self.ahead_seconds is None:
            raise PeerUnreachable("gone")
        self.clock.now += 0.003
        body = {"OK": True, "Now": timestamp(WALL + self.ahead_seconds)}
        return Answer(200, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("ahead_seconds", "message", "observed"),
    [
        (0.0, None, 1),
        (0.9, None, 1),
        (-1.5, "prober found high clock drift", 1),
        (None, "prober detected unhealthy status", 0),
    ],
)
async def test_what_a_probe_finds_is_counted_and_told(
    ahead_seconds: float | None, message: str | None, observed: int
) -> None:
    clock, log, peer = Clock(), Lines(), Peer()
    client = Client(clock)
    client.ahead_seconds = ahead_seconds
    logger = Logger((log,), Level.DEBUG)
    prober = Prober(
        asyncio.get_running_loop(),
        clock,  # type: ignore[arg-type]
        client,  # type: ignore[arg-type]
        lambda: [peer],
        logger,
    )
    await prober.probe(peer)
    prober.report()
    assert [line["msg"] for line in log.lines] == ([message] if message else [])
    assert all(line["remote-peer-id"] == "ab" for line in log.lines)
    assert sum(peer.figures.round_trip.counts) == observed
    assert peer.figures.round_trip.sum == pytest.approx(0.003 * observed)


def test_gos_form_of_a_time_is_read() -> None:
    """A real member tells nanoseconds and its offset."""
    assert seconds_of("2023-11-14T23:13:20.123456789+01:00") == pytest.approx(1_700_000_000.123456)
    assert seconds_of("2023-11-14T22:13:20Z") == 1_700_000_000
