"""Output of one turn leaves in one write per connection (transport/outbox.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvserver.proto import rpc_pb2
from kvserver.transport.outbox import Outbox
from tests.support.in_process import running


class Loop:
    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def go_round(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Connection:
    def __init__(self) -> None:
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_everybody_in_the_next_round() -> None:
    loop = Loop()
    outbox = Outbox(loop)  # type: ignore[arg-type]
    first, second = Connection(), Connection()
    outbox.add(first)
    outbox.add(second)
    assert len(loop.soon) == 1 and first.flushes == 0
    loop.go_round()
    assert (first.flushes, second.flushes) == (1, 1)
    loop.go_round()
    assert (first.flushes, second.flushes) == (1, 1)


def test_or_before_and_then_not_again() -> None:
    loop = Loop()
    outbox = Outbox(loop)  # type: ignore[arg-type]
    one = Connection()
    outbox.add(one)
    outbox.flush()
    assert one.flushes == 1
    loop.go_round()
    assert one.flushes == 1
    outbox.add(one)
    loop.go_round()
    assert one.flushes == 2, "what comes later is not forgotten"


async def test_a_write_is_answered_in_the_turn_that_applies_it(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        loop, clients = member.server._core.member, member.server._serving.clients
        waiting, flush = [], loop._answered

        def answered() -> None:
            waiting.append(len(clients._outbox._waiting))
            flush()
            assert not clients._outbox._waiting

        loop.when_answered(answered)
        await member.kv.Put(rpc_pb2.PutRequest(key=b"k"))
        loop.when_answered(flush)
        assert max(waiting) == 1
