"""Alarms (spec/maintenance.md §2)."""

from kvserver.apply.alarms import CORRUPT, NONE, NOSPACE, Alarms
from kvserver.mvcc.backend.memory import MemoryBackend


def test_activate_twice_answers_alike() -> None:
    """Case 2."""
    alarms = Alarms(MemoryBackend())
    assert alarms.activate(77, NOSPACE) == [(77, NOSPACE)]
    assert alarms.activate(77, NOSPACE) == [(77, NOSPACE)]
    assert alarms.has_nospace and not alarms.has_corrupt


def test_deactivate_matches_the_exact_pair_only() -> None:
    """Cases 3 and 4."""
    alarms = Alarms(MemoryBackend())
    alarms.activate(77, NOSPACE)
    for member, kind in ((1, NOSPACE), (0, NOSPACE), (77, NONE)):
        assert alarms.deactivate(member, kind) == []
    assert alarms.has_nospace
    assert alarms.deactivate(77, NOSPACE) == [(77, NOSPACE)]
    assert alarms.deactivate(77, NOSPACE) == []
    assert not alarms.has_nospace


def test_an_effect_lasts_while_any_member_has_the_alarm() -> None:
    """Case 5."""
    alarms = Alarms(MemoryBackend())
    alarms.activate(2, NOSPACE)
    alarms.activate(3, NOSPACE)
    alarms.deactivate(2, NOSPACE)
    assert alarms.has_nospace


def test_none_is_ignored() -> None:
    """Case 8, the newer behaviour."""
    alarms = Alarms(MemoryBackend())
    assert alarms.activate(77, NONE) == []
    assert alarms.pairs() == []


def test_get_filters_by_type() -> None:
    """A2."""
    alarms = Alarms(MemoryBackend())
    alarms.activate(1, NOSPACE)
    alarms.activate(2, CORRUPT)
    assert sorted(alarms.pairs()) == [(1, NOSPACE), (2, CORRUPT)]
    assert alarms.pairs(CORRUPT) == [(2, CORRUPT)]


def test_alarms_survive_a_restart() -> None:
    """Case 6."""
    tables = MemoryBackend()
    Alarms(tables).activate(5, CORRUPT)
    again = Alarms(tables)
    again.restore()
    assert again.pairs() == [(5, CORRUPT)] and again.has_corrupt
