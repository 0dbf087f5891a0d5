"""The Python client `etcd3` 0.12 sees in Keydeck what it sees in etcd."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.conftest import StartMember
from tests.support.etcd_binaries import EtcdRelease
from tests.support.served import serves
from tests.support.servers_proc import ServerProcess

pytestmark = [pytest.mark.compat, pytest.mark.e2e]

SESSION = Path(__file__).with_name("etcd3_session.py")
SESSION_SECONDS_MAX = 300


def session(member: ServerProcess) -> str:
    environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SESSION), str(member.client_port)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SESSION_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_whole_session(
    release35: EtcdRelease, start_etcd: StartMember, start_subject: StartMember
) -> None:
    member, reference = start_subject(), start_etcd(release35)
    told = session(member)
    if not serves(member, "/etcdserverpb.Maintenance/Snapshot"):
        # The one part that leans on it says so instead of the snapshot's size.
        assert "snapshot not served" in told
        told = told.replace("snapshot not served", "snapshot 32")
    assert told == session(reference)
    for part in ("== keys_and_values", "== transactions", "== leases", "== locks", "== watches"):
        assert part in told
    assert "disarmed ['" in told or "disarmed [1]" in told, told
