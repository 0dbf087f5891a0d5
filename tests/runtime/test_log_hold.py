"""The log is kept for a receiver of a database, but not without end (limits.py)."""

from __future__ import annotations

import pytest

from kvserver.raft import Entry, EntryType, MemoryStorage
from kvserver.runtime import storage_duty
from kvserver.runtime.storage_duty import may_hold


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    """Entries 1 to 20 of 100 bytes each, of which 5 are gone."""
    monkeypatch.setattr(storage_duty, "LOG_HELD_BYTES_MAX", 1000)
    monkeypatch.setattr(storage_duty, "LOG_HELD_ENTRIES_MAX", 1000)
    log = MemoryStorage(
        entries=[Entry(index, 1, EntryType.NORMAL, bytes(100)) for index in range(1, 21)]
    )
    del log.entries[:5]
    log.offset, log.offset_term = 5, 1
    return log


@pytest.mark.parametrize(
    ("last", "may"), [(3, True), (5, True), (6, True), (15, True), (16, False)]
)
def test_bytes_of_what_would_go(log: MemoryStorage, last: int, may: bool) -> None:
    assert may_hold(log, last) is may


@pytest.mark.parametrize(("last", "may"), [(5, True), (8, True), (9, False)])
def test_entries_of_what_would_go(
    log: MemoryStorage, monkeypatch: pytest.MonkeyPatch, last: int, may: bool
) -> None:
    monkeypatch.setattr(storage_duty, "LOG_HELD_ENTRIES_MAX", 3)
    assert may_hold(log, last) is may
