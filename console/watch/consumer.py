"""The socket of a watch. The browser speaks first: what it has seen, so that its own reconnects
leave no hole either, and acknowledges each frame: a browser that does not keep up is sent less,
and never has more than one frame on its way. What it cannot see is counted.
"""

from __future__ import annotations

import asyncio
import json
import time

from channels.db import database_sync_to_async
from django.http import QueryDict

from console.gateway import Reader
from console.gateway.feed import Feed
from console.live import LiveConsumer
from console.watch.cursors import Cursor, Place, starts, unpack, was_seen
from console.watch.present import Counts, behind, chips_html, counts_html, export_url, rows_html
from console.watch.scope import Scope, scope_of

TICK_SECONDS = 0.1
HELLO_SECONDS = 10.0
SHOWN_PER_FRAME = 10
KEPT_WHILE_PAUSED = 300
"""As many as the page keeps rows (static/rooms/watch.js)."""
MESSAGE_BYTES_MAX = 128 * 1024
RANGES_OPEN_MAX = 200
"""In this process. Each is a thread and a stream to the cluster."""

CLOSE_BAD_ADDRESS = 4400
TRY_LATER = 1013
COME_AGAIN = 1012


class WatchConsumer(LiveConsumer):
    ranges_open = 0

    async def connect(self) -> None:
        self._hello: asyncio.Future[tuple[Place, Place]] = (
            asyncio.get_running_loop().create_future()
        )
        self._may_send = asyncio.Event()
        self._is_paused = False
        await super().connect()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """{"page": "...", "had": "..."} once: the place the page was made at and the one its
        reader has got to, if any. Then {"ack": 1}; {"pause": true} at any time."""
        if not text_data or len(text_data) > MESSAGE_BYTES_MAX:
            return
        try:
            said = json.loads(text_data)
            if not isinstance(said, dict):
                return
            if "page" in said and not self._hello.done():
                page = unpack(said["page"])
                had = unpack(said["had"]) if said.get("had") else Place((), page.since)
                self._hello.set_result((page, had))
        except (ValueError, RecursionError):
            return
        if "pause" in said:
            self._is_paused = said["pause"] is True
        if "ack" in said:
            self._may_send.set()

    async def run(self) -> None:
        scope = scope_of(QueryDict(self.scope["query_string"]))
        if scope.mistakes:
            await self.close(CLOSE_BAD_ADDRESS)
            return
        wanted = len(scope.ranges)
        if WatchConsumer.ranges_open + wanted > RANGES_OPEN_MAX:
            await self.close(TRY_LATER)
            return
        WatchConsumer.ranges_open += wanted
        feed: Feed | None = None
        try:
            try:
                page, had = await asyncio.wait_for(self._hello, HELLO_SECONDS)
            except TimeoutError:
                await self.close(TRY_LATER)
                return
            feed = await self._open(scope, page, had)
            # Nothing has been taken yet: who comes back begins where this socket did.
            begun = tuple(Cursor(part.keys, part.next_revision) for part in feed.parts)
            place = had if had.cursors else Place(begun, had.since, had.counted)
            feed.start()
            await self._show(feed, scope, place)
        finally:
            WatchConsumer.ranges_open -= wanted
            if feed:
                feed.close()

    async def _open(self, scope: Scope, page: Place, had: Place) -> Feed:
        begins = {one.keys: one.revision for one in starts(scope.ranges, had.cursors, page.cursors)}
        feed: Feed = await database_sync_to_async(Reader(self.cluster).feed)(
            # A range the page knows nothing of was refused there: the cluster says so again.
            [(keys, begins.get(keys, page.last + 1)) for keys in scope.ranges],
            puts=scope.has_puts,
            deletes=scope.has_deletes,
            wants=scope.wants_key,
            is_new=lambda key, revision: not was_seen(key, revision, had.cursors),
            kept_max=SHOWN_PER_FRAME,
        )
        return feed

    async def _show(self, feed: Feed, scope: Scope, place: Place) -> None:
        sent: dict[str, str] = {}
        rate = _Rate()
        connection = self.cluster.changed_at
        while True:
            if self.cluster.changed_at != connection:
                # Looked up again meanwhile: the feed still asks the cluster that was meant before.
                await self.close(COME_AGAIN)
                return
            pieces = []
            feed.kept_max = KEPT_WHILE_PAUSED if self._is_paused else SHOWN_PER_FRAME
            if not self._is_paused:
                taken = feed.take()
                place = behind(place, taken)
                if taken.has_rows:
                    # Rendering runs beside the loop: other sockets go on meanwhile.
                    pieces.append(await asyncio.to_thread(rows_html, self.cluster, taken))
            counts = Counts(
                rate.of(feed.arrived),
                feed.waiting if self._is_paused else 0,
                KEPT_WHILE_PAUSED,
                feed.passed_over,
                self._is_paused,
            )
            export = export_url(self.cluster, scope, place.since, place.last)
            now = {"chips": chips_html(feed), "counts": counts_html(counts, place, export)}
            pieces += [html for name, html in now.items() if sent.get(name) != html]
            if pieces:
                sent = now
                self._may_send.clear()
                await self.send("\n".join(pieces))
                await self._may_send.wait()
            await asyncio.sleep(TICK_SECONDS)


class _Rate:
    """Events a second, over the last whole second."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._arrived = self._rate = 0

    def of(self, arrived: int) -> int:
        passed = time.monotonic() - self._at
        if passed >= 1.0:
            self._rate = round((arrived - self._arrived) / passed)
            self._at, self._arrived = time.monotonic(), arrived
        return self._rate
