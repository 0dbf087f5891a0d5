"""A job's socket: its region whenever it changed."""

from __future__ import annotations

import asyncio

from channels.db import database_sync_to_async

from console.live import LiveConsumer
from console.maintenance.present import fragment
from console.models import Job
from console.roles import Role

TICK_SECONDS = 1.0


class JobConsumer(LiveConsumer):
    needs = Role.OPERATOR

    async def run(self) -> None:
        before = ""
        while True:
            html = await database_sync_to_async(self._html)()
            if html and html != before:
                await self.send(html)
            before = html
            await asyncio.sleep(TICK_SECONDS)

    def _html(self) -> str:
        pk = self.scope["url_route"]["kwargs"]["job"]
        job = Job.objects.filter(cluster=self.cluster, pk=pk).first()
        return self.html_of(job) if job else ""

    def html_of(self, job: Job) -> str:
        return fragment(job)
