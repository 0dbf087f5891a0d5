"""Tells systemd that the member serves (sd_notify(3)); silent where nobody asked to be told."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from kvserver.logs import Logger

VARIABLE = "NOTIFY_SOCKET"
READY = b"READY=1"


def notify_ready(environment: Mapping[str, str], log: Logger) -> None:
    """A unit of Type=notify is started once it has heard this (spec/config.md §7)."""
    address = environment.get(VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.sendto(READY, address)
    except OSError as error:
        log.error("failed to notify systemd for readiness", error=os.strerror(error.errno or 0))
