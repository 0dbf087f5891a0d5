"""The composition root: the one place that builds concrete things and wires them together."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections.abc import Callable
from typing import Any

from kvserver import failpoints
from kvserver.auth.passwords import hash_password
from kvserver.bootstrap import Recovered, defragment_if_worth_it, recover
from kvserver.clock import Clock, SystemClock
from kvserver.config import Config
from kvserver.core import Core, Surroundings
from kvserver.datadir import DataDir, prepare
from kvserver.founding import founding_of
from kvserver.fs import RealFileSystem
from kvserver.limits import LAST_WORDS_SECONDS, QUOTA_BYTES_WARN
from kvserver.listeners import Listeners
from kvserver.logs import Logger
from kvserver.peers.identity import Identity
from kvserver.peers.network import PeerNetwork
from kvserver.resolving import local_host
from kvserver.runtime.append_thread import AppendThread
from kvserver.runtime.flush_thread import FlushThread
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.failpoints_http import answer_failpoints
from kvserver.serving import Serving
from kvserver.systemd import notify_ready
from kvserver.transport import Server as Transport
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION

MEGABYTE = 1 << 20


class MemberServer:
    """One member of a cluster with everything around it. Owner: the loop."""

    def __init__(
        self,
        config: Config,
        log: Logger,
        loop: asyncio.AbstractEventLoop,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._log = log
        self._loop = loop
        self._clock = clock or SystemClock()
        self._fs = RealFileSystem(syncs=not config.unsafe_no_fsync)
        self._fatal: asyncio.Future[None] = loop.create_future()
        self._layout = DataDir.at(config.data_dir, config.wal_dir)
        self._lock = prepare(self._fs, self._layout, log)
        gc.disable()
        try:
            self._listeners = Listeners(config, self._clock, log)
            self._recovered = self._recover()
            self._build()
        except BaseException:
            gc.enable()
            self._lock.release()
            raise

    # -- building

    def _recover(self) -> Recovered:
        config = self._config
        if config.quota_bytes > QUOTA_BYTES_WARN:
            self._log.warn("quota exceeds the recommended maximum", quota_bytes=config.quota_bytes)
        founding = founding_of(config, self._listeners.dialling)
        recovered = recover(
            self._fs,
            self._layout.snap,
            self._layout.wal,
            founding,
            config.quota_bytes,
            self._log,
        )
        threshold = config.bootstrap_defrag_threshold_megabytes * MEGABYTE
        if threshold:
            defragment_if_worth_it(recovered.backend, threshold, self._log)
        return recovered

    def _build(self) -> None:
        loop = self._loop
        self._append = AppendThread(loop, self._clock, self._die)
        self._flush = FlushThread(loop, self._die)
        around = Surroundings(
            loop=loop,
            clock=self._clock,
            fs=self._fs,
            layout=self._layout,
            append=self._append,
            flush=self._flush,
            make_network=self._make_network,
            random=random.SystemRandom().randint,
            hash_password=hash_password,
            log=self._log,
        )
        self._core = Core(self._config, self._recovered, around)
        self._cluster = self._core.cluster
        self._serving = Serving(
            core=self._core,
            loop=loop,
            clock=self._clock,
            fs=self._fs,
            layout=self._layout,
            flush=self._flush,
            log=self._log,
        )

    def _make_network(
        self, identity: Identity, member: MemberLoop, on_removed: Callable[[], None]
    ) -> PeerNetwork:
        return PeerNetwork(
            loop=self._loop,
            clock=self._clock,
            identity=identity,
            tls=self._listeners.dialling,
            raft=member.mailbox,
            on_removed=on_removed,
            log=self._log,
            read_seconds_max=self._config.raft_read_timeout,
            write_seconds_max=self._config.raft_write_timeout,
            local_host=self._local_host(),
        )

    def _local_host(self) -> str:
        """With the gate SetMemberLocalAddr other members see us come from our advertised address
        (spec/config.md §2.8)."""
        if not self._config.has_feature("SetMemberLocalAddr"):
            return ""
        urls = self._config.initial_advertise_peer_urls
        host = local_host(urls)
        if host:
            self._log.info("setting member local address", local_addr=host)
        else:
            self._log.warn(
                "unable to set a member local address due to lack of suitable local addresses",
                advertise_peer_urls=urls,
            )
        return host

    # -- running

    async def start(self) -> None:
        """Returns when clients are served. Raises `FatalError` if that cannot be."""
        self._log.info(
            "starting an etcd server",
            etcd_version=SERVER_VERSION,
            keydeck_version=KEYDECK_VERSION,
            local_member_id=f"{self._recovered.member_id:x}",
            data_dir=self._config.data_dir,
        )
        self._loop.set_exception_handler(self._callback_failed)
        self._append.start()
        self._flush.start()
        await self._serve_failpoints()
        serving = self._serving
        if self._config.has_feature("InitialCorruptCheck") and self._recovered.applied_index:
            await serving.corruption.check_before_start()
        self._log.info("configuring peer listeners", listen_peer_urls=self._config.listen_peer_urls)
        await self._listeners.listen_to_peers(serving.peers)
        freeze_garbage()
        cluster = self._cluster
        self._core.start()
        serving.start()
        await asyncio.wait(
            (cluster.published, self._fatal, cluster.removed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._fatal.done():
            self._fatal.result()
        if cluster.removed.done():
            return
        self._log.info(
            "configuring client listeners", listen_client_urls=self._config.listen_client_urls
        )
        await self._listeners.listen_to_clients(serving.clients, serving.monitoring)
        self._log.info("ready to serve client requests")
        notify_ready(os.environ, self._log)

    async def _serve_failpoints(self) -> None:
        """Tests only: `GOFAIL_HTTP=host:port` opens the failpoint endpoint."""
        address = os.environ.get("GOFAIL_HTTP", "")
        failpoints.arm_from_variable(os.environ.get("GOFAIL_FAILPOINTS", ""))
        if address:
            self._failpoints = Transport((), answer_failpoints)
            host, _, port = address.rpartition(":")
            await self._failpoints.listen_tcp(host or "127.0.0.1", int(port), serve_grpc=False)

    async def wait(self) -> None:
        """Until something fatal happens, which is raised, or this member is removed."""
        await asyncio.wait(
            (self._fatal, self._cluster.removed), return_when=asyncio.FIRST_COMPLETED
        )
        if self._fatal.done():
            self._fatal.result()

    async def stop(self, grace_seconds: float = 1.0) -> None:
        """Take no more, answer what is open, make everything durable, let the disk go. The grace is
        for the hand-over and for what is open together: supervisors count from their signal."""
        ends_at = self._clock.monotonic() + grace_seconds
        serving = self._serving
        place = {"name": self._config.name, "data_dir": self._config.data_dir}
        self._log.info("closing etcd server", **place)
        if not self._fatal.done():
            await self._cluster.hand_over(grace_seconds)
        left = ends_at - self._clock.monotonic()
        await serving.clients.drain(max(left, min(grace_seconds, LAST_WORDS_SECONDS)))
        self._cluster.stop()
        serving.stop_peers()
        await serving.peers.drain(0)
        await serving.monitoring.drain(0)
        serving.stop()
        self._core.stop()
        if not self._fatal.done():
            durable = asyncio.Event()
            self._core.storage.when_durable(durable.set)
            waiting = self._loop.create_task(durable.wait())
            await asyncio.wait((waiting, self._fatal), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            await self._flush.close()
        self._append.stop()
        self._recovered.backend.close()
        self._recovered.wal.close()
        self._lock.release()
        self._log.info("closed etcd server", **place)

    def _die(self, error: BaseException) -> None:
        if not self._fatal.done():
            self._core.member.stop()
            self._fatal.set_exception(error)

    def _callback_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of the loop raised. A socket's trouble is its own; anything else may have left
        state half changed, and a member that guesses is worse than one that stops."""
        error = context.get("exception")
        if isinstance(error, OSError) or error is None or "transport" in context:
            self._log.warn(str(context.get("message", "event loop")), error=repr(error))
            return
        self._die(error)


def freeze_garbage() -> None:
    """What start-up built stays: full collections must not walk a million index entries
    (design D10). While it was built nothing was collected, for it is all there to stay."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1000)
