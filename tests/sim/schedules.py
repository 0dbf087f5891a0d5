"""Schedules in which nothing goes wrong unless the bug is planted that they are made for. Each
says whether it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from kvserver.raft import Message, MessageType
from tests.support.linearizability import check
from tests.support.sim.calls import StreamPipe
from tests.support.sim.machine import Process
from tests.support.sim.scripted import Scripted
from tests.support.sim.watching import WATCH
from tests.support.sim.world import Violation
from tests.support.watch_checks import StreamLog

READ = rpc.RangeRequest(key=b"k")


def put(value: bytes) -> rpc.PutRequest:
    return rpc.PutRequest(key=b"k", value=value)


def is_stale(scripted: Scripted) -> bool:
    cluster = scripted.cluster
    return not check(cluster.history.operations, events=cluster.witness.truth()).is_linearizable


def read_at_a_replaced_leader(scripted: Scripted) -> bool:
    """A leader whose clock is slow is cut off with one follower of four. It has answered a read
    before; the others elect another, which takes a write; then the old one is asked again (thesis
    §6.4)."""
    old = scripted.leader
    scripted.ask(old.name, put(b"old"))
    assert scripted.ask(old.name, READ).kvs[0].value == b"old"
    scripted.run(1.0)
    old.clock.set_rate(0.1)
    names = [process.name for process in scripted.followers]
    here, there = {old.name, names[0]}, set(names[1:])
    scripted.fabric.set_cut(
        {(a, b) for a in here | there for b in here | there if (a in here) != (b in here)}
    )
    scripted.until(lambda: scripted.leader is not old)
    scripted.ask(scripted.leader.name, put(b"new"))
    scripted.run(0.001)
    assert old.core.member.is_leader, "it has not noticed yet"
    scripted.ask(old.name, READ)
    return is_stale(scripted)


def read_at_a_leader_that_has_promised(scripted: Scripted) -> bool:
    """A write is passed on by a follower, which knows from the leader's disk and its own that it is
    committed, and says so to its client before the leader knows (kvserver/raft/commits.py)."""
    leader, by = scripted.leader, scripted.followers[0]
    scripted.ask(leader.name, put(b"old"))
    scripted.run(1.0)
    ask_where_a_promise_is_all_there_is(scripted, by, put(b"new"))
    scripted.ask(leader.name, READ)
    return is_stale(scripted)


def ask_where_a_promise_is_all_there_is(scripted: Scripted, by: Process, request: Any) -> Any:
    """Returns when `by` has answered: its leader does not hear that it has the entry, and the third
    member answers heartbeats but is slow to write."""
    leader = scripted.leader
    (third,) = [process for process in scripted.followers if process is not by]
    third.machine.fsync_seconds = 0.3
    node = leader.core.member.node
    before = node.last_index
    answered = scripted.begin(by.name, request)
    scripted.until(lambda: node.last_index > before)
    scripted.fabric.set_cut({(by.name, leader.name)})
    scripted.until(lambda: bool(answered), 0.2)
    assert node.committed == before < node.vouched
    scripted.run(0.001)
    return answered[0]


def read_at_a_new_leader(scripted: Scripted) -> bool:
    """A leader acknowledges a write and dies before the others hear that it is committed. The next
    one has it, does not know that either, and is asked before its own first entry is on its slow
    disk (thesis §6.4, spec/raft.md §7)."""
    old = scripted.leader
    scripted.ask(old.name, put(b"old"))
    scripted.run(1.0)
    for process in scripted.followers:
        scripted.fabric.slow[old.name, process.name] = 0.4
    scripted.ask(old.name, put(b"new"))
    assert {process.core.state.store.revision for process in scripted.followers} == {2}
    old.machine.crash()
    scripted.isolate(old.name)  # nor does anything arrive that is on its way
    scripted.until(lambda: bool(scripted.cluster.leader()))
    new = scripted.leader
    for process in scripted.cluster.processes():
        process.machine.fsync_seconds = 1.0
    scripted.ask(new.name, READ)
    return is_stale(scripted)


def renewal_at_a_leader_that_stood_still(scripted: Scripted) -> bool:
    """It stands still and is cut off while another is elected. When it goes on, a renewal is the
    first thing it sees, of a lease that has not ended by its own clock (spec/lease.md K7)."""
    old = scripted.leader
    granted = scripted.ask(old.name, rpc.LeaseGrantRequest(TTL=6))
    scripted.isolate(old.name)
    old.loop.pause()
    scripted.run(5.5)
    assert scripted.leader is not old
    asked = scripted.world.now
    renewed = scripted.renew(old.name, granted.ID)
    scripted.run(0.1)
    old.loop.resume()
    ended = scripted.cluster.witness.revoked
    scripted.until(lambda: granted.ID in ended)
    return any(ended[granted.ID] < asked + ttl for ttl in renewed if ttl > 0)


def progress_asked_right_after_a_watch(scripted: Scripted) -> bool:
    """Of a watcher that begins in the past: it has not caught up when it asks (watch.md W12)."""
    leader = scripted.leader
    for number in range(5):
        scripted.ask(leader.name, put(b"%d" % number))
    log, pipe = watch(scripted)
    leader.loop.pause()  # so that both requests are there when it reads
    create_watcher(log, pipe, 2)
    progress = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
    pipe.send(progress.SerializeToString())
    scripted.run(0.1)
    leader.loop.resume()
    scripted.run(1.0)
    assert [len(watcher.events) for watcher in log.watchers] == [5]
    return bool(log.check(scripted.cluster.witness.truth()))


def watch_from_a_tombstone_at_the_compact_revision(scripted: Scripted) -> bool:
    """Whoever begins there still hears of the deletion (spec/watch.md D5)."""
    target = scripted.leader.name
    scripted.ask(target, put(b"1"))
    deleted = scripted.ask(target, rpc.DeleteRangeRequest(key=b"k"))
    revision = deleted.header.revision
    scripted.ask(target, rpc.CompactionRequest(revision=revision, physical=True))
    log, pipe = watch(scripted)
    create_watcher(log, pipe, revision)
    scripted.run(1.0)
    return bool(log.check(scripted.cluster.witness.truth(), complete_to=revision))


def watch(scripted: Scripted) -> tuple[StreamLog, StreamPipe]:
    """A stream at the leader, without a watcher yet, and what it answers."""
    log = StreamLog()
    pipe = StreamPipe(
        scripted.fabric,
        scripted.cluster.loop,
        scripted.client.name,
        scripted.leader.name,
        WATCH,
        lambda body: log.add(rpc.WatchResponse.FromString(body)),
        lambda reason: None,
    )
    scripted.run(0.1)
    return log, pipe


def create_watcher(log: StreamLog, pipe: StreamPipe, start_revision: int) -> None:
    create = rpc.WatchCreateRequest(key=b"k", start_revision=start_revision)
    log.asked(create)
    pipe.send(rpc.WatchRequest(create_request=create).SerializeToString())


def database_of_a_removed_member(scripted: Scripted) -> bool:
    """A leader is cut off and removed, and has not heard of it when it sends its database to one of
    those that stay."""
    old, receiver = scripted.leader, scripted.followers[0]
    scripted.isolate(old.name)
    scripted.until(lambda: scripted.leader is not old)
    scripted.run(6.0)  # strict checks want links that have been up for a while
    remove = rpc.MemberRemoveRequest(ID=old.member_id)
    scripted.ask(scripted.leader.name, remove)
    scripted.until(lambda: receiver.core.state.membership.is_removed(old.member_id))
    scripted.heal()
    send_database(old, receiver)
    ended = scripted.cluster.witness.transfers.ended
    try:
        scripted.until(lambda: old.machine.is_removed or bool(ended))
    except Violation:
        return True
    return ended[True] > 0


def database_of_a_sender_without_power(scripted: Scripted) -> bool:
    """It loses power in the middle, and nobody tells the receiver, which has to take the next
    database all the same."""
    old, (receiver, other, *_) = scripted.leader, scripted.followers
    scripted.ask(old.name, rpc.PutRequest(key=b"k", value=bytes(1_000_000)))
    send_database(old, receiver)
    scripted.until(lambda: has_received(receiver, "image"))
    scripted.fabric.farewell_chance = 0.0
    old.machine.crash()
    scripted.run(receiver.machine.settings.transfer_limits.stall_seconds + 1.0)
    send_database(other, receiver)
    ended = scripted.cluster.witness.transfers.ended
    scripted.until(lambda: bool(ended))
    return not ended[True]


def database_of_a_sender_that_dies_during_a_flush(scripted: Scripted) -> bool:
    """Its connection is gone while the flush thread writes what has come."""
    old, receiver = scripted.leader, scripted.followers[0]
    for key in (b"1", b"2", b"3", b"4"):  # more than fits between the two
        scripted.ask(old.name, rpc.PutRequest(key=key, value=bytes(400_000)))
    receiver.machine.fsync_seconds = 0.2
    send_database(old, receiver)
    scripted.until(lambda: has_received(receiver, "0"))  # the backend
    scripted.until(lambda: receiver.flush.is_busy)
    scripted.fabric.farewell_chance = 1.0
    old.machine.crash()
    try:
        scripted.until(lambda: not has_received(receiver))
    except Violation:
        return True
    return receiver.machine.process is not receiver


def send_database(sender: Process, receiver: Process) -> None:
    """Unasked: the sender only takes the occasion."""
    message = Message(
        MessageType.SNAPSHOT,
        to=receiver.member_id,
        from_=sender.member_id,
        term=sender.core.member.node.term,
    )
    sender.network.send((message,))


def has_received(receiver: Process, what: str = "") -> bool:
    """Whether there are files of a database that is on its way."""
    directories = receiver.machine.disk.fs.directories.values()
    return any(name.startswith(f"tmp-received-{what}") for d in directories for name in d.live)


SIZES = {"read at a leader that has promised": 3}
"""Of their clusters, where it is not 5."""

SCHEDULES: dict[str, Callable[[Scripted], bool]] = {
    "read at a replaced leader": read_at_a_replaced_leader,
    "read at a new leader": read_at_a_new_leader,
    "read at a leader that has promised": read_at_a_leader_that_has_promised,
    "renewal at a leader that stood still": renewal_at_a_leader_that_stood_still,
    "progress asked right after a watch": progress_asked_right_after_a_watch,
    "watch from a tombstone at the compact revision": (
        watch_from_a_tombstone_at_the_compact_revision
    ),
    "database of a removed member": database_of_a_removed_member,
    "database of a sender that dies during a flush": database_of_a_sender_that_dies_during_a_flush,
    "database of a sender without power": database_of_a_sender_without_power,
}
