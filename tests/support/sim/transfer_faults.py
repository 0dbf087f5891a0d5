"""Databases that break on their way: a member is kept away until it needs one, and while that comes
either end dies, stands still, or is cut off."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.sim.cluster import Cluster
    from tests.support.sim.machine import Machine

Later = Callable[[float, Callable[[], None]], None]
Restart = Callable[["Machine", float], None]
SHARE = 0.6
"""Of the seeds that can have any."""


class TransferFaults:
    """Part of the nemesis."""

    def __init__(
        self, cluster: Cluster, rng: random.Random, later: Later, restart_later: Restart
    ) -> None:
        self._cluster = cluster
        self._rng = rng
        self._later = later
        self._restart_later = restart_later

    def strike(self) -> None:
        """Somebody comes to lag, and the next databases break."""
        cluster, rng = self._cluster, self._rng
        leader = cluster.leader()
        lagging = [p.name for p in cluster.processes() if p is not leader]
        if leader is None or not lagging:
            return
        name = rng.choice(lagging)
        others = [other for other in cluster.machines if other != name]
        cut = {(name, other) for other in others} | {(other, name) for other in others}
        cluster.world.trace("*", f"{name} is kept away")
        cluster.fabric.set_cut(cut)
        self._later(rng.uniform(0.5, 4.0), lambda: self._let_back(name))

    def _let_back(self, name: str) -> None:
        cluster, rng = self._cluster, self._rng
        cluster.world.trace("*", f"{name} is let back")
        cluster.fabric.set_cut(())
        left = rng.randint(1, 3)

        def on_database(sender: str, receiver: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                cluster.fabric.on_database = None
            if rng.random() < 0.8:
                self._break(sender, receiver)

        cluster.fabric.on_database = on_database

    def _break(self, sender: str, receiver: str) -> None:
        """Somewhere between the first page and the answer."""
        cluster, rng = self._cluster, self._rng
        if rng.random() < 0.8:  # it takes longer, so that there are more places
            for name in (sender, receiver):
                machine = cluster.machines[name]
                machine.fsync_seconds = rng.choice((0.01, 0.05, 0.3))
                self._later(rng.uniform(0.5, 3.0), lambda machine=machine: self._mend(machine))  # type: ignore[misc]
        seconds = rng.choice((0.003, 0.01, 0.05, 0.5)) * rng.uniform(0.1, 2.0)
        act = rng.choice((self._kill, self._kill, self._cut, self._cut, self._pause))
        self._later(seconds, lambda: act(sender, receiver))

    def _mend(self, machine: Machine) -> None:
        machine.fsync_seconds = machine.settings.fsync_seconds

    def _kill(self, sender: str, receiver: str) -> None:
        machine = self._cluster.machines[self._rng.choice((sender, receiver))]
        machine.crash("crash while a database is on its way")
        self._restart_later(machine, self._rng.choice((0.01, 0.3, 2.0)))

    def _cut(self, sender: str, receiver: str) -> None:
        fabric, rng = self._cluster.fabric, self._rng
        both = (sender, receiver), (receiver, sender)
        links = rng.choice(({both[0]}, {both[1]}, set(both)))
        self._cluster.world.trace("*", f"cut: {' '.join(f'{a}>{b}' for a, b in sorted(links))}")
        fabric.set_cut(fabric.cut | links)
        self._later(rng.choice((0.3, 2.0, 6.0)), lambda: fabric.set_cut(fabric.cut - links))

    def _pause(self, sender: str, receiver: str) -> None:
        machine, rng = self._cluster.machines[self._rng.choice((sender, receiver))], self._rng
        process = machine.process
        if process is None:
            return
        seconds = rng.choice((0.1, 1.0, 4.0, 8.0))
        self._cluster.world.trace(machine.name, f"stands still for {seconds} s")
        process.loop.pause()
        self._later(seconds, process.loop.resume)
