"""The checker finds each kind of fault, or its silence would mean nothing."""

from __future__ import annotations

import pytest

from kvserver.proto import kv_pb2, rpc_pb2
from tests.support.watch_checks import Interest, StreamLog, WatcherLog, check_resumed
from tests.watch.fakes import FakeHistory


@pytest.fixture
def history() -> FakeHistory:
    history = FakeHistory()
    history.commit((b"a", b"1"), (b"b", b"1"))  # 2
    history.commit((b"a", b"2"))  # 3
    history.commit((b"a", None), (b"b", b"2"))  # 4
    return history


def response(history: FakeHistory, *revisions: int, header: int = 9) -> rpc_pb2.WatchResponse:
    answer = rpc_pb2.WatchResponse(header=rpc_pb2.ResponseHeader(revision=header))
    for revision in revisions:
        answer.events.extend(history.truth[revision])
    return answer


def log_of(*responses: rpc_pb2.WatchResponse, **interest: bool) -> WatcherLog:
    log = WatcherLog(Interest(b"a", b"c", 2, **{"prev_kv": True, **interest}))
    for answer in responses:
        log.add(answer)
    return log


def progress(revision: int) -> rpc_pb2.WatchResponse:
    return rpc_pb2.WatchResponse(header=rpc_pb2.ResponseHeader(revision=revision))


def test_a_good_log_has_no_faults(history: FakeHistory) -> None:
    log = log_of(response(history, 2), progress(2), response(history, 3, 4), progress(9))
    assert log.check(history.truth, complete_to=9) == []


def test_faults_are_found(history: FakeHistory) -> None:
    truth = history.truth
    first, second = response(history, 2), response(history, 2)
    del first.events[1], second.events[0]
    without_prev = response(history, 2, 3)
    without_prev.events[2].ClearField("prev_kv")
    wrong_prev = response(history, 2, 3)
    wrong_prev.events[2].prev_kv.value = b"?"
    swapped = response(history, 2)
    swapped.events.reverse()
    over = rpc_pb2.WatchResponse(canceled=True)
    compacted = rpc_pb2.WatchResponse(canceled=True, compact_revision=3)
    compacted.header.revision = 4
    piece = rpc_pb2.WatchResponse(fragment=True)
    bad = {
        "not ordered": log_of(response(history, 3), response(history, 2)),
        "repeated": log_of(response(history, 2), response(history, 2)),
        "split": log_of(first, second),
        "gap": log_of(response(history, 2), response(history, 4)),
        "missing at the end": log_of(response(history, 2, 3)),
        "behind a bookmark": log_of(progress(2), response(history, 2, 3, 4)),
        "bookmark over a gap": log_of(response(history, 2), progress(4)),
        "header in the past": log_of(response(history, 2, 3, 4, header=3)),
        "no prev_kv": log_of(without_prev, response(history, 4)),
        "wrong prev_kv": log_of(wrong_prev, response(history, 4)),
        "unwanted prev_kv": log_of(response(history, 2, 3, 4), prev_kv=False),
        "filtered event": log_of(response(history, 2, 3, 4), no_delete=True),
        "order in a revision": log_of(swapped, response(history, 3, 4)),
        "after the end": log_of(over, response(history, 2)),
        "compaction header": log_of(compacted),
        "progress in fragments": log_of(piece, progress(1)),
    }
    del bad["progress in fragments"]  # needs events in the piece; below
    piece = response(history, 2)
    piece.fragment = True
    bad["progress in fragments"] = log_of(piece)
    bad["progress in fragments"].add_progress(1)
    assert [name for name, log in bad.items() if not log.check(truth, complete_to=4)] == []


def test_compacted_prev_kv_may_be_missing(history: FakeHistory) -> None:  # N2
    answer = response(history, 2, 3, 4)
    for event in answer.events:
        event.ClearField("prev_kv")
    assert log_of(answer).check(history.truth, compacted=4) == []


def test_fragments_are_one_response(history: FakeHistory) -> None:  # D6
    first, second = response(history, 2), response(history, 2)
    del first.events[1], second.events[0]
    first.fragment = True
    log = log_of(first, second, response(history, 3, 4))
    assert log.check(history.truth, complete_to=4) == []


def test_resumed_watches(history: FakeHistory) -> None:  # M6
    first = log_of(response(history, 2))
    second = WatcherLog(Interest(b"a", b"c", 3, prev_kv=True))
    second.add(response(history, 3, 4))
    assert check_resumed([first, second], history.truth, 4) == []
    gap = WatcherLog(Interest(b"a", b"c", 4, prev_kv=True))
    gap.add(response(history, 4))
    assert check_resumed([first, gap], history.truth, 4)
    assert check_resumed([first, first], history.truth, 2)


def test_streams_are_sorted_by_watcher(history: FakeHistory) -> None:
    log = StreamLog()
    log.asked(rpc_pb2.WatchCreateRequest(key=b"a", start_revision=2))
    log.asked(rpc_pb2.WatchCreateRequest(key=b"z", range_end=b"b"))
    created = progress(4)
    created.created = True
    log.add(created)
    refused = rpc_pb2.WatchResponse(created=True, canceled=True, watch_id=-1, cancel_reason="no")
    log.add(refused)
    assert log.refusals == ["no"]
    answer = rpc_pb2.WatchResponse(header=rpc_pb2.ResponseHeader(revision=4))
    for revision in (2, 3, 4):
        event = kv_pb2.Event()
        event.CopyFrom(history.truth[revision][0])
        event.ClearField("prev_kv")
        answer.events.append(event)
    log.add(answer)
    broadcast = progress(4)
    broadcast.watch_id = -1
    log.add(broadcast)
    assert log.check(history.truth, complete_to=4) == []
    log.add(rpc_pb2.WatchResponse(watch_id=55, canceled=True))
    log.add(created)
    assert len(log.check(history.truth)) == 2
