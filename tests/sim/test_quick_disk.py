"""When a member writes its log on the loop (runtime/append_thread.py `run_here`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvserver.limits import APPEND_HERE_BYTES_MAX
from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.calls import StreamPipe
from tests.support.sim.machine import Process
from tests.support.sim.scripted import Scripted

WATCH = "/etcdserverpb.Watch/Watch"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    made = Scripted(quick_disk_chance=1.0)
    yield made
    made.close()


class Appends:
    """How many of a member's appends went which way."""

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = self.in_thread = 0
        append = process.append
        run_here, submit = append.run_here, append.submit

        def counted_here(job):  # type: ignore[no-untyped-def]
            took = run_here(job)
            self.here += took is not None
            return took

        def counted_submit(job, done):  # type: ignore[no-untyped-def]
            self.in_thread += 1
            submit(job, done)

        monkeypatch.setattr(append, "run_here", counted_here)
        monkeypatch.setattr(append, "submit", counted_submit)


def put(scripted: Scripted, size: int = 1, at: str = "") -> None:
    scripted.ask(at or scripted.leader.name, rpc.PutRequest(key=b"k", value=bytes(size)))
    scripted.run(0.5)  # everybody has it


def open_watch(scripted: Scripted, at: str) -> None:
    pipe = StreamPipe(
        scripted.fabric,
        scripted.cluster.loop,
        scripted.client.name,
        at,
        WATCH,
        lambda body: None,
        lambda reason: None,
    )
    watch = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"other"))
    pipe.send(watch.SerializeToString())
    scripted.run(0.1)


def test_everybody_for_a_lone_put(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    appends = [Appends(p, monkeypatch) for p in scripted.cluster.processes()]
    put(scripted)
    assert [one.here > 0 and one.in_thread == 0 for one in appends] == [True] * 3


def test_not_who_has_a_watcher(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, (busy, idle) = scripted.leader, scripted.followers
    appends = {p.name: Appends(p, monkeypatch) for p in scripted.cluster.processes()}
    open_watch(scripted, busy.name)
    open_watch(scripted, leader.name)
    put(scripted)
    for watched in (leader, busy):
        assert appends[watched.name].here == 0 and appends[watched.name].in_thread
    assert appends[idle.name].here and appends[idle.name].in_thread == 0


def test_not_while_a_follower_waits_for_its_clients_write(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, idle = scripted.followers
    appends = {p.name: Appends(p, monkeypatch) for p in scripted.cluster.processes()}
    put(scripted, at=asked.name)
    assert appends[asked.name].in_thread
    for other in (idle, scripted.leader):
        assert appends[other.name].here and appends[other.name].in_thread == 0


def test_not_a_long_append(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    appends = [Appends(p, monkeypatch) for p in scripted.cluster.processes()]
    put(scripted, APPEND_HERE_BYTES_MAX)
    assert [one.here == 0 and one.in_thread > 0 for one in appends] == [True] * 3
