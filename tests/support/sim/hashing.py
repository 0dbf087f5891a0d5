"""The place of `kvserver.runtime.hashing` in the simulator: hashes of no cost that come some time
later, the same in every run of a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kvserver.auth.passwords import hash_password, password_matches
from tests.support.sim.loop import SimLoop

HASH_SECONDS = 0.05
"""About what bcrypt takes; meanwhile users and roles may change."""


def plain_hash(password: str, cost: int) -> bytes:
    return b"hash of " + password.encode()


def plain_matches(password: str, password_hash: bytes) -> bool:
    return password_hash == plain_hash(password, 0)


STAND_INS: dict[Any, Callable[..., Any]] = {
    hash_password: plain_hash,
    password_matches: plain_matches,
}


class SimHashWorker:
    """Owner: the loop."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    async def run(self, work: Callable[..., Any], *arguments: object) -> Any:
        if work not in STAND_INS:
            return work(*arguments)
        await asyncio.sleep(HASH_SECONDS)
        return STAND_INS[work](*arguments)
