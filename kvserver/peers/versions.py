"""The leader's watch over the members' versions: the cluster's is their minimum and never falls
(spec/cluster.md §6.1), unless a downgrade takes it down by one minor version (§6.4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

from kvserver.errors import KeydeckError
from kvserver.limits import VERSION_POLL_SECONDS
from kvserver.membership.legacy_requests import needs_legacy
from kvserver.membership.types import Member
from kvserver.peers.client import HttpClient
from kvserver.peers.identity import minor_version
from kvserver.version import SERVER_VERSION

FIRST_VERSION = "3.0.0"


def next_version(current: str | None, versions: Iterable[str | None]) -> str | None:
    """What to raise the cluster version to now, if anything."""
    known = []
    for version in versions:
        minor = minor_version(version) if version else None
        if minor is None:
            return FIRST_VERSION if current is None else None
        known.append(minor)
    lowest = min(known)
    if current is not None and (minor_version(current) or (0, 0)) >= lowest:
        return None
    return f"{lowest[0]}.{lowest[1]}.0"


def previous_minor(version: str) -> str:
    """The only version a cluster may be taken down to: 3.6.0 for 3.7.0."""
    major, minor = minor_version(version) or (0, 0)
    return f"{major}.{minor - 1}.0"


def is_downgraded(target: str, versions: Iterable[str | None]) -> bool:
    """Whether every member runs a release of the version that was aimed at."""
    wanted = minor_version(target)
    return all(version is not None and minor_version(version) == wanted for version in versions)


class VersionMonitor:
    """Asks every member's /version, while this one leads. Owner: the loop."""

    def __init__(
        self,
        *,
        client: HttpClient,
        member_id: int,
        members: Callable[[], list[Member]],
        current: Callable[[], str | None],
        downgrade_target: Callable[[], str],
        downgrade_check_seconds: float,
        is_leader: Callable[[], bool],
        propose: Callable[[str, bool], None],
        end_downgrade: Callable[[], None],
    ) -> None:
        self._client = client
        self._member_id = member_id
        self._members = members
        self._current = current
        self._is_leader = is_leader
        self._propose = propose
        self._downgrade_target = downgrade_target
        self._downgrade_check_seconds = downgrade_check_seconds
        self._end_downgrade = end_downgrade
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From the moment this member leads, for as long as it does."""
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_versions())
            group.create_task(self._follow_downgrade())

    async def _follow_versions(self) -> None:
        while self._is_leader():
            versions = await self.ask()
            wanted = self.wanted(versions) if versions else None
            if wanted is not None and self._is_leader():
                self._propose(wanted, needs_legacy(versions))
            await asyncio.sleep(VERSION_POLL_SECONDS)

    def wanted(self, versions: Iterable[str | None]) -> str | None:
        """What the cluster version should become, if anything."""
        current, target = self._current(), self._downgrade_target()
        if target and current is not None:
            return target if target == previous_minor(current) else None
        return next_version(current, versions)

    async def _follow_downgrade(self) -> None:
        while self._is_leader():
            await asyncio.sleep(self._downgrade_check_seconds)
            target = self._downgrade_target()
            if target and is_downgraded(target, await self.ask()) and self._is_leader():
                self._end_downgrade()

    async def ask(self) -> list[str | None]:
        """Everybody's server version; None for who does not answer."""
        return await asyncio.gather(*map(self._version_of, self._members()))

    async def _version_of(self, member: Member) -> str | None:
        if member.id == self._member_id:
            return SERVER_VERSION
        for url in member.peer_urls:
            try:
                answer = await self._client.request(
                    url, "GET", "/version", timeout_seconds=2.0, is_kept=True
                )
                found = json.loads(answer.body)["etcdserver"]
            except (KeydeckError, ValueError, KeyError, TypeError):
                continue
            if isinstance(found, str):
                return found
        return None
