"""How long the way to each other member and back takes, and whether our clocks agree
(spec/cluster.md §5). Owner: the loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from kvserver.clock import Clock
from kvserver.errors import KeydeckError
from kvserver.limits import (
    CLOCK_DRIFT_SECONDS_WARN,
    PEER_PROBE_REPORT_SECONDS,
    PEER_PROBE_SECONDS,
)
from kvserver.logs import Logger, seconds_of
from kvserver.membership.ids import format_id
from kvserver.peers.client import HttpClient
from kvserver.peers.dialler import Urls
from kvserver.peers.figures import LinkFigures


class Probed(Protocol):
    """The part of a peer that is of interest here."""

    id: int
    urls: Urls
    figures: LinkFigures


class Prober:
    """Asks every peer for the time, every few seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        client: HttpClient,
        peers: Callable[[], Iterable[Probed]],
        log: Logger,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._client = client
        self._peers = peers
        self._log = log
        self._errors: dict[int, str] = {}
        self._drifts: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        report_at = self._clock.monotonic() + PEER_PROBE_REPORT_SECONDS
        while True:
            await asyncio.sleep(PEER_PROBE_SECONDS)
            await asyncio.gather(*map(self.probe, self._peers()))
            if self._clock.monotonic() >= report_at:
                report_at = self._clock.monotonic() + PEER_PROBE_REPORT_SECONDS
                self.report()

    async def probe(self, peer: Probed) -> None:
        self._errors.pop(peer.id, None)
        self._drifts.pop(peer.id, None)
        started, wall = self._clock.monotonic(), self._clock.wall()
        try:
            answer = await self._client.request(
                peer.urls.current(),
                "GET",
                "/raft/probing",
                timeout_seconds=PEER_PROBE_SECONDS,
                is_kept=True,
            )
            told = _time_told(answer.body)
        except (KeydeckError, ValueError, KeyError, TypeError) as error:
            self._errors[peer.id] = str(error)
            return
        took = self._clock.monotonic() - started
        peer.figures.round_trip.observe(took)
        self._drifts[peer.id] = told - (wall + took / 2)

    def report(self) -> None:
        """What the last probes have found."""
        for number, error in self._errors.items():
            self._log.warn(
                "prober detected unhealthy status",
                remote_peer_id=format_id(number),
                error=error,
            )
        for number, drift in self._drifts.items():
            if abs(drift) > CLOCK_DRIFT_SECONDS_WARN:
                self._log.warn(
                    "prober found high clock drift",
                    remote_peer_id=format_id(number),
                    clock_drift=drift,
                )


def _time_told(body: bytes) -> float:
    """Seconds since 1970. Raises ValueError, KeyError or TypeError."""
    fields: Mapping[str, str] = json.loads(body)
    return seconds_of(fields["Now"])
