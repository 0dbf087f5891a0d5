"""One member as a process for all tests of a module; each test finds it empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.auth_session import AuthSession
from tests.support.servers_proc import ServerProcess, keydeck_server, running

FAST_HASHES = "--bcrypt-cost=4"


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory: Path = tmp_path_factory.mktemp("member") / "data"
    with running(keydeck_server(directory, flags=[FAST_HASHES])) as server:
        yield server


@pytest.fixture
def session(member: ServerProcess) -> Iterator[AuthSession]:
    """Setup A, auth not enabled yet."""
    made = AuthSession(member.endpoint)
    made.set_up()
    yield made
    made.wipe()
    made.close()
