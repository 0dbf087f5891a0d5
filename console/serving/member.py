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
from pathlib import Path

from console.serving.ports import accepts

NAME = "keydeck"
HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
PR_SET_PDEATHSIG = 1


class MemberFailed(Exception):
    """The member did not come up; the text says how it ended."""


def command_line(data_dir: Path, client_port: int, peer_port: int) -> list[str]:
    """KEYDECK_MEMBER_COMMAND may name another etcd-compatible program with etcd's flags."""
    program = os.environ.get("KEYDECK_MEMBER_COMMAND")
    client, peer = f"http://{HOST}:{client_port}", f"http://{HOST}:{peer_port}"
    return [
        *(program.split() if program else [sys.executable, "-m", "kvserver"]),
        f"--name={NAME}",
        f"--data-dir={data_dir}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={NAME}={peer}",
    ]


class ChildMember:
    def __init__(self, command: Sequence[str], client_port: int) -> None:
        self._command = list(command)
        self._client_port = client_port
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Return when it accepts clients. Raises MemberFailed when it ends before that."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches the console only, which then ends the member in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
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

    def stop(self) -> None:
        """SIGTERM, wait; SIGKILL for one that does not listen."""
        process = self._process
        self._is_stopping = True
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _die_with_parent() -> None:
    """In the child, before exec: SIGTERM when the thread that started it is gone. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
