"""Who would notice that the loop stands still (runtime/company.py)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kvserver.limits import APPEND_HERE_BYTES_MAX, COMPANY_SECONDS
from kvserver.runtime.company import Company


class Rig:
    """A leader whose only client has one write under way."""

    def __init__(self) -> None:
        self.proposals = SimpleNamespace(
            new=[], waiting=[object()], forwarded=SimpleNamespace(by_data={}), taken=0, now=100.0
        )
        self.reads = SimpleNamespace(has_readers=False)
        self.hub = SimpleNamespace(streams={})
        self.mailbox = SimpleNamespace(reads_asked=0)
        self.messages = 0
        self.storage = SimpleNamespace(is_moving=False)
        self.company = Company(
            self.proposals,  # type: ignore[arg-type]
            self.reads,  # type: ignore[arg-type]
            self.hub,  # type: ignore[arg-type]
            self.mailbox,  # type: ignore[arg-type]
            self.storage,  # type: ignore[arg-type]
        )
        self.company.count_messages = lambda: self.messages

    def tick(self, seconds: float = 0.1) -> None:
        self.proposals.now += seconds
        self.company.look(self.proposals.now)

    def is_alone(self, entries: int = 1, append_bytes: int = 300, *, leads: bool = True) -> bool:
        return self.company.is_none(entries, append_bytes, leads=leads)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_nobody_but_the_one_who_waits_for_the_disk(rig: Rig) -> None:
    assert rig.is_alone()
    rig.messages, rig.proposals.taken = 1000, 1000  # its puts of the last tick
    rig.tick()
    assert rig.is_alone()


def test_the_servers_own_writes_are_nobody(rig: Rig) -> None:
    rig.proposals.taken = 3
    rig.tick()
    assert rig.is_alone()
    rig.messages = 1
    rig.tick()
    assert not rig.is_alone(), "and hide nobody who comes later"


def test_whoever_asks_for_anything_else_stays_for_a_while(rig: Rig) -> None:
    rig.messages = 1
    rig.tick()
    assert not rig.is_alone() and not rig.is_alone(leads=False)
    rig.tick(COMPANY_SECONDS * 0.9)
    assert not rig.is_alone()
    rig.tick(COMPANY_SECONDS * 0.2)
    assert rig.is_alone()


def test_a_read_of_another_members_client_counts(rig: Rig) -> None:
    rig.mailbox.reads_asked = 1
    rig.tick()
    assert not rig.is_alone()


def test_many_writes_go_by_thread_where_they_are_led(rig: Rig) -> None:
    assert not rig.is_alone(entries=2)
    assert rig.is_alone(entries=2, leads=False)
    rig.proposals.waiting.append(object())
    assert not rig.is_alone()
    assert rig.is_alone(leads=False)


def test_not_with_a_long_append(rig: Rig) -> None:
    assert rig.is_alone(append_bytes=APPEND_HERE_BYTES_MAX)
    assert not rig.is_alone(append_bytes=APPEND_HERE_BYTES_MAX + 1)


@pytest.mark.parametrize("who", ["writer", "forwarded", "reader", "watcher", "lagging member"])
@pytest.mark.parametrize("leads", [True, False])
def test_not_while_somebody_waits(rig: Rig, who: str, leads: bool) -> None:
    match who:
        case "writer":
            rig.proposals.new.append(object())
        case "forwarded":
            rig.proposals.forwarded.by_data[b"a"] = object()
        case "reader":
            rig.reads.has_readers = True
        case "watcher":
            rig.hub.streams[object()] = None
        case "lagging member":
            rig.storage.is_moving = True
    assert not rig.is_alone(leads=leads)
