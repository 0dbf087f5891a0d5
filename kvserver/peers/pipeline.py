"""Single messages by POST, while the other member has not dialled our streams
(spec/peer.md §4.1). Owner: the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from kvserver.errors import KeydeckError
from kvserver.limits import PEER_PIPELINE_MESSAGES_MAX, PEER_PIPELINE_WORKERS
from kvserver.peers.client import HttpClient
from kvserver.peers.dialler import Urls
from kvserver.peers.figures import LinkFigures
from kvserver.peers.identity import Identity
from kvserver.raft import Message
from kvserver.raft.codec import encode_message

REMOVED_TEXT = "cannot process message from removed member"


class Pipeline:
    """A small queue and a few workers that empty it."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        client: HttpClient,
        identity: Identity,
        urls: Urls,
        on_up: Callable[[], None],
        on_failed: Callable[[str], None],
        on_removed: Callable[[], None],
        figures: LinkFigures,
    ) -> None:
        self._loop = loop
        self._client = client
        self._identity = identity
        self._urls = urls
        self._on_up = on_up
        self._on_failed = on_failed
        self._on_removed = on_removed
        self._figures = figures
        self._queue: deque[Message] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def send(self, message: Message) -> bool:
        """Queue a message; False if it does not fit."""
        if len(self._queue) >= PEER_PIPELINE_MESSAGES_MAX:
            return False
        self._queue.append(message)
        if len(self._workers) < PEER_PIPELINE_WORKERS:
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return True

    def stop(self) -> None:
        self._queue.clear()
        for worker in self._workers:
            worker.cancel()

    async def _work(self) -> None:
        while self._queue:
            message = self._queue.popleft()
            try:
                await self._post(message)
            except KeydeckError as error:
                self._urls.failed()
                self._on_failed(f"pipeline: {error}")

    async def _post(self, message: Message) -> None:
        headers = {
            "Content-Type": "application/protobuf",
            **self._identity.request_headers(),
        }
        body = encode_message(message)
        answer = await self._client.request(self._urls.current(), "POST", "/raft", headers, body)
        if answer.status == 204:
            self._figures.sent_bytes += len(body)
            self._on_up()
        elif answer.status == 403 and REMOVED_TEXT in answer.text:
            self._on_removed()
        else:
            raise KeydeckError(f"{answer.status} {answer.text}")
