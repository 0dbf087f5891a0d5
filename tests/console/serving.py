"""A `manage.py serve` under test: started on free ports, read, ended."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import ROOT, Server, free_ports

SECONDS_MAX = 120.0
START_ATTEMPTS_MAX = 3


class Served:
    """`member`: the program of the member; without it `flags` say what to do instead."""

    def __init__(
        self, data_dir: Path, *, member: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> None:
        self.data_dir = data_dir
        self.client_port, self.peer_port, self.console_port = free_ports(3)
        self.password: str | None = None
        self._member = " ".join(member)
        self._flags = list(flags)
        self._log = data_dir.with_name("serve.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def client_url(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"

    def spawn(self) -> None:
        ports = [
            f"--client-port={self.client_port}",
            f"--peer-port={self.peer_port}",
            f"--console-port={self.console_port}",
        ]
        command = [sys.executable, "manage.py", "serve", f"--data-dir={self.data_dir}"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KEYDECK_")}
        environment |= {"KEYDECK_MEMBER_COMMAND": self._member, "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *ports, *self._flags], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def start(self) -> None:
        """Spawn and return when the address is printed, which is when it is served. A port that
        somebody else was quicker to take is told before anything is made: then others are tried."""
        for attempt in range(START_ATTEMPTS_MAX):
            self.spawn()
            try:
                self.wait_until(lambda: "Ctrl-C stops it." in self.output())
                break
            except BaseException:
                self.kill()
                is_taken = " is in use" in self.output() and not self.data_dir.exists()
                if not is_taken or attempt == START_ATTEMPTS_MAX - 1:
                    raise
                self.client_port, self.peer_port, self.console_port = free_ports(3)
        found = re.search(r"with the password\s+(\S+)", self.output())
        self.password = found[1] if found else None

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The console's own, while it is stopped."""
        connection = sqlite3.connect(self.data_dir / "console" / "console.sqlite3")
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not condition():
            assert time.monotonic() < deadline, self.output()[-3000:]
            assert self._process is None or self._process.poll() is None, self.output()[-3000:]
            time.sleep(0.02)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(SECONDS_MAX)

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        if self._process is None or self._process.poll() is not None:
            return 0
        self._process.send_signal(sign)
        return self.wait()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def member_pid(self) -> int:
        [pid] = self.member_pids()
        return pid

    def member_pids(self) -> list[int]:
        """In the order they were started."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill_member(self) -> None:
        os.kill(self.member_pid(), signal.SIGKILL)

    def console_rss_bytes(self) -> int:
        """What the console itself holds in memory, without its member."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def in_front_of(servers: Sequence[Server], directory: Path) -> Iterator[Served]:
    """A console that is connected to a cluster which runs already."""
    endpoints = ",".join(server.client_url for server in servers)
    one = Served(directory / "console", flags=["--no-member", f"--endpoints={endpoints}"])
    one.start()
    try:
        yield one
    finally:
        one.stop()
