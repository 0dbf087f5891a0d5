"""The socket of a watch. The browser speaks first: from which revision, so that its own
reconnects leave no hole either, and acknowledges each frame: a browser that does not keep up is
sent less, and never has more than one frame on its way. What it cannot see is counted.
"""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import parse_qsl

from channels.db import database_sync_to_async
from django.urls import reverse

from console.gateway import Reader
from console.gateway.feed import Feed
from console.keys.addresses import BadAddress
from console.live import LiveConsumer
from console.watch.present import chip_html, counts_html, export_url, rows_html
from console.watch.scope import Scope, revision_of, scope_of

TICK_SECONDS = 0.1
HELLO_SECONDS = 10.0
SHOWN_PER_FRAME = 10
KEPT_WHILE_PAUSED = 500
MESSAGE_BYTES_MAX = 200
FEEDS_MAX = 100
"""Each is a thread and a stream to the cluster."""

CLOSE_BAD_ADDRESS = 4400
TRY_LATER = 1013


class WatchConsumer(LiveConsumer):
    open_feeds = 0

    async def connect(self) -> None:
        self._hello: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._may_send = asyncio.Event()
        self._is_paused = False
        await super().connect()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """{"from": "120", "pause": false} once, then {"ack": 1} and {"pause": true}."""
        try:
            said = json.loads((text_data or "")[:MESSAGE_BYTES_MAX])
            revision = revision_of(said.get("from"))
        except (ValueError, AttributeError, RecursionError):
            return
        if "pause" in said:
            self._is_paused = said["pause"] is True
        if "ack" in said:
            self._may_send.set()
        if revision and not self._hello.done():
            self._hello.set_result(revision)

    async def run(self) -> None:
        query = dict(parse_qsl(self.scope["query_string"].decode("latin-1")))
        try:
            scope, since = scope_of(query), revision_of(query.get("since", ""))
        except BadAddress:
            await self.close(CLOSE_BAD_ADDRESS)
            return
        if WatchConsumer.open_feeds >= FEEDS_MAX:
            await self.close(TRY_LATER)
            return
        start = await asyncio.wait_for(self._hello, HELLO_SECONDS)
        open_feed = database_sync_to_async(Reader(self.cluster).feed)
        feed = await open_feed(
            scope.keys, start=start, puts=scope.has_puts, deletes=scope.has_deletes
        )
        WatchConsumer.open_feeds += 1
        try:
            feed.start()
            await self._show(feed, scope, since or start)
        finally:
            WatchConsumer.open_feeds -= 1
            feed.close()

    async def _show(self, feed: Feed, scope: Scope, since: int) -> None:
        chip = counts = ""
        rate = _Rate()
        while True:
            feed.kept_max = KEPT_WHILE_PAUSED if self._is_paused else SHOWN_PER_FRAME
            waiting = feed.waiting
            pieces = []
            if (waiting or feed.has_gaps) and not self._is_paused:
                # Rendering runs beside the loop: other sockets go on meanwhile.
                pieces.append(await asyncio.to_thread(rows_html, self.cluster, feed.take()))
                waiting = 0
            now = counts_html(self._counts(feed, scope, since, waiting, rate.now(feed)))
            for before, after in ((chip, chip_html(feed)), (counts, now)):
                if before != after:
                    pieces.append(after)
            chip, counts = chip_html(feed), now
            if pieces:
                self._may_send.clear()
                await self.send("\n".join(pieces))
                await self._may_send.wait()
            await asyncio.sleep(TICK_SECONDS)

    def _counts(
        self, feed: Feed, scope: Scope, since: int, waiting: int, rate: int
    ) -> dict[str, object]:
        path = reverse("watch_export", args=[self.cluster.slug])
        last = feed.next_revision - 1
        return {
            "total": feed.total,
            "rate": rate,
            "waiting": waiting,
            "is_paused": self._is_paused,
            "kept": KEPT_WHILE_PAUSED,
            "next_revision": feed.next_revision,
            "export_url": export_url(path, scope, since, last) if last >= since else None,
        }


class _Rate:
    """Events a second, over the last whole second."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._events = 0
        self._rate = 0

    def now(self, feed: Feed) -> int:
        passed = time.monotonic() - self._at
        if passed >= 1.0:
            events = feed.total.events
            self._rate = round((events - self._events) / passed)
            self._at, self._events = time.monotonic(), events
        return self._rate
