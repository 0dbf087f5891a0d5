"""`manage.py serve` from nothing: files, password, ports, the end (and the start after it)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.console.serving import Served
from tests.support.ports import free_ports
from tests.support.servers import ETCD, ROOT, kinds, program

pytestmark = pytest.mark.e2e

ATTEMPTS_MAX = 20


@pytest.fixture(params=kinds())
def served(request, tmp_path: Path):
    one = Served(tmp_path / "data", member=program(request.param))
    yield one
    one.stop()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_and_a_second(served: Served) -> None:
    served.start()
    data = served.data_dir
    password = served.password
    assert password
    assert mode(data) == 0o700
    for name in ("secret-key", "encryption-key", "console.sqlite3"):
        assert mode(data / "console" / name) == 0o600
    secret = (data / "console" / "secret-key").read_text()
    with sqlite3.connect(data / "console" / "console.sqlite3") as database:
        rows = database.execute("select username, is_admin, password from console_account")
        [(name, is_admin, stored)] = rows.fetchall()
        clusters = database.execute("select name, endpoints from console_cluster").fetchall()
    database.close()
    assert (name, is_admin) == ("admin", 1)
    assert stored.startswith("argon2")
    assert clusters == [("local", served.client_url)]

    member = served.member_pid()
    assert served.stop() == 0
    assert not Path(f"/proc/{member}").exists(), "the member outlived the console"
    assert "Stopped." in served.output()

    served.start()
    assert served.password is None, "the password is printed once only"
    assert (data / "console" / "secret-key").read_text() == secret
    assert urllib.request.urlopen(served.base + "/login").status == 200
    assert served.stop(signal.SIGINT) == 0


def ports_ten_apart(count: int) -> tuple[int, int]:
    """A client and a peer port that are free, as are those ten and twenty higher."""
    span = 10 * (count - 1) + 2
    for _ in range(ATTEMPTS_MAX):
        ports = free_ports(span)
        if ports[-1] - ports[0] == span - 1:
            return ports[0], ports[1]
    raise AssertionError("one of them is always taken")


def test_three_members_and_their_console(tmp_path: Path) -> None:
    """`make cluster`: one that dies is told, and the others go on."""
    one = Served(tmp_path / "data", flags=["--members=3"])
    one.client_port, one.peer_port = ports_ten_apart(3)
    urls = [f"http://127.0.0.1:{one.client_port + 10 * number}" for number in range(3)]
    try:
        one.start()
        assert one.password
        assert f"Cluster   {', '.join(urls)}" in one.output()
        names = ["keydeck-1", "keydeck-2", "keydeck-3"]
        # Each tells its name to the others once it has started.
        one.wait_until(lambda: names_at(urls[2]) == names)
        assert urllib.request.urlopen(one.base + "/login").status == 200
        pids = one.member_pids()
        os.kill(pids[1], signal.SIGKILL)
        one.wait_until(lambda: "keydeck-2 ended with status -9" in one.output())
        assert urllib.request.urlopen(one.base + "/login").status == 200
        one.wait_until(lambda: is_written(urls[0]))
    finally:
        assert one.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with one.database() as database:
        rows = database.execute("select name, endpoints from console_cluster").fetchall()
    assert rows == [("local, 3 members", "\n".join(urls))]


def names_at(url: str) -> list[str]:
    """Of the members this one knows; none while nobody leads."""
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        asked = rpc.MemberListRequest(linearizable=True)
        try:
            found = services.ClusterStub(channel).MemberList(asked, timeout=10)
        except grpc.RpcError:
            return []
    return sorted(member.name for member in found.members)


def is_written(url: str) -> bool:
    """False while nobody leads: what was killed may have been the leader."""
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        put = rpc.PutRequest(key=b"two", value=b"of three")
        try:
            services.KVStub(channel).Put(put, timeout=10)
        except grpc.RpcError:
            return False
    return True


def test_the_member_ends_when_the_console_is_killed(served: Served) -> None:
    served.start()
    member = Path(f"/proc/{served.member_pid()}")
    served.kill()
    served.wait_until(lambda: not member.exists() or " Z " in (member / "stat").read_text())


def test_a_member_that_dies_ends_the_console(served: Served) -> None:
    served.start()
    served.kill_member()
    assert served.wait() == 1
    assert "the member ended by itself" in served.output()


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    one = Served(tmp_path / "data", member=program(ETCD))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one.client_port = taken.getsockname()[1]
        one.spawn()
        assert one.wait() == 1
    assert f"127.0.0.1:{one.client_port} is in use" in one.output()
    assert "--client-port" in one.output()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--no-member"], "--no-member needs --endpoints"),
        (["--endpoints=http://h:1"], "--endpoints goes with --no-member"),
        (["--no-member", "--endpoints=ftp://h"], "use http:// or https://"),
    ],
)
def test_options_that_do_not_fit_are_explained(tmp_path: Path, flags, said: str) -> None:
    one = Served(tmp_path / "data", flags=flags)
    one.spawn()
    assert one.wait() == 1
    assert said in one.output()


def test_a_member_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    one = Served(tmp_path / "data", member=[shutil.which("false") or "false"])
    one.spawn()
    assert one.wait() == 1
    assert "the member ended with status" in one.output()


def test_production_settings_pass_the_deployment_check(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level=WARNING"],
        cwd=ROOT,
        env=os.environ | {"KEYDECK_HTTPS": "1", "KEYDECK_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_there_is_no_migration_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=ROOT,
        env=os.environ | {"KEYDECK_DATABASE_URL": f"sqlite://{tmp_path}/db.sqlite3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
