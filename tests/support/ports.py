"""Ports for the servers that tests start: each is handed out once, whoever asks on this machine.

A port that the kernel picks belongs to nobody once it is closed: the other test process, or a
connection that goes out, may have it before the server that it was meant for. A member also keeps
its port while it is down, and is dialled there meanwhile; a port of the range from which outgoing
connections take theirs would then be taken, in the worst case by a dialler that meets itself. So
ports come from below that range, in turn, and whose turn it is stands in a file that all test
processes of this user share.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

FIRST = 10_240
"""Below are services that may be started at any time."""
ROOM_MIN = 2_000
PORT_MAX = 65_535
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens at, and that nobody else is given."""
    ports = range_for_servers()
    turn = Path(tempfile.gettempdir()) / f"keydeck-test-ports-{os.getuid()}"
    found: list[int] = []
    with turn.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        written = file.read().strip()
        place = int(written) if written.isdigit() else random.SystemRandom().randrange(PORT_MAX)
        for _ in ports:
            if len(found) == count:
                break
            place = (place + 1) % len(ports)
            if is_free(ports[place]):
                found.append(ports[place])
        file.truncate(0)
        file.write(str(place))
        file.flush()
    assert len(found) == count, f"{ports} are all taken"
    return found


def range_for_servers() -> range:
    """Where no outgoing connection takes its port from, if that leaves room enough."""
    try:
        low, high = map(int, OUTGOING.read_text().split())
    except OSError:
        low, high = 32_768, 60_999
    for ports in (range(FIRST, low), range(max(high + 1, FIRST), PORT_MAX + 1)):
        if len(ports) >= ROOM_MIN:
            return ports
    return range(FIRST, PORT_MAX + 1)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that are not quite over are in nobody's way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
