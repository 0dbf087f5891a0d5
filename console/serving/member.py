"""The member as a child process: started, watched, ended, waited for.

It ends with the console: by SIGTERM when the console stops, and by the kernel's parent-death
signal when the console is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from console.serving.ports import accepts

NAME = "keydeck"
HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
PR_SET_PDEATHSIG = 1
PORTS_APART = 10


class MemberFailed(Exception):
    """The member did not come up; the text says how it ended."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one member lives."""

    name: str
    data_dir: Path
    client_port: int
    peer_port: int

    @property
    def client_url(self) -> str:
        return f"http://{HOST}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://{HOST}:{self.peer_port}"


def places(data_dir: Path, count: int, client_port: int, peer_port: int) -> list[Place]:
    """One member alone keeps what `data_dir`/member holds; several are another cluster, whose
    ports lie ten apart."""
    if count == 1:
        return [Place(NAME, data_dir / "member", client_port, peer_port)]
    return [
        Place(
            f"{NAME}-{number + 1}",
            data_dir / f"cluster-of-{count}" / f"{NAME}-{number + 1}",
            client_port + PORTS_APART * number,
            peer_port + PORTS_APART * number,
        )
        for number in range(count)
    ]


def command_line(place: Place, cluster: Sequence[Place]) -> list[str]:
    """KEYDECK_MEMBER_COMMAND may name another etcd-compatible program with etcd's flags."""
    program = os.environ.get("KEYDECK_MEMBER_COMMAND")
    initial = ",".join(f"{other.name}={other.peer_url}" for other in cluster)
    return [
        *(program.split() if program else [sys.executable, "-m", "kvserver"]),
        f"--name={place.name}",
        f"--data-dir={place.data_dir}",
        f"--listen-client-urls={place.client_url}",
        f"--advertise-client-urls={place.client_url}",
        f"--listen-peer-urls={place.peer_url}",
        f"--initial-advertise-peer-urls={place.peer_url}",
        f"--initial-cluster={initial}",
    ]


class ChildMember:
    def __init__(self, command: Sequence[str], client_port: int) -> None:
        self._command = list(command)
        self._client_port = client_port
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False

    def spawn(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches the console only, which then ends the member in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    def wait_ready(self) -> None:
        """Return when it accepts clients. Raises MemberFailed when it ends before that."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while not accepts(HOST, self._client_port):
            code = self._process.poll()
            if code is not None:
                raise MemberFailed(f"the member ended with status {code} before it was ready")
            if time.monotonic() > deadline:
                self.stop()
                raise MemberFailed(f"the member was not ready within {START_SECONDS_MAX:.0f} s")
            time.sleep(0.05)

    def on_end(self, tell: Callable[[int], None]) -> None:
        """Call `tell(status)` from a thread if the member ends without being asked to."""

        def watch() -> None:
            assert self._process is not None
            code = self._process.wait()
            if not self._is_stopping:
                tell(code)

        threading.Thread(target=watch, name="member-watch", daemon=True).start()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._is_stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """SIGTERM, wait; SIGKILL for one that does not listen."""
        process = self._process
        self.ask_to_stop()
        if process is None or process.poll() is not None:
            return
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class ChildMembers:
    """One member, or several of one cluster."""

    def __init__(self, cluster: Sequence[Place]) -> None:
        self._members = {
            place.name: ChildMember(command_line(place, cluster), place.client_port)
            for place in cluster
        }

    def start(self) -> None:
        """Return when all of them accept clients. Raises MemberFailed."""
        for member in self._members.values():
            member.spawn()
        for member in self._members.values():
            member.wait_ready()

    def on_end(self, tell: Callable[[str, int, bool], None]) -> None:
        """Call `tell(name, status, whether none is left)` from a thread for every member that ends
        without being asked to."""
        for name, member in self._members.items():

            def ended(status: int, name: str = name) -> None:
                is_last = not any(other.is_running for other in self._members.values())
                tell(name, status, is_last)

            member.on_end(ended)

    def stop(self) -> None:
        for member in self._members.values():
            member.ask_to_stop()
        for member in self._members.values():
            member.stop()


def _die_with_parent() -> None:
    """In the child, before exec: SIGTERM when the thread that started it is gone. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
