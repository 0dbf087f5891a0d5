"""The index built and let go in slices, for a member that serves meanwhile (design D6)."""

from __future__ import annotations

import random

from kvserver.mvcc import restore
from kvserver.mvcc.restore import MERGED_KEYS, RUN_KEYS, IndexBuilder
from tests.mvcc.rig import Rig

KEYS = 3 * RUN_KEYS + 17


def busy_store() -> Rig:
    """Keys in random order, some put again, some dead, some leased."""
    rig = Rig(5)
    chance = random.Random(4)
    names = [b"k%06d" % number for number in range(KEYS)]
    chance.shuffle(names)
    for number, name in enumerate(names):
        rig.put(name, lease=5 if number % 50 == 0 else 0)
    for name in names[::3]:
        rig.put(name)
    for name in names[::4]:
        rig.delete(name)
    return rig


def test_slices_give_what_one_piece_gives() -> None:
    rig = busy_store()
    whole = restore.rebuild(rig.backend)
    built = IndexBuilder()
    for pairs in rig.backend.scan_all():
        for first in range(0, len(pairs), 10):
            built.add(pairs[first : first + 10])
    slices = sum(1 for _ in built.sort_in_slices())
    assert slices > KEYS // RUN_KEYS + len(built.index.live) // MERGED_KEYS
    for name in ("newest", "histories", "superseded"):
        assert getattr(built.index, name) == getattr(whole.index, name), name
    assert list(built.index.live) == list(whole.index.live)
    assert list(built.index.dead) == list(whole.index.dead)
    assert built.leases == whole.leases
    assert built.newest_revision == whole.newest_revision


def test_a_store_takes_an_index_over_that_was_built_for_it() -> None:
    rig = busy_store()
    before = (rig.store.revision, rig.all(), rig.hash_kv())
    built = restore.rebuild(rig.backend)
    rig.leases.keys[5] = set()
    rig.store.restore(built)
    assert rig.store.index is built.index
    assert (rig.store.revision, rig.all(), rig.hash_kv()) == before
    assert rig.leases.keys[5] == set(built.leases)
    assert rig.put(b"and on").header.revision == before[0] + 1


def test_an_old_index_goes_a_little_at_a_time() -> None:
    index = busy_store().store.index
    rounds = 1
    while not index.discard_some(1000):
        rounds += 1
    assert rounds > KEYS // 2000
    assert not index.newest and not index.histories and not index.live and not index.dead
