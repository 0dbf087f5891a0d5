"""Looks at all members: one that says nothing costs the whole time once, then a moment."""

from __future__ import annotations

import threading

import pytest

from console.gateway import looks as module
from console.gateway.looks import Looks
from kvserver.client import Answer, CallFailed, Endpoint
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

GOOD, SILENT = Endpoint("good", 1), Endpoint("silent", 1)
SECONDS_MAX = 30


class Members:
    """What a client's fan-out says. The silent one answers when it is let go, or with a failure."""

    def __init__(self) -> None:
        self.asked: list[Endpoint] = []
        self.is_there = threading.Event()
        self.may_end = threading.Event()
        self.code = Code.DEADLINE_EXCEEDED

    def fan_out(self, endpoints, pick, request, seconds) -> list[Answer]:
        self.asked += endpoints
        return [self._answer(endpoint) for endpoint in endpoints]

    def _answer(self, endpoint: Endpoint) -> Answer:
        if endpoint == SILENT:
            assert self.may_end.wait(SECONDS_MAX)
        if endpoint == GOOD or self.is_there.is_set():
            return Answer(endpoint, rpc_pb2.StatusResponse(), None, 0.001)
        failure = CallFailed(self.code, "…", str(endpoint), was_sent=True)
        return Answer(endpoint, None, failure, 2.0)


def answered(found: list[Answer]) -> list[bool]:
    return [answer.response is not None for answer in found]


@pytest.fixture
def members(monkeypatch) -> Members:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.01)
    return Members()


def test_a_silent_one_is_waited_for_once_and_its_return_is_seen(members: Members) -> None:
    looks, both = Looks(), [SILENT, GOOD]
    members.may_end.set()
    assert answered(looks.status(members, both)) == [False, True]
    assert looks.are_silent(members, [SILENT])
    members.may_end.clear()
    # It would take for ever now, and nobody waits; it is asked once, however many pages come.
    for _ in range(3):
        assert answered(looks.status(members, both)) == [False, True]
    assert members.asked.count(SILENT) == 2
    members.is_there.set()
    members.may_end.set()
    looks._pool.shutdown(wait=True)  # its late answer has come
    assert not looks.are_silent(members, [SILENT])


def test_a_refused_connection_keeps_nobody_waiting(members: Members) -> None:
    looks = Looks()
    members.code = Code.UNAVAILABLE
    members.may_end.set()
    assert answered(looks.status(members, [SILENT])) == [False]
    assert not looks.are_silent(members, [SILENT])


def test_a_cluster_of_which_nobody_answers_is_silent_as_a_whole(members: Members) -> None:
    looks = Looks()
    looks.note_silent(members, [SILENT, GOOD])
    assert looks.are_silent(members, [SILENT, GOOD])
    found = looks.status(members, [GOOD, SILENT])
    assert found[1].failure.message == "still silent"
    members.may_end.set()
    looks._pool.shutdown(wait=True)
    assert not looks.are_silent(members, [GOOD])


def test_what_is_known_goes_with_the_client(members: Members) -> None:
    looks = Looks()
    looks.note_silent(members, [SILENT])
    assert not looks.are_silent(Members(), [SILENT])
