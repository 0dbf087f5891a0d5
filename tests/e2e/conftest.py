"""Fixtures: one Keydeck member as a process, with failpoints, ended by its pid whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.servers_proc import ServerProcess, free_port, make_subject

MakeMember = Callable[..., ServerProcess]


@pytest.fixture
def make_member(tmp_path: Path) -> Iterator[MakeMember]:
    """Makes members that are not started yet; those still running at the end are killed."""
    made: list[ServerProcess] = []

    def make(*flags: str, environment: dict[str, str] | None = None) -> ServerProcess:
        data_dir = tmp_path / f"member-{len(made)}" / "data"
        member = make_subject(data_dir, flags=flags, environment=environment or {})
        made.append(member)
        return member

    yield make
    for member in made:
        if member.running():
            member.kill()


@pytest.fixture
def member(make_member: MakeMember) -> ServerProcess:
    """A running member."""
    started = make_member()
    started.start()
    return started


@pytest.fixture
def failpoint_port() -> int:
    return free_port()
