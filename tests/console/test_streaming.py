"""Large files to slow browsers: bounded memory, and no download that only looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from console.maintenance import streaming
from console.maintenance.streaming import WENT_AWAY, FileDownload


def chunks(count: int, taken: list[int], size: int = 64 * 1024) -> Iterator[bytes]:
    for number in range(count):
        taken.append(number)
        yield bytes(size)


async def read(response: FileDownload, blocks: int = 10**6) -> int:
    total = 0
    async for block in response.streaming_content:
        total += len(block)
        blocks -= 1
        if not blocks:
            break
    return total


async def test_a_block_is_read_when_the_last_one_is_gone() -> None:
    taken: list[int] = []
    said: list[str] = []
    response = FileDownload(chunks(100, taken), 100 * 64 * 1024, "x.db", said.append)
    assert await read(response, blocks=2) == 2 * streaming.BLOCK_BYTES
    assert len(taken) == 8
    response.close()
    assert said == [WENT_AWAY]


async def test_a_whole_one_ends_once_and_well() -> None:
    said: list[str] = []
    response = FileDownload(chunks(5, []), 5 * 64 * 1024, "x.db", said.append)
    assert await read(response) == 5 * 64 * 1024
    response.close()
    assert said == [""]
    assert response["Content-Length"] == str(5 * 64 * 1024)
    assert response["Content-Disposition"] == 'attachment; filename="x.db"'
    assert "sandbox" in response["Content-Security-Policy"]


async def test_what_breaks_is_raised_so_that_the_connection_breaks_too() -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(streaming.BLOCK_BYTES)
        raise RuntimeError("the data do not have the digest")

    said: list[str] = []
    response = FileDownload(broken(), 10**6, "x.db", said.append)
    with pytest.raises(RuntimeError):
        await read(response)
    response.close()
    assert said == ["the data do not have the digest"]


async def test_a_full_transport_shuts_the_gate_until_it_has_drained() -> None:
    from twisted.internet.interfaces import IPushProducer

    from console.serving.server import Gate

    gate = Gate()
    assert verifyObject(IPushProducer, gate)
    transport = StringTransport()
    transport.registerProducer(gate, True)
    await asyncio.wait_for(gate.passed(), 5)
    transport.producer.pauseProducing()
    waiting = asyncio.create_task(gate.passed())
    await asyncio.sleep(0)
    assert not waiting.done()
    transport.producer.resumeProducing()
    await asyncio.wait_for(waiting, 5)
    gate.pauseProducing()
    gate.stopProducing()  # the connection is gone: nobody waits for ever
    await asyncio.wait_for(gate.passed(), 5)
