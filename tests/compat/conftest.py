"""Fixtures: real etcds of both lines, and the member under comparison.

The subject is Keydeck. `KEYDECK_COMPAT_SUBJECT` names an etcd binary to put in its place, which
is how the harness itself is tried. Without a real etcd these tests are skipped, unless
`KEYDECK_REQUIRE_ETCD` is set, as it is in CI.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.compat.etcdctl import Ctl, Twins
from tests.support.etcd_binaries import EtcdRelease, find_etcd34, find_etcd35
from tests.support.servers_proc import ServerProcess, etcd_server, make_subject

StartMember = Callable[..., ServerProcess]


def require(release: EtcdRelease | None, line: str) -> EtcdRelease:
    if release is None:
        if os.environ.get("KEYDECK_REQUIRE_ETCD"):
            pytest.fail(f"etcd {line} is required here and cannot be found")
        pytest.skip(f"no etcd {line} on this machine")
    return release


@pytest.fixture(params=["3.4", "3.5"])
def release(request: pytest.FixtureRequest) -> EtcdRelease:
    """Each of the two real etcds in turn."""
    find = find_etcd34 if request.param == "3.4" else find_etcd35
    return require(find(), request.param)


@pytest.fixture
def release35() -> EtcdRelease:
    return require(find_etcd35(), "3.5")


@pytest.fixture
def release34() -> EtcdRelease:
    return require(find_etcd34(), "3.4")


MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30
"""Free bytes that are plenty: logs are preallocated, 64 MB at a time."""


@contextlib.contextmanager
def quick_directory(otherwise: Path) -> Iterator[Path]:
    """For the data of members that are compared: in memory where there is room. Half the time of a
    comparison would go to syncs, and what those are for is tested elsewhere."""
    try:
        has_room = shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    except OSError:
        has_room = False
    if not has_room:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="keydeck-compat-", dir=MEMORY) as directory:
        yield Path(directory)


@pytest.fixture
def start_etcd(tmp_path: Path) -> Iterator[StartMember]:
    """Starts fresh etcd members; all are stopped when the test ends."""
    with quick_directory(tmp_path) as base:
        yield from starter(base, "etcd", etcd_server)


@pytest.fixture
def start_subject(tmp_path: Path) -> Iterator[StartMember]:
    """Starts fresh members of the server under comparison."""
    with quick_directory(tmp_path) as base:
        yield from starter(base, "subject", make_subject)


def starter(tmp_path: Path, name: str, make: Callable[..., ServerProcess]) -> Iterator[StartMember]:
    started: list[ServerProcess] = []

    def start(*place: object, **options: object) -> ServerProcess:
        directory = tmp_path / f"{name}-{len(started)}" / "data"
        server = make(*place, directory, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        if server.running():
            server.terminate()


LINES = ("3.4", "3.5")


def start_twins(line: str, base: Path) -> Iterator[Twins]:
    """One client line on a real etcd 3.5 and on Keydeck, both fresh."""
    find = find_etcd34 if line == "3.4" else find_etcd35
    client = require(find(), line)
    server = require(find_etcd35(), "3.5")
    with quick_directory(base) as place:
        references = starter(place, "etcd", etcd_server)
        subjects = starter(place, "subject", make_subject)
        reference, subject = next(references)(server), next(subjects)()
        yield Twins(Ctl(client.etcdctl, reference), Ctl(client.etcdctl, subject))
        for members in (references, subjects):
            next(members, None)


@pytest.fixture(scope="module", params=LINES)
def twins(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Twins]:
    """Shared by tests that leave equal revisions behind."""
    yield from start_twins(request.param, tmp_path_factory.mktemp("etcdctl"))


@pytest.fixture(params=LINES)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Twins]:
    """For tests that compare hashes, or whose revisions depend on timing."""
    yield from start_twins(request.param, tmp_path)
