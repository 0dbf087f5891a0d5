"""Events, filters, prev_kv (spec/watch.md §2, §3, §9)."""

from __future__ import annotations

from kvserver.proto import kv_pb2, rpc_pb2
from tests.watch.conftest import Bench

PUT, DELETE = kv_pb2.Event.PUT, kv_pb2.Event.DELETE
NOPUT, NODELETE = rpc_pb2.WatchCreateRequest.NOPUT, rpc_pb2.WatchCreateRequest.NODELETE


def kinds(bench: Bench, watch_id: int = 0) -> list[int]:
    return [e.type for r in bench.take() if r.watch_id == watch_id for e in r.events]


def test_every_watcher_gets_its_own_copy(at_six: Bench) -> None:  # case 9, V7
    at_six.create(b"k0")
    at_six.create(b"k", b"l")
    at_six.create(b"k0")
    at_six.take()
    at_six.put(b"k0")
    assert sorted(at_six.taken()) == [(i, 7, [b"k0"]) for i in range(3)]


def test_put_event_is_the_whole_kv(bench: Bench) -> None:  # V1
    bench.put(b"a", value=b"1")
    bench.create(b"a")
    bench.take()
    bench.put(b"a", value=b"2", lease=77)
    (response,) = bench.take()
    (event,) = response.events
    assert event.type == PUT and not event.HasField("prev_kv")
    assert event.kv == kv_pb2.KeyValue(
        key=b"a", value=b"2", create_revision=2, mod_revision=3, version=2, lease=77
    )


def test_delete_event_holds_key_and_revision(bench: Bench) -> None:  # V2
    bench.put(b"a")
    bench.create(b"a")
    bench.take()
    bench.commit((b"a", None))
    (event,) = bench.take()[0].events
    assert event.type == DELETE
    assert event.kv == kv_pb2.KeyValue(key=b"a", mod_revision=3)


def test_filters(bench: Bench) -> None:  # case 10, W7
    bench.create(b"a", filters=[NOPUT])
    bench.create(b"a", filters=[NODELETE])
    bench.create(b"a", filters=[NOPUT, NODELETE])
    bench.create(b"a", filters=[42])
    bench.take()
    bench.put(b"a")
    bench.put(b"a")
    bench.commit((b"a", None))
    got: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for response in bench.take():
        got[response.watch_id] += [e.type for e in response.events]
    assert got == {0: [DELETE], 1: [PUT, PUT], 2: [], 3: [PUT, PUT, DELETE]}


def test_filters_in_replay(bench: Bench) -> None:  # W7
    bench.put(b"a")
    bench.commit((b"a", None))
    bench.create(b"a", start_revision=1, filters=[NOPUT])
    bench.create(b"a", start_revision=1, filters=[NOPUT, NODELETE])
    assert [(r.watch_id, len(r.events)) for r in bench.take()] == [(0, 0), (1, 0), (0, 1)]


def test_prev_kv(bench: Bench) -> None:  # case 11, N1
    bench.create(b"a", prev_kv=True)
    bench.take()
    bench.put(b"a")
    bench.put(b"a")
    bench.commit((b"a", None))
    first, second, third = (r.events[0] for r in bench.take())
    assert not first.HasField("prev_kv")
    assert second.prev_kv.version == 1 and second.kv.version == 2
    assert third.kv == kv_pb2.KeyValue(key=b"a", mod_revision=4)
    assert third.prev_kv.version == 2


def test_prev_kv_only_for_those_who_asked(bench: Bench) -> None:
    bench.put(b"a")
    bench.create(b"a", prev_kv=True)
    bench.create(b"a")
    bench.take()
    bench.put(b"a")
    got = {r.watch_id: r.events[0].HasField("prev_kv") for r in bench.take()}
    assert got == {0: True, 1: False}


def test_txn_order(bench: Bench) -> None:  # case 12, V3, V4
    bench.create(b"f", b"g")
    bench.take()
    bench.put(b"f2", b"f1", b"f3")
    assert bench.taken() == [(0, 2, [b"f2", b"f1", b"f3"])]


def test_range_delete(bench: Bench) -> None:  # case 13
    bench.put(b"f1", b"f2", b"f3")
    bench.create(b"f", b"g")
    bench.create(b"f2")
    bench.take()
    bench.commit((b"f1", None), (b"f2", None), (b"f3", None))
    assert sorted(bench.taken()) == [(0, 3, [b"f1", b"f2", b"f3"]), (1, 3, [b"f2"])]


def test_key_changed_twice_in_one_revision(bench: Bench) -> None:  # case 37, V6, N3
    bench.create(b"tmp", prev_kv=True)
    bench.take()
    bench.commit((b"tmp", b"x"), (b"tmp", None))
    (response,) = bench.take()
    assert [e.type for e in response.events] == [PUT, DELETE]
    assert {e.kv.mod_revision for e in response.events} == {2}
    assert not any(e.HasField("prev_kv") for e in response.events)


def test_prev_kv_of_a_second_change_is_the_state_before_the_revision(bench: Bench) -> None:  # N3
    bench.put(b"a", value=b"old")
    bench.create(b"a", prev_kv=True)
    bench.take()
    bench.commit((b"a", b"mid"), (b"a", None))
    (response,) = bench.take()
    assert [e.prev_kv.value for e in response.events] == [b"old", b"old"]


def test_lease_revoke_looks_like_a_delete(bench: Bench) -> None:  # cases 30, 31
    bench.put(b"b", b"z", b"zz", lease=100)
    bench.create(b"a", b"\x00", prev_kv=True)
    bench.take()
    bench.commit((b"b", None), (b"z", None), (b"zz", None))
    (response,) = bench.take()
    assert [(e.type, e.kv.key) for e in response.events] == [
        (DELETE, b"b"),
        (DELETE, b"z"),
        (DELETE, b"zz"),
    ]
    assert {e.prev_kv.lease for e in response.events} == {100}


def test_unrelated_keys_are_silent(bench: Bench) -> None:
    bench.create(b"a")
    bench.create(b"b", b"c")
    bench.take()
    bench.put(b"aa", b"c", b"\x00")
    assert bench.take() == []


def test_deliveries_are_counted(bench: Bench) -> None:
    bench.create(b"a")
    bench.create(b"a", b"b")
    bench.put(b"a")
    assert bench.hub.events_sent == 2
