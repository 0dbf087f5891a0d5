"""The socket of an import's or a rewind's page: its region whenever it changed."""

from __future__ import annotations

from typing import ClassVar

from console.keys.views_job import fragment
from console.maintenance.consumer import JobConsumer
from console.models import Job
from console.roles import Role


class KeyJobConsumer(JobConsumer):
    needs: ClassVar[Role] = Role.EDITOR

    def html_of(self, job: Job) -> str:
        return fragment(job) if job.lane == Job.Lane.KEYS else ""
