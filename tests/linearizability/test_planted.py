"""Each class of violation, planted in a good history, is found: with the true log and without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.linearizability.calls import Scene, delete, get, local, put, swap
from tests.support.linearizability import Operation, Report, Start, check


@pytest.fixture
def scene() -> Scene:
    """a=1@2, b=1@3, a=2@4 by a swap, a swap that fails, b deleted @5."""
    scene = Scene()
    scene.call(put(b"a", b"1"))
    scene.call(put(b"b", b"1"), member="m1")
    scene.call(swap(b"a", 2, b"2"))
    scene.call(swap(b"a", 2, b"3"))
    scene.call(get(b"a", b"c"), member="m2")
    scene.call(delete(b"b", prev_kv=True))
    scene.call(local(b"a", b"c"), member="m1")
    return scene


def both(scene: Scene) -> tuple[Report, Report]:
    return check(scene.history), check(scene.history, events=scene.events())


def spoil(scene: Scene, operation: Operation, **changes: Any) -> Operation:
    """The same call with something about it changed, in its place."""
    fields = {name: getattr(operation, name) for name in Operation.__slots__} | changes
    spoilt = Operation(**fields)
    scene.history[scene.history.index(operation)] = spoilt
    return spoilt


def answered(operation: Operation, change: Callable[[Any], object]) -> Any:
    response = type(operation.response)()
    response.CopyFrom(operation.response)
    change(response)
    return response


def assert_found(scene: Scene, kind: str, *involved: Operation, without_log: bool = True) -> None:
    for report in both(scene) if without_log else both(scene)[1:]:
        assert not report.is_linearizable
        kinds = [violation.kind for violation in report.violations]
        assert kind in kinds, str(report)
        told = {each for violation in report.violations for each in violation.operations}
        assert told.issuperset(involved), str(report)
        for each in involved:
            assert str(each) in str(report)


def test_a_good_history_is_good(scene: Scene) -> None:
    sought, given = both(scene)
    assert sought.is_linearizable, str(sought)
    assert given.is_linearizable, str(given)
    assert sought.events == given.events
    assert list(sought.events) == [2, 3, 4, 5]


def test_a_stale_linearizable_read(scene: Scene) -> None:
    """It shows the store of its header, but a newer one had been acknowledged (E2)."""
    old = scene.history[4]
    late = Operation("d", "m2", get(b"a", b"c"), scene.now, scene.now + 1, old.response)
    scene.history.append(late)
    assert_found(scene, "order", scene.history[5], late)


def test_a_stale_local_read_is_fine(scene: Scene) -> None:
    """R12; but not after the same member has shown more."""
    old = scene.history[4].response
    request = local(b"a", b"c")
    scene.history.append(Operation("d", "m0", request, scene.now, scene.now + 1, old))
    assert all(report.is_linearizable for report in both(scene))
    late = Operation("d", "m1", request, scene.now, scene.now + 1, old)
    scene.history.append(late)
    assert_found(scene, "local", scene.history[6], late)


@pytest.mark.parametrize("read", [get, local])
def test_a_read_of_what_never_was(scene: Scene, read: Callable[..., Any]) -> None:
    good = scene.call(read(b"a"), member="m3")
    wrong = answered(good, lambda r: setattr(r.kvs[0], "value", b"never"))
    bad = spoil(scene, good, response=wrong)
    assert_found(scene, "replay", bad)


def test_a_lost_write(scene: Scene) -> None:
    """Acknowledged at a revision of its own; later answers do not know it."""
    lost = scene.call(put(b"c", b"1"))
    scene.model.stored.pop()
    scene.model.revision -= 1
    scene.call(get(b"a", b"z"))
    assert_found(scene, "order", lost)
    del scene.history[-1]
    report = check(scene.history, events=scene.events())
    assert "a write was lost" in str(report)
    assert str(lost) in str(report)


def test_a_write_that_another_took_the_place_of(scene: Scene) -> None:
    lost = scene.call(put(b"c", b"1"))
    record = scene.model.stored[-1]
    assert record.kv is not None
    record.kv.value = b"2"
    seen = scene.call(get(b"c"))
    assert_found(scene, "replay", lost)
    assert seen in check(scene.history).violations[0].operations


@pytest.mark.parametrize("later", [0.0, 1.0])
def test_a_write_acknowledged_twice_at_one_revision(scene: Scene, later: float) -> None:
    first = scene.call(put(b"c", b"1"))
    sent = first.invoked + later
    second = Operation("d", "m1", put(b"c", b"1"), sent, sent + 1, first.response)
    scene.history.append(second)
    assert_found(scene, "order", first, second)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_write_applied_twice(scene: Scene, is_told: bool) -> None:
    """The second time makes a revision that no call of its own made."""
    write = scene.call(put(b"c", b"1"), is_told=is_told)
    scene.model.put(put(b"c", b"1"))
    seen = scene.call(get(b"c"))
    given = check(scene.history, events=scene.events())
    assert [violation.kind for violation in given.violations] == ["origin"]
    assert write in given.violations[0].operations
    assert "applied twice?" in str(given)
    sought = check(scene.history)
    assert [violation.kind for violation in sought.violations] == ["origin"]
    assert seen in sought.violations[0].operations


def test_a_read_from_the_future(scene: Scene) -> None:
    """Complete before the write that it shows was sent."""
    write = scene.call(put(b"c", b"1"))
    for request in (get(b"c"), local(b"c")):
        read = scene.call(request, member="m4")
        early = spoil(scene, read, invoked=write.invoked - 0.4, completed=write.invoked - 0.2)
        assert_found(scene, "order", early, write)
        scene.history.remove(early)


def test_an_unknown_write_seen_before_it_was_sent(scene: Scene) -> None:
    write = scene.call(put(b"c", b"1"), is_told=False)
    read = scene.call(get(b"c"))
    early = spoil(scene, read, invoked=write.invoked - 0.4, completed=write.invoked - 0.2)
    given = check(scene.history, events=scene.events())
    assert [violation.kind for violation in given.violations] == ["origin"]
    assert "seen before it was sent" in str(given)
    assert not check(scene.history).is_linearizable
    assert early.completed is not None and early.completed < write.invoked


def test_a_refused_write_that_happened(scene: Scene) -> None:
    write = scene.call(put(b"c", b"1"), is_told=False)
    refused = spoil(scene, write, is_refused=True, completed=write.invoked + 0.5)
    scene.call(get(b"c"))
    given = check(scene.history, events=scene.events())
    assert "a refused one would have" in str(given)
    assert refused in given.violations[0].operations
    assert [violation.kind for violation in check(scene.history).violations] == ["origin"]


@pytest.mark.parametrize("happens", [True, False])
def test_an_unknown_outcome_may_be_either(scene: Scene, happens: bool) -> None:
    scene.call(put(b"c", b"1"), is_told=False, happens=happens)
    scene.call(delete(b"zz"))
    scene.call(get(b"a", b"z"))
    for report in both(scene):
        assert report.is_linearizable, str(report)
        assert report.unknown_that_happened == happens


def test_an_unknown_outcome_may_come_late(scene: Scene) -> None:
    unknown = put(b"c", b"1")
    scene.call(unknown, is_told=False, happens=False)
    scene.call(get(b"c"))
    scene.call(put(b"d", b"1"))
    scene.model.put(unknown)
    scene.call(get(b"c"))
    assert all(report.is_linearizable for report in both(scene))
    scene.call(delete(b"c"))
    scene.model.put(unknown)
    scene.call(get(b"c"))
    assert not any(report.is_linearizable for report in both(scene)), "once, not twice"


def test_the_branch_of_a_txn_must_agree_with_the_state(scene: Scene) -> None:
    failed = scene.history[3]
    spoilt = spoil(scene, failed, response=answered(failed, lambda r: setattr(r, "succeeded", 1)))
    assert_found(scene, "replay", spoilt, scene.history[2])


def test_a_txn_of_unknown_outcome_is_found_by_what_it_did(scene: Scene) -> None:
    """Two candidates; only the state tells which swap could have succeeded."""
    scene.call(swap(b"a", 2, b"x"), is_told=False, happens=False)
    scene.call(swap(b"a", 4, b"y"), is_told=False)
    scene.call(get(b"a"))
    sought, given = both(scene)
    assert sought.is_linearizable and given.is_linearizable
    assert sought.events == given.events
    assert sought.events[6][0].kv.value == b"y"


def test_a_wrong_previous_value(scene: Scene) -> None:
    gone = scene.history[5]
    wrong = answered(gone, lambda r: setattr(r.prev_kvs[0], "value", b"?"))
    assert_found(scene, "replay", spoil(scene, gone, response=wrong))


def test_a_revision_in_the_past(scene: Scene) -> None:
    """A read at a revision shows that revision, and in its header the newest one."""
    scene.call(get(b"a", b"c", revision=3))
    assert all(report.is_linearizable for report in both(scene))
    good = scene.history[-1]
    wrong = answered(good, lambda r: r.kvs.pop())
    assert_found(scene, "replay", spoil(scene, good, response=wrong))


def test_a_member_that_answers_an_acknowledged_write_at_an_old_revision(scene: Scene) -> None:
    answer = rpc.PutResponse(header=rpc.ResponseHeader(revision=2))
    late = Operation("d", "m1", put(b"z", b"1"), scene.now, scene.now + 1, answer)
    scene.history.append(late)
    assert_found(scene, "order", late)


def test_a_lease_that_expires_is_a_revoke_of_unknown_outcome() -> None:
    scene = Scene()
    scene.model.leases.add(7)
    scene.history.append(Operation("lessor", "", rpc.LeaseRevokeRequest(ID=7), 0.0))
    scene.call(put(b"a", b"1", lease=7))
    scene.call(put(b"b", b"1", lease=7))
    scene.call(put(b"b", b"2"))
    scene.model.revoke(7)
    scene.call(get(b"a", b"z"))
    assert all(report.is_linearizable for report in both(scene))
    del scene.history[0]
    assert not any(report.is_linearizable for report in both(scene))


def test_an_acknowledged_revoke_stands_at_its_own_revision() -> None:
    scene = Scene()
    scene.model.leases.add(7)
    scene.call(put(b"a", b"1", lease=7))
    scene.model.revoke(7)
    answer = rpc.LeaseRevokeResponse(header=rpc.ResponseHeader(revision=3))
    request = rpc.LeaseRevokeRequest(ID=7)
    scene.history.append(Operation("c", "m0", request, 1.6, 1.8, answer))
    scene.now = 2
    scene.call(put(b"a", b"2"))
    assert all(report.is_linearizable for report in both(scene))
    answer.header.revision = 2
    assert not any(report.is_linearizable for report in both(scene))


def test_a_history_that_begins_in_the_middle(scene: Scene) -> None:
    start = Start(scene.model.revision, list(scene.model.state().values()))
    later = Scene()
    later.model, later.now = scene.model, scene.now
    later.call(put(b"a", b"3"))
    later.call(get(b"a", b"z"))
    assert check(later.history, start=start).is_linearizable
    assert check(later.history, start=start, events=later.events()).is_linearizable
    assert not check(scene.history, start=start).is_linearizable, "all of it was before"


def test_a_hole_in_the_log(scene: Scene) -> None:
    log = scene.events()
    del log[3]
    report = check(scene.history, events=log)
    assert "the log goes from revision 2 to 4" in str(report)


def test_a_search_without_hope_is_given_up() -> None:
    scene = Scene()
    for number in range(12):
        scene.call(put(b"k%d" % number, b"1"), is_told=False)
    for number in range(12):
        scene.call(put(b"k%d" % number, b"2"))
    last = scene.call(get(b"k", b"l"))
    spoil(scene, last, response=answered(last, lambda r: setattr(r, "count", 99)))
    report = check(scene.history, steps_max=2000)
    assert report.is_undecided
    assert not report.is_linearizable
    assert "given up" in str(report)
