"""What is measured, one function per figure; each drives one target once.

A measure is run several times on both targets in alternating order and its figures' medians are
compared. `Sample.values` are figures by their row's name; the unit and the better direction are in
`ROWS` of `bench.report`. Every measure proves that its calls did what they should: trailers are
checked by the connection, writes by the store's revision, reads by the size of the replies.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import h2load, requests
from bench.load import Result, Swarm, percentile
from bench.streams import fan_out, keep_alive
from bench.targets import Target
from kvserver.proto import rpc_pb2 as rpc


@dataclass(frozen=True, slots=True)
class Scale:
    """Counts of a run; `QUICK` is for a look, `FULL` for figures that are quoted."""

    rounds: int
    keys: int
    lone_puts: int
    puts: int
    gets: int
    ranges: int
    pages: int
    txns: int
    watch_puts: int
    keepalives: int
    old_revisions: int


QUICK = Scale(2, 100_000, 1_500, 30_000, 40_000, 500, 20, 20_000, 150, 50_000, 100_000)
FULL = Scale(4, 1_000_000, 5_000, 100_000, 100_000, 1_000, 24, 60_000, 400, 200_000, 300_000)
SMALL_KEYS = 10_000
"""Keys that single reads stride over."""


@dataclass
class Sample:
    """Figures of one run of one measure, by row name, and the generator's CPU share."""

    values: dict[str, float]
    generator_share: float = 0.0
    cpu_seconds_per_call: float = 0.0
    """Of the server; the figure that holds on a busy machine too. 0 where calls differ."""


@dataclass
class Run:
    """One bench run: its scale and what measures leave for one another, by target label."""

    scale: Scale
    next_key: dict[str, int] = field(default_factory=dict)

    def fresh_keys(self, target: Target, count: int) -> int:
        first = self.next_key.get(target.label, 0)
        self.next_key[target.label] = first + count
        return first


class Doubtful(AssertionError):
    """The calls were answered, but not with what they should have been."""


def _check_written(target: Target, before: int, count: int) -> None:
    written = target.revision() - before
    if written != count:
        raise Doubtful(f"{target.label}: {count} writes raised the revision by {written}")


def _check_read(target: Target, result: Result, reply_bytes: int) -> None:
    wanted = reply_bytes * result.calls * 0.97
    if result.data_bytes < wanted:
        raise Doubtful(f"{target.label}: {result.data_bytes} bytes read, {wanted:.0f} expected")


def _rate_sample(name: str, result: Result, cpu_before: float, target: Target) -> Sample:
    cpu = target.cpu_seconds() - cpu_before
    return Sample({name: result.rate}, result.generator_share, cpu / result.calls)


def put_alone(run: Run, target: Target) -> Sample:
    """1 connection x 1 stream: latency of a durable write."""
    count = run.scale.lone_puts
    before = target.revision()
    with Swarm(target.address, requests.PUT, 1) as swarm:
        swarm.prepare(requests.put_cycle(1000, count, b"/bench/lone/"))
        result = swarm.run_one_by_one()
    _check_written(target, before, count)
    return Sample(
        {
            "put 1x1": result.rate,
            "put latency p50": percentile(result.latencies, 0.50),
            "put latency p99": percentile(result.latencies, 0.99),
        },
        result.generator_share,
    )


def put_many(run: Run, target: Target) -> Sample:
    """100 connections x 10 streams, new keys."""
    count = run.scale.puts
    before = target.revision()
    first = run.fresh_keys(target, count)
    with Swarm(target.address, requests.PUT, 100) as swarm:
        swarm.prepare(requests.put_bodies(first, count, b"/bench/p/"))
        cpu = target.cpu_seconds()
        result = swarm.run(10)
    _check_written(target, before, count)
    return _rate_sample("put 100x10", result, cpu, target)


def txn_create(run: Run, target: Target) -> Sample:
    """100 x 10 transactions: compare that the key is absent, then put."""
    count = run.scale.txns
    before = target.revision()
    first = run.fresh_keys(target, count)
    with Swarm(target.address, requests.TXN, 100) as swarm:
        swarm.prepare(requests.create_bodies(first, count, b"/bench/t/"))
        cpu = target.cpu_seconds()
        result = swarm.run(10)
    _check_written(target, before, count)
    return _rate_sample("txn create 100x10", result, cpu, target)


def load_small(run: Run, target: Target) -> None:
    """The keys that the single reads and the 1000-key range read; once per target."""
    with Swarm(target.address, requests.PUT, 20) as swarm:
        swarm.prepare(requests.put_bodies(0, SMALL_KEYS))
        swarm.run(20)


def _get(name: str, *, serializable: bool, deadlines: bool) -> Callable[[Run, Target], Sample]:
    def measure(run: Run, target: Target) -> Sample:
        bodies = requests.get_bodies(SMALL_KEYS, run.scale.gets, serializable=serializable)
        one = target.kv.Range(rpc.RangeRequest.FromString(bodies[0]), timeout=30)
        if [kv.value for kv in one.kvs] != [requests.VALUE]:
            raise Doubtful(f"{target.label}: a read does not find what was put")
        if h2load.is_there() and not deadlines:
            cpu = target.cpu_seconds()
            result = h2load.run_fixed(
                target.address, requests.RANGE, bodies[0], len(bodies), connections=100, streams=10
            )
        else:
            with Swarm(target.address, requests.RANGE, 100, deadlines=deadlines) as swarm:
                swarm.prepare(bodies)
                cpu = target.cpu_seconds()
                result = swarm.run(10)
        _check_read(target, result, one.ByteSize() - 4)
        return _rate_sample(name, result, cpu, target)

    return measure


get_linearizable = _get("get linearizable", serializable=False, deadlines=False)
get_serializable = _get("get serializable", serializable=True, deadlines=False)
get_deadline = _get("get with deadline", serializable=False, deadlines=True)


def range_1000(run: Run, target: Target) -> Sample:
    """10 x 2 ranges of 1000 keys (about 300 kB each) out of 10 000."""
    count = run.scale.ranges
    starts = [i * 1000 % (SMALL_KEYS - 1000) for i in range(count)]
    bodies = requests.range_bodies(starts, 1000)
    one = target.kv.Range(rpc.RangeRequest.FromString(bodies[0]), timeout=30)
    if len(one.kvs) != 1000:
        raise Doubtful(f"{target.label}: {len(one.kvs)} keys in a range of 1000")
    with Swarm(target.address, requests.RANGE, 10) as swarm:
        swarm.prepare(bodies)
        cpu = target.cpu_seconds()
        result = swarm.run(2)
    _check_read(target, result, one.ByteSize())
    return _rate_sample("range of 1000 keys", result, cpu, target)


def lease_keepalive(run: Run, target: Target) -> Sample:
    """10 streams, 50 keep-alives outstanding on each, over 1000 leases."""
    for number in range(1, 1001):
        target.lease.LeaseGrant(rpc.LeaseGrantRequest(ID=number + 5_000_000, TTL=600), timeout=30)
    leases = [number + 5_000_000 for number in range(1, 1001)]
    cpu = target.cpu_seconds()
    try:
        result = keep_alive(target.address, leases, run.scale.keepalives, connections=10, window=50)
        sample = _rate_sample("lease keep-alives", result, cpu, target)
    finally:
        for lease in leases:
            target.lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease), timeout=30)
    return sample


def watch_fan_out(run: Run, target: Target) -> Sample:
    """1000 watchers on one key (10 connections x 10 streams x 10 watchers), put again and again."""
    cpu = target.cpu_seconds()
    result = fan_out(target.address, puts=run.scale.watch_puts, connections=10, streams=10, each=10)
    return _rate_sample("watch deliveries", result, cpu, target)


def million(run: Run, target: Target) -> Sample:
    """Load the large keyspace on a fresh member, then memory, pages and restart."""
    keys = run.scale.keys
    seconds = 0.0
    share = 0.0
    with Swarm(target.address, requests.PUT, 100) as swarm:
        for first in range(0, keys, 100_000):
            swarm.prepare(requests.put_bodies(first, min(100_000, keys - first), b"/bench/m/"))
            result = swarm.run(10)
            seconds += result.seconds
            share = max(share, result.generator_share)
    _check_written(target, 1, keys)
    memory = target.server.memory_bytes()
    values = {
        "load of the large keyspace": keys / seconds,
        "memory after load (RSS)": memory["VmRSS"],
        "memory after load (anonymous)": memory["RssAnon"],
        "page of 100": _pages(run, target),
    }
    target.stop()
    values["restart"] = target.start()
    if target.revision() != keys + 1:
        raise Doubtful(f"{target.label}: revision {target.revision()} after restart")
    values["memory after restart (RSS)"] = target.server.memory_bytes()["VmRSS"]
    return Sample(values, share)


def _pages(run: Run, target: Target) -> float:
    """Linearizable pages of 100 keys with the total count, two at a time; pages per second."""
    dice = random.Random(1)
    keys = run.scale.keys
    probe, rate = run.scale.pages, 0.0
    one = target.kv.Range(
        rpc.RangeRequest.FromString(requests.range_bodies([0], 100, b"/bench/m/")[0]), timeout=60
    )
    if len(one.kvs) != 100 or one.count != keys or not one.more:
        raise Doubtful(f"{target.label}: page of {len(one.kvs)}, count {one.count}")
    # A second, longer run when the first was over too soon to mean anything.
    for _ in range(2):
        starts = [dice.randrange(keys - 100) for _ in range(probe)]
        with Swarm(target.address, requests.RANGE, 2) as swarm:
            swarm.prepare(requests.range_bodies(starts, 100, b"/bench/m/"))
            result = swarm.run(1)
        _check_read(target, result, one.ByteSize() - 12)
        rate = result.rate
        if result.seconds > 1.0:
            break
        probe = int(rate * 2) + 1
    return rate


def compaction(run: Run, target: Target) -> Sample:
    """Compact many old revisions, then defragment; what lone puts feel meanwhile."""
    count = run.scale.old_revisions
    with Swarm(target.address, requests.PUT, 100) as swarm:
        swarm.prepare(requests.put_cycle(count // 10, count, b"/bench/c/"))
        swarm.run(10)
    spent: dict[str, float] = {}
    failures: list[BaseException] = []

    def maintain() -> None:
        try:
            began = time.perf_counter()
            target.compact(target.revision())
            spent["compaction"] = time.perf_counter() - began
            began = time.perf_counter()
            target.defragment()
            spent["defragmentation"] = time.perf_counter() - began
        except BaseException as failure:
            failures.append(failure)

    keeper = threading.Thread(target=maintain)
    with Swarm(target.address, requests.PUT, 1) as swarm:
        swarm.prepare(requests.put_cycle(1000, 200_000, b"/bench/lone/"))
        keeper.start()
        result = swarm.run_one_by_one(keeper.is_alive)
    keeper.join()
    if failures:
        raise failures[0]
    return Sample(
        {
            **spent,
            "put p99 meanwhile": percentile(result.latencies, 0.99),
            "put max meanwhile": max(result.latencies),
        },
        result.generator_share,
    )


@dataclass(frozen=True, slots=True)
class Measure:
    """A named measure. `fresh`: on members of its own, one run each; else on shared ones."""

    name: str
    measure: Callable[[Run, Target], Sample]
    fresh: bool = False


MEASURES = (
    Measure("put-alone", put_alone),
    Measure("get-linearizable", get_linearizable),
    Measure("get-serializable", get_serializable),
    Measure("get-deadline", get_deadline),
    Measure("range-1000", range_1000),
    Measure("put-many", put_many),
    Measure("txn", txn_create),
    Measure("watch", watch_fan_out),
    Measure("keepalive", lease_keepalive),
    Measure("million", million, fresh=True),
    Measure("compaction", compaction, fresh=True),
)
