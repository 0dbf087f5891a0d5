"""Large files to slow browsers: bounded memory, and no download that only looks whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from console.maintenance import streaming
from console.maintenance.streaming import WENT_AWAY, FileDownload

SECONDS_MAX = 60


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
    await asyncio.wait_for(gate.passed(), SECONDS_MAX)
    transport.producer.pauseProducing()
    waiting = asyncio.create_task(gate.passed())
    await asyncio.sleep(0)
    assert not waiting.done()
    transport.producer.resumeProducing()
    await asyncio.wait_for(waiting, 30)
    gate.pauseProducing()
    gate.stopProducing()  # the connection is gone: nobody waits for ever
    await asyncio.wait_for(gate.passed(), SECONDS_MAX)


class Reader:
    """daphne's request object, of a browser that reads when it likes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.producer = None
        self.is_aborted = False
        self.channel = self
        self.transport = self
        self._response_started = True
        self.finished = False

    def handle_reply(self, message: dict) -> None:
        # Twisted complains about a response that ends with its producer still registered.
        assert message.get("more_body") or self.producer is None
        self.got.append(message["body"])
        if self.producer:
            self.producer.pauseProducing()

    def registerProducer(self, producer, streaming: bool) -> None:
        assert self.producer is None and streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def abortConnection(self) -> None:
        self.is_aborted = True


def body(text: bytes, more: bool = True) -> dict:
    return {"type": "http.response.body", "body": text, "more_body": more}


async def test_the_next_block_waits_for_a_slow_reader() -> None:
    from console.serving.server import ConsoleServer

    reader = Reader()
    server = ConsoleServer(application=None, endpoints=["tcp:0"])
    server.connections = {reader: {}}
    sending = asyncio.create_task(server.handle_reply(reader, body(b"1")))
    await asyncio.sleep(0)
    assert reader.got == [b"1"] and not sending.done()
    reader.producer.resumeProducing()
    await asyncio.wait_for(sending, 30)
    second = asyncio.create_task(server.handle_reply(reader, body(b"2")))
    await asyncio.sleep(0)
    reader.producer.stopProducing()
    await asyncio.wait_for(second, 30)
    await asyncio.wait_for(server.handle_reply(reader, body(b"3", more=False)), SECONDS_MAX)
    assert reader.got == [b"1", b"2", b"3"]


async def test_an_answer_of_one_piece_needs_no_gate() -> None:
    from console.serving.server import ConsoleServer

    reader = Reader()
    server = ConsoleServer(application=None, endpoints=["tcp:0"])
    server.connections = {reader: {}}
    await asyncio.wait_for(server.handle_reply(reader, body(b"all", more=False)), SECONDS_MAX)
    assert reader.got == [b"all"]


@pytest.mark.parametrize(
    ("failure", "started", "finished", "aborted"),
    [
        (RuntimeError("no digest"), True, False, True),
        (RuntimeError("no digest"), False, False, False),  # daphne answers with 500
        (RuntimeError("no digest"), True, True, False),
        (None, True, False, False),
    ],
)
async def test_a_response_that_failed_half_way_is_broken_off(
    failure, started, finished, aborted
) -> None:
    from console.serving.server import _break_off

    reader = Reader()
    reader._response_started, reader.finished = started, finished
    task = asyncio.get_running_loop().create_future()
    task.set_exception(failure) if failure else task.set_result(None)
    _break_off(reader, task)
    assert reader.is_aborted is aborted
