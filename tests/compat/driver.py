"""Runs operations on one member, in a process of its own, so that two members are driven at once.

An operation is a plain tuple (it crosses a pipe):

    ("call", path, request bytes)              -> (code, details, reply bytes)
    ("keepalive", lease id)                    -> (code, details, reply bytes)
    ("watch", stream, request bytes, answered) -> None; waits for the next control response of the
                                                  stream when `answered`
    ("cancel", stream, request bytes)             -> None; ends a live watcher that has shown all
                                                  that was written before
    ("settle",)                                -> revision; every watcher has caught up afterwards
    ("progress", stream)                          -> reply bytes of the manual progress response
    ("logs",)                                     -> all watch responses so far, by stream
    ("forget", stream)                            -> None; the stream is dropped with its log

The driver knows nothing of what is right: it records. Watch responses are collected per stream and
handed out on request ("logs").
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.unary import BODY_BYTES_MAX, UnaryConnection

KV = "/etcdserverpb.KV/"
LEASE = "/etcdserverpb.Lease/"
MAINTENANCE = "/etcdserverpb.Maintenance/"
WATCH = "/etcdserverpb.Watch/Watch"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
SENTINEL = b"\x7f/sentinel"
"""Written at each settling; sorts behind the keys of `operations`."""
SENTINEL_WATCH_ID = 1 << 40
BARRIER = b"\x7f/barrier"
BARRIER_WATCH_ID = SENTINEL_WATCH_ID + 1
"""Watched on every stream: its event comes behind those of everything written before."""
OWN_WATCH_IDS = (SENTINEL_WATCH_ID, BARRIER_WATCH_ID)
CALL_SECONDS_MAX = 120.0
UNAVAILABLE = 14
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_END = object()


class BidiStream:
    """A bidirectional call: requests from one thread, replies collected by a reader."""

    def __init__(self, channel: grpc.Channel, path: str) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.replies: list[bytes] = []
        self._changed = threading.Condition()
        self.ended: tuple[int, str] | None = None
        self._call = channel.stream_stream(path)(self._outgoing())
        threading.Thread(target=self._read, daemon=True).start()

    def _outgoing(self) -> Iterator[bytes]:
        while (item := self._requests.get()) is not _END:
            yield item

    def _read(self) -> None:
        try:
            for reply in self._call:
                with self._changed:
                    self.replies.append(reply)
                    self._changed.notify_all()
            ended = (0, "")
        except grpc.RpcError as error:
            ended = (error.code().value[0], str(error.details()))
        with self._changed:
            self.ended = ended
            self._changed.notify_all()

    def send(self, request: bytes) -> None:
        self._requests.put(request)

    def wait_for(self, condition: Any, what: str) -> Any:
        """Block until `condition(replies)` is true or the stream ends; returns its value."""
        with self._changed:
            value = self._changed.wait_for(
                lambda: condition(self.replies) or self.ended is not None, CALL_SECONDS_MAX
            )
            value = condition(self.replies)
            if not value and self.ended is None:
                raise TimeoutError(f"no {what} within {CALL_SECONDS_MAX} s")
            return value

    def close(self) -> None:
        self._call.cancel()
        self._requests.put(_END)


class WatchLog(BidiStream):
    """One watch stream; counts control responses apart from events."""

    def __init__(self, channel: grpc.Channel) -> None:
        super().__init__(channel, WATCH)
        self._seen = 0
        self._controls = 0
        self._settling_from = 0
        create = rpc.WatchCreateRequest(key=BARRIER, watch_id=BARRIER_WATCH_ID)
        self.request(rpc.WatchRequest(create_request=create).SerializeToString(), answered=True)

    def controls(self, replies: list[bytes]) -> int:
        for reply in replies[self._seen :]:
            response = rpc.WatchResponse.FromString(reply)
            if response.created or (response.canceled and not response.compact_revision):
                self._controls += 1
        self._seen = len(replies)
        return self._controls

    def request(self, request: bytes, *, answered: bool) -> None:
        with self._changed:
            before = self.controls(self.replies)
        self.send(request)
        if answered:
            self.wait_for(lambda replies: self.controls(replies) > before, "watch answer")

    def wait_for_barrier(self, start: int, revision: int) -> None:
        """Until the event of that write is among the replies from `start` on."""

        def is_there(replies: list[bytes]) -> bool:
            responses = map(rpc.WatchResponse.FromString, replies[start:])
            return any(
                event.kv.mod_revision == revision
                for response in responses
                if response.watch_id == BARRIER_WATCH_ID
                for event in response.events
            )

        self.wait_for(is_there, "barrier's event")

    def begin_settling(self, revision: int) -> None:
        """Ask for the sentinel's event; see `finish_settling`."""
        create = rpc.WatchCreateRequest(
            key=SENTINEL, start_revision=revision, watch_id=SENTINEL_WATCH_ID
        )
        self._settling_from = len(self.replies)
        self.send(rpc.WatchRequest(create_request=create).SerializeToString())

    def finish_settling(self) -> None:
        """Return when every watcher created before the sentinel's has caught up.

        etcd brings all lagging watchers forward together, so a late watcher's history having been
        delivered shows that those before it are synchronised.
        """
        start = self._settling_from

        def own(replies: list[bytes]) -> list[rpc.WatchResponse]:
            responses = map(rpc.WatchResponse.FromString, replies[start:])
            return [r for r in responses if r.watch_id == SENTINEL_WATCH_ID]

        self.wait_for(lambda replies: any(r.events for r in own(replies)), "sentinel event")
        cancel = rpc.WatchCancelRequest(watch_id=SENTINEL_WATCH_ID)
        self.send(rpc.WatchRequest(cancel_request=cancel).SerializeToString())
        self.wait_for(lambda replies: any(r.canceled for r in own(replies)), "sentinel cancel")

    def progress(self) -> bytes:
        start = len(self.replies)
        ask = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
        self.send(ask.SerializeToString())

        def found(replies: list[bytes]) -> bytes | None:
            for reply in replies[start:]:
                if rpc.WatchResponse.FromString(reply).watch_id == -1:
                    return reply
            return None

        return bytes(self.wait_for(found, "progress response"))


class Driver:
    """All calls, streams and logs of one member."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        self._calls: dict[str, Any] = {}
        self._plain: UnaryConnection | None = None
        self._watches: dict[int, WatchLog] = {}
        self._keep_alive: BidiStream | None = None

    def run(self, operations: list[tuple[Any, ...]]) -> list[Any]:
        return [getattr(self, f"do_{name}")(*rest) for name, *rest in operations]

    def do_call(self, path: str, request: bytes) -> tuple[int, str, bytes]:
        if len(request) > BODY_BYTES_MAX:
            return self._large_call(path, request)
        try:
            if self._plain is None:
                self._plain = UnaryConnection(self._endpoint, CALL_SECONDS_MAX)
            return self._plain.call(path, request)
        except OSError as error:
            self._drop_plain()
            return (UNAVAILABLE, str(error), b"")

    def _drop_plain(self) -> None:
        if self._plain is not None:
            self._plain.close()
            self._plain = None

    def _large_call(self, path: str, request: bytes) -> tuple[int, str, bytes]:
        call = self._calls.get(path)
        if call is None:
            call = self._calls[path] = self._channel.unary_unary(path)
        try:
            return (0, "", call(request, timeout=CALL_SECONDS_MAX))
        except grpc.RpcError as error:
            return (error.code().value[0], str(error.details()), b"")

    def do_keepalive(self, lease: int) -> tuple[int, str, bytes]:
        stream = self._keep_alive
        if stream is None or stream.ended is not None:
            stream = self._keep_alive = BidiStream(self._channel, KEEP_ALIVE)
        before = len(stream.replies)
        stream.send(rpc.LeaseKeepAliveRequest(ID=lease).SerializeToString())
        stream.wait_for(lambda replies: len(replies) > before, "keep-alive answer")
        if stream.ended is not None:
            return (*stream.ended, b"")
        return (0, "", stream.replies[before])

    def _watch(self, stream: int) -> WatchLog:
        if stream not in self._watches:
            self._watches[stream] = WatchLog(self._channel)
        return self._watches[stream]

    def do_watch(self, stream: int, request: bytes, answered: bool) -> None:
        self._watch(stream).request(request, answered=answered)

    def do_cancel(self, stream: int, request: bytes) -> None:
        """etcd forgets what it has ready for a watcher when the watcher's end overtakes it on the
        way out; so the events of what was written before come first."""
        watch = self._watch(stream)
        start = len(watch.replies)
        watch.wait_for_barrier(start, self._write(BARRIER))
        watch.request(request, answered=True)

    def _write(self, key: bytes) -> int:
        put = rpc.PutRequest(key=key)
        code, details, reply = self.do_call(KV + "Put", put.SerializeToString())
        if code:
            raise AssertionError(f"{key!r} not written: {details}")
        return int(rpc.PutResponse.FromString(reply).header.revision)

    def do_settle(self) -> int:
        revision = self._write(SENTINEL)
        for watch in self._watches.values():
            watch.begin_settling(revision)
        for watch in self._watches.values():
            watch.finish_settling()
        return revision

    def do_progress(self, stream: int) -> bytes:
        return self._watch(stream).progress()

    def do_forget(self, stream: int) -> None:
        """Drop a stream and its log."""
        watch = self._watches.pop(stream, None)
        if watch is not None:
            watch.close()

    def do_logs(self) -> dict[int, tuple[list[bytes], tuple[int, str] | None]]:
        return {n: (list(watch.replies), watch.ended) for n, watch in self._watches.items()}

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        if self._keep_alive is not None:
            self._keep_alive.close()
        self._drop_plain()
        self._channel.close()


def _serve(pipe: Connection, endpoint: str) -> None:
    driver = Driver(endpoint)
    while (operations := pipe.recv()) is not None:
        try:
            pipe.send(("ok", driver.run(operations)))
        except Exception as failure:
            pipe.send(("failed", f"{type(failure).__name__}: {failure}"))
    driver.close()


class DriverProcess:
    """A `Driver` in a child process; `submit` and `collect` apart let two of them work at once."""

    def __init__(self, endpoint: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, endpoint), daemon=True)
        self._process.start()
        child.close()

    def submit(self, operations: list[tuple[Any, ...]]) -> None:
        self._pipe.send(operations)

    def collect(self) -> list[Any]:
        outcome, value = self._pipe.recv()
        if outcome != "ok":
            raise AssertionError(value)
        return list(value)

    def run(self, operations: list[tuple[Any, ...]]) -> list[Any]:
        self.submit(operations)
        return self.collect()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(60)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()
