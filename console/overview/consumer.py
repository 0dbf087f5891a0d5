"""The overview's socket: changed fragments only, every two seconds."""

from __future__ import annotations

import asyncio

from channels.db import database_sync_to_async

from console.live import LiveConsumer
from console.overview.present import fragments, live_context, table
from console.overview.sampler import sampler

TICK_SECONDS = 2.0


class OverviewConsumer(LiveConsumer):
    async def run(self) -> None:
        before: dict[str, str] = {}
        while True:
            pieces, whole_table = await database_sync_to_async(self._pieces)()
            await self._send_changes(before, pieces, whole_table)
            before = pieces
            await asyncio.sleep(TICK_SECONDS)

    def _pieces(self) -> tuple[dict[str, str], str]:
        context = live_context(self.cluster, sampler.snapshot(self.cluster))
        return fragments(context), table(context)

    async def _send_changes(
        self, before: dict[str, str], pieces: dict[str, str], whole_table: str
    ) -> None:
        """Other members than before: the whole table, not its rows."""
        changed = {name: html for name, html in pieces.items() if before.get(name) != html}
        if before.keys() != pieces.keys():
            changed = {n: html for n, html in changed.items() if not n.startswith("member-")}
            changed["member-rows"] = whole_table
        # An HTML parser drops table rows that follow other content: rows have a frame of their own.
        for in_table in (False, True):
            frame = [h for n, h in changed.items() if n.startswith("member-") is in_table]
            if frame:
                await self.send("\n".join(frame))
