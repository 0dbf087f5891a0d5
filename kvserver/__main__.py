"""The command `kvserver`: flags in, one member served until a signal, an exit code out
(spec/config.md §1, §7).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from kvserver.config import Config, load
from kvserver.datadir import DataDir
from kvserver.errors import KeydeckError
from kvserver.fs import RealFileSystem
from kvserver.logs import Logger
from kvserver.server import MemberServer
from kvserver.wal import has_segments

EXIT_FAILED = 1


def main() -> None:
    """Entry point. Exit codes: 0 after a signal, 1 on failure, 2 for flags that do not parse."""
    if not __debug__:
        sys.exit("kvserver: assertions are part of the server; start it without python -O")
    config, log = load(sys.argv[1:], os.environ)
    try:
        config = discovered(config, log)
    except (KeydeckError, OSError) as error:
        log.fatal("discovery failed", error=str(error))
        sys.exit(EXIT_FAILED)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(serve(config, log))
    log.close()
    sys.exit(code)


def discovered(config: Config, log: Logger) -> Config:
    """With the founding members that DNS or another cluster names, unless this member has been
    founded already (spec/cluster.md §8)."""
    if not (config.discovery_srv or config.discovery_endpoints):
        return config
    if has_segments(RealFileSystem(), DataDir.at(config.data_dir, config.wal_dir).wal):
        log.info("the member has been founded already; discovery is not asked")
        return config
    # Brings a gRPC client and a DNS client along, which no other member needs.
    from kvserver.discovery import discover

    return discover(config, log)


async def serve(config: Config, log: Logger) -> int:
    """Run one member until SIGTERM or SIGINT, or until it cannot go on."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server: MemberServer | None = None
    code = 0
    try:
        server = MemberServer(config, log, loop)
        await _until_stopped(server, stopping)
        log.info("received signal; shutting down")
    except (KeydeckError, OSError) as error:
        log.fatal(f"the member stops: {error}", error=type(error).__name__)
        code = EXIT_FAILED
    if server is not None:
        await server.stop()
    return code


async def _until_stopped(server: MemberServer, stopping: asyncio.Event) -> None:
    """Returns on a signal; raises what ended the member."""
    running = asyncio.ensure_future(_run(server))
    signalled = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((running, signalled), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if running.done():
        running.result()
    running.cancel()


async def _run(server: MemberServer) -> None:
    await server.start()
    await server.wait()


if __name__ == "__main__":
    main()
