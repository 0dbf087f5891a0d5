"""Which of some processes has the other end of a connection on loopback.

The kernel is asked for the socket's inode (sock_diag over netlink, one question per connection;
`/proc/net/tcp`, which lists every socket of the machine, where that is not to be had). The process
is the one among whose open files that inode is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NO_COOKIE = 0xFFFFFFFF
HEADER = struct.Struct("=IHHII")
"""Of a netlink message: length, type, flags, sequence, port."""
LOOPBACK = socket.inet_aton("127.0.0.1") + bytes(12)
INODE_OFFSET = HEADER.size + 68
"""In the answer: after family, state, timer, retransmits, the socket's id and four counters."""


def socket_owner(local_port: int, remote_port: int, pids: Mapping[str, int]) -> str | None:
    """The name of the process that has the IPv4 socket between these ports of loopback."""
    inode = _asked_inode(local_port, remote_port)
    if inode is None:
        inode = _listed_inode(local_port, remote_port)
    if not inode:
        return None
    wanted = f"socket:[{inode}]"
    for name, pid in pids.items():
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) == wanted:
                        return name
    return None


def _asked_inode(local_port: int, remote_port: int) -> int | None:
    """0 when the kernel does not know of such a socket, None when it is not to be asked."""
    identity = struct.pack(">HH", local_port, remote_port) + LOOPBACK + LOOPBACK
    identity += struct.pack("=III", 0, NO_COOKIE, NO_COOKIE)
    states = 0xFFFFFFFF
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, states) + identity
    size = HEADER.size + len(body)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.send(HEADER.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + body)
            answer = kernel.recv(4096)
    except OSError:
        return None
    if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return 0
    return int(struct.unpack_from("=I", answer, INODE_OFFSET)[0])


def _listed_inode(local_port: int, remote_port: int) -> int:
    local, remote = f":{local_port:04X}", f":{remote_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            return int(fields[9])
    return 0
