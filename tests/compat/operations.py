"""Random operation sequences from a seed.

The keyspace is tiny, so that operations meet; revisions are drawn from just outside what is
readable to just beyond the newest; about one request in ten is invalid on purpose. What one
release answers with a crash (spec/kv.md R1) or by chance (short leases, order of lists) is not
asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.driver import KV, LEASE, MAINTENANCE

ALPHABET = [b"a", b"b", b"c", b"\x00", b"\x7e", b"/", b"A"]
STREAMS = 3
LEASE_TTL_SECONDS = 36_000
SHORT_LEASE = 1000
"""The id of leases that would expire during a run: revoked as soon as they are granted."""
WATCHERS_PER_STREAM_MAX = 12
Operation = tuple[Any, ...]


def requests_of(txn: rpc.TxnRequest, kind: str) -> Iterator[Any]:
    """All requests of one kind in a transaction, at any depth, of both branches."""
    for op in (*txn.success, *txn.failure):
        if op.HasField(kind):
            yield getattr(op, kind)
        if op.HasField("request_txn"):
            yield from requests_of(op.request_txn, kind)


def _avoid_panic(txn: rpc.TxnRequest) -> None:
    """Take out what makes an etcd panic at apply, and again at every start.

    A delete to the end of the keyspace is not seen to overlap a put (spec/kv.md T4); when it takes
    the key away from a put that keeps the key's value or lease, the put fails in mid-transaction.
    `tests/e2e` asks Keydeck the same and expects it to live.
    """
    if any(delete.range_end == b"\x00" for delete in requests_of(txn, "request_delete_range")):
        for put in requests_of(txn, "request_put"):
            put.ignore_value = put.ignore_lease = False


@dataclass
class World:
    """What the generator believes of the store; wrong guesses only make other valid requests."""

    revision: int = 1
    compacted: int = -1
    leases: set[int] = field(default_factory=set)
    watches: dict[int, set[int]] = field(default_factory=dict)
    next_auto_id: dict[int, int] = field(default_factory=dict)
    future_watch: set[int] = field(default_factory=set)
    starts: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """(stream, watch id) -> (start revision, compact revision when it was created)."""
    unsettled: set[tuple[int, int]] = field(default_factory=set)
    """Watchers that may still be replaying history."""
    alarms: set[tuple[int, int]] = field(default_factory=set)
    """Raised at the moment, as (member id, type)."""
    compactions: list[int] = field(default_factory=list)
    is_compacting: bool = False
    """A compaction was answered before its removals were done."""
    restarted: bool = False


class Generator:
    """Invents operations; one seed is one sequence as long as the store answers alike."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World()
        self._kinds = {
            self.put: 26,
            self.delete: 7,
            self.range: 30,
            self.txn: 20,
            self.hash_kv: 2,
            self.grant: 2,
            self.revoke: 1.5,
            self.time_to_live: 2,
            self.leases: 1,
            self.keep_alive: 2,
            self.watch_create: 1.2,
            self.watch_cancel: 0.8,
            self.alarm: 0.4,
        }

    def batch(self, count: int) -> list[Operation]:
        """`count` operations that need no answer in between."""
        kinds, weights = list(self._kinds), list(self._kinds.values())
        made: list[Operation] = []
        while len(made) < count:
            made.extend(self.dice.choices(kinds, weights)[0]())
        return made

    # Ingredients

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def key(self, *, empty: float = 0.02) -> bytes:
        if self.chance(empty):
            return b""
        length = self.dice.choice((1, 1, 2, 2, 2, 3))
        return b"".join(self.dice.choices(ALPHABET, k=length))

    def interval(self, *, empty: float = 0.02) -> tuple[bytes, bytes]:
        """A key and a range end: single key, proper, empty and inverted intervals, open ends."""
        key = self.key(empty=empty)
        shape = self.dice.random()
        if shape < 0.4:
            return key, b""
        if shape < 0.55 and key:
            return key, key[:-1] + bytes([min(key[-1] + 1, 255)])
        if shape < 0.65:
            return key, b"\x00"
        if shape < 0.75:
            return b"\x00", b"\x00"
        return key, self.key(empty=0)

    def revision(self) -> int:
        world = self.world
        if self.chance(0.08):
            return self.dice.choice((-3, -1, 1, world.compacted, world.revision + 100))
        low = max(world.compacted - 1, 1)
        return self.dice.randint(low, max(low, world.revision))

    def lease(self) -> int:
        if self.world.leases and self.chance(0.9):
            return self.dice.choice(sorted(self.world.leases))
        return self.dice.choice((7_777_777, -12, 3))

    # Requests

    def put_request(self) -> rpc.PutRequest:
        request = rpc.PutRequest(key=self.key(), prev_kv=self.chance(0.3))
        if self.chance(0.12):
            request.ignore_value = True
        if not request.ignore_value or self.chance(0.1):
            request.value = self.dice.randbytes(self.dice.choice((0, 1, 3, 3, 20)))
        if self.chance(0.12):
            request.ignore_lease = True
        if (not request.ignore_lease and self.chance(0.25)) or self.chance(0.02):
            request.lease = self.lease()
        return request

    def delete_request(self) -> rpc.DeleteRangeRequest:
        key, end = self.interval()
        if self.chance(0.6):
            end = b""
        return rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.chance(0.4))

    def range_request(self, *, in_txn: bool = False) -> rpc.RangeRequest:
        key, end = self.interval()
        request = rpc.RangeRequest(key=key, range_end=end, serializable=self.chance(0.3))
        if self.chance(0.3):
            request.limit = self.dice.choice((-1, 1, 1, 2, 3, 5, 100))
        if self.chance(0.08 if in_txn else 0.3):
            request.revision = self.revision()
        if self.chance(0.5):
            request.sort_order = self.dice.randint(0, 2)
            request.sort_target = self.dice.randint(0, 4)
        request.keys_only = self.chance(0.12)
        request.count_only = self.chance(0.08)
        if self.chance(0.25):
            name = self.dice.choice(("min_mod", "max_mod", "min_create", "max_create"))
            setattr(request, f"{name}_revision", self.revision())
        if self.chance(0.1):
            request.max_mod_revision = self.revision()
        return request

    def compare(self) -> rpc.Compare:
        key, end = self.interval()
        compare = rpc.Compare(
            key=key,
            range_end=end if self.chance(0.4) else b"",
            result=self.dice.randint(0, 3),
            target=self.dice.randint(0, 4),
        )
        target = compare.target if self.chance(0.95) else self.dice.randint(0, 4)
        if self.chance(0.03):
            return compare
        if target == rpc.Compare.VALUE:
            compare.value = self.dice.randbytes(self.dice.choice((0, 1, 3)))
        elif target == rpc.Compare.VERSION:
            compare.version = self.dice.choice((0, 0, 1, 2, 3))
        elif target == rpc.Compare.CREATE:
            compare.create_revision = self.dice.choice((0, self.revision()))
        elif target == rpc.Compare.MOD:
            compare.mod_revision = self.dice.choice((0, self.revision()))
        else:
            compare.lease = self.dice.choice((0, self.lease()))
        return compare

    def request_op(self, depth: int) -> rpc.RequestOp:
        kind = self.dice.random()
        if kind < 0.01:
            return rpc.RequestOp()
        if kind < 0.4:
            return rpc.RequestOp(request_put=self.put_request())
        if kind < 0.55:
            return rpc.RequestOp(request_delete_range=self.delete_request())
        if kind < 0.85 or depth == 0:
            return rpc.RequestOp(request_range=self.range_request(in_txn=True))
        return rpc.RequestOp(request_txn=self.txn_request(depth - 1))

    def txn_request(self, depth: int = 2) -> rpc.TxnRequest:
        few = (0, 0, 1, 1, 2, 3)
        return rpc.TxnRequest(
            compare=[self.compare() for _ in range(self.dice.choice((0, 0, 1, 1, 2)))],
            success=[self.request_op(depth) for _ in range(self.dice.choice(few))],
            failure=[self.request_op(depth) for _ in range(self.dice.choice(few))],
        )

    # Operations

    def put(self) -> Iterator[Operation]:
        yield ("call", KV + "Put", self.put_request().SerializeToString())

    def delete(self) -> Iterator[Operation]:
        yield ("call", KV + "DeleteRange", self.delete_request().SerializeToString())

    def range(self) -> Iterator[Operation]:
        yield ("call", KV + "Range", self.range_request().SerializeToString())

    def txn(self) -> Iterator[Operation]:
        request = self.txn_request()
        # A nested put's cost is free in old releases (spec/kv.md L4), so under NOSPACE it would be
        # written on one side only.
        if self.world.alarms:
            request = self.txn_request(depth=0)
        _avoid_panic(request)
        yield ("call", KV + "Txn", request.SerializeToString())

    def hash_kv(self) -> Iterator[Operation]:
        revision = self.dice.choice((0, 0, self.revision(), self.revision()))
        request = rpc.HashKVRequest(revision=revision)
        yield from self.await_compaction()
        yield ("call", MAINTENANCE + "HashKV", request.SerializeToString())

    def await_compaction(self) -> Iterator[Operation]:
        """Old releases hash differently while records are being removed: let that be over.

        A refused physical compaction waits for the one before it (spec/kv.md Z4).
        """
        if self.world.is_compacting:
            self.world.is_compacting = False
            again = rpc.CompactionRequest(revision=self.world.compacted, physical=True)
            yield ("call", KV + "Compact", again.SerializeToString())

    def grant(self) -> Iterator[Operation]:
        lease = self.dice.choice((self.dice.randint(1, 40), -self.dice.randint(1, 5)))
        ttl = LEASE_TTL_SECONDS
        kind = self.dice.random()
        if kind < 0.1:
            ttl = self.dice.choice((9_000_000_000, 9_000_000_001))
        short = kind > 0.9
        if short:
            # It would expire by the clock of each member: it is revoked before that can happen.
            lease, ttl = SHORT_LEASE, self.dice.choice((0, 1, 2, -5))
        grant = rpc.LeaseGrantRequest(ID=lease, TTL=ttl)
        yield ("call", LEASE + "LeaseGrant", grant.SerializeToString())
        if short:
            revoke = rpc.LeaseRevokeRequest(ID=lease)
            yield ("call", LEASE + "LeaseRevoke", revoke.SerializeToString())
        else:
            self.world.leases.add(lease)

    def revoke(self) -> Iterator[Operation]:
        lease = self.lease()
        self.world.leases.discard(lease)
        request = rpc.LeaseRevokeRequest(ID=lease)
        yield ("call", LEASE + "LeaseRevoke", request.SerializeToString())

    def time_to_live(self) -> Iterator[Operation]:
        request = rpc.LeaseTimeToLiveRequest(ID=self.lease(), keys=self.chance(0.7))
        yield ("call", LEASE + "LeaseTimeToLive", request.SerializeToString())

    def leases(self) -> Iterator[Operation]:
        yield ("call", LEASE + "LeaseLeases", b"")

    def keep_alive(self) -> Iterator[Operation]:
        yield ("keepalive", self.lease())

    def alarm(self) -> Iterator[Operation]:
        """Questions about alarms, or one raised over the next few requests."""
        member = self.dice.choice((5, 6))
        kind = self.dice.choice((rpc.NOSPACE, rpc.NOSPACE, rpc.CORRUPT))
        if self.chance(0.5) or self.world.alarms:
            yield self._alarm(self.dice.choice((0, 0, 2)), member, kind)
            yield self._alarm(0, 0, self.dice.choice((rpc.NONE, rpc.NOSPACE)))
            return
        self.world.alarms.add((member, kind))
        yield self._alarm(1, member, kind)
        for _ in range(self.dice.randint(1, 12)):
            kinds = (self.put, self.delete, self.range, self.txn, self.grant, self.keep_alive)
            yield from self.dice.choice(kinds)()
        yield self._alarm(2, member, kind)
        self.world.alarms.clear()

    def _alarm(self, action: int, member: int, kind: int) -> Operation:
        request = rpc.AlarmRequest(action=action, memberID=member, alarm=kind)
        return ("call", MAINTENANCE + "Alarm", request.SerializeToString())

    def compaction(self) -> Operation:
        """One compaction; only between settlings, so that it meets no lagging watcher."""
        world = self.world
        revision = self.dice.choice(
            (
                self.dice.randint(max(world.compacted, 0), world.revision),
                max(world.revision - self.dice.randint(0, 50), 0),
                world.compacted,
                world.revision + 5,
            )
        )
        if world.compacted < revision <= world.revision:
            world.compacted = revision
            world.compactions.append(revision)
            world.is_compacting = True
        request = rpc.CompactionRequest(revision=revision, physical=self.chance(0.6))
        return ("call", KV + "Compact", request.SerializeToString())

    # Watches

    def watch_create(self) -> Iterator[Operation]:
        stream = self.dice.randrange(STREAMS)
        live = self.world.watches.setdefault(stream, set())
        if len(live) >= WATCHERS_PER_STREAM_MAX:
            yield from self.watch_cancel()
            return
        key, end = self.interval(empty=0.03)
        create = rpc.WatchCreateRequest(key=key, range_end=end, prev_kv=self.chance(0.4))
        create.filters.extend(self.dice.choice(((), (), (), (0,), (1,), (0, 1), (1, 1))))
        create.fragment = self.chance(0.2)
        create.progress_notify = self.chance(0.2)
        if self.chance(0.25):
            create.watch_id = self.dice.choice((3, 50, 51, -5))
        start = self._start_revision(stream)
        create.start_revision = start
        self._remember(stream, create, start)
        yield ("watch", stream, rpc.WatchRequest(create_request=create).SerializeToString(), True)

    def _start_revision(self, stream: int) -> int:
        world = self.world
        if self.chance(0.4):
            return 0
        if self.chance(0.1):
            self.world.future_watch.add(stream)
            return world.revision + self.dice.randint(200, 400)
        low = max(world.compacted - 2, 1)
        return self.dice.randint(low, max(low, world.revision))

    def _remember(self, stream: int, create: rpc.WatchCreateRequest, start: int) -> None:
        """Follow the rules for watch ids (spec/watch.md W3), only to cancel what exists."""
        live = self.world.watches[stream]
        key, end = create.key or b"\x00", create.range_end
        if end not in (b"", b"\x00") and key >= end:
            return
        watch_id = create.watch_id
        if watch_id == 0:
            watch_id = self.world.next_auto_id.get(stream, 0)
            while watch_id in live:
                watch_id += 1
            self.world.next_auto_id[stream] = watch_id + 1
        elif watch_id in live:
            return
        live.add(watch_id)
        self.world.starts[stream, watch_id] = (start, self.world.compacted)
        self.world.unsettled.add((stream, watch_id))

    def watch_cancel(self) -> Iterator[Operation]:
        stream = self.dice.randrange(STREAMS)
        live = sorted(self.world.watches.get(stream, ()))
        # One cancelled by compaction keeps its id or does not (spec/watch.md W10): it is let be.
        # One that is replaying may have sent some of its history, or none: so is that one.
        live = [
            w
            for w in live
            if not self.was_compacted(stream, w) and (stream, w) not in self.world.unsettled
        ]
        # Under an alarm nothing can be written that would show how far the stream has come.
        is_real = bool(live) and self.chance(0.9) and not self.world.alarms
        watch_id = self.dice.choice(live) if is_real else 999
        cancel = rpc.WatchCancelRequest(watch_id=watch_id)
        request = rpc.WatchRequest(cancel_request=cancel).SerializeToString()
        if is_real:
            self.world.watches[stream].discard(watch_id)
            yield ("cancel", stream, request)
        else:
            yield ("watch", stream, request, False)

    def was_compacted(self, stream: int, watch_id: int) -> bool:
        """Whether the watcher asked for less than there was and so was cancelled at once."""
        start, compacted = self.world.starts[stream, watch_id]
        return 0 < start < compacted
