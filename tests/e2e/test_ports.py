"""Ports for tests are given once: to one test, in one process (tests/support/ports.py)."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.support.etcd_binaries import REPOSITORY
from tests.support.ports import OUTGOING, free_ports, is_free, range_for_servers

COUNT = 150
ASK = f"""
from tests.support.ports import free_port
print(*(free_port() for _ in range({COUNT})))
"""


def test_processes_that_ask_at_once_are_given_different_ones() -> None:
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE, cwd=REPOSITORY)
        for _ in range(2)
    ]
    given = [*free_ports(COUNT)]
    for process in asking:
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        given += map(int, told.split())
    assert len(set(given)) == 3 * COUNT


def test_a_port_that_somebody_listens_at_is_passed_over() -> None:
    (port,) = free_ports(1)
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_they_are_not_those_of_outgoing_connections() -> None:
    """So that a member that is down finds its own port again, however much is dialled meanwhile."""
    low, high = map(int, OUTGOING.read_text().split())
    ports = range_for_servers()
    if len(ports) < 50_000:  # otherwise this system leaves no room beside them
        assert not set(ports) & set(range(low, high + 1))
    assert set(free_ports(3)) < set(ports)
