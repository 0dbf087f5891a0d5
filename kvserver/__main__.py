"""The command `kvserver`: flags in, one member served until a signal, an exit code out
(spec/config.md §1, §7).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from kvserver.config import load
from kvserver.errors import KeydeckError
from kvserver.logs import Logger
from kvserver.server import MemberServer


def main() -> None:
    """Entry point. Exit codes: 0 after a signal, 1 on failure, 2 for flags that do not parse."""
    if not __debug__:
        sys.exit("kvserver: assertions are part of the server; start it without python -O")
    config, log = load(sys.argv[1:], os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(serve(config, log)))
