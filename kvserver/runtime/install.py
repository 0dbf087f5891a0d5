"""The leader's database in the place of ours, and everything rebuilt from it (spec/cluster.md §5).

Owner: the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from kvserver.apply.alarms import Alarms
from kvserver.auth import AuthStore
from kvserver.lease import Lessor
from kvserver.logs import Logger
from kvserver.membership import Membership
from kvserver.mvcc.index import Index
from kvserver.mvcc.restore import IndexBuilder
from kvserver.mvcc.store import Store
from kvserver.raft import Snapshot
from kvserver.runtime.background import Background
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.snap.snapshotter import snapshot_db_name

DISCARDED_KEYS = 2000
"""Of the old index, in a slice of about a millisecond."""


class Installer:
    """What `MemberLoop.install` is set to."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        storage: StorageDuty,
        background: Background,
        directory: str,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        membership: Membership,
        auth: AuthStore,
        on_membership: Callable[[Snapshot], None],
        log: Logger,
    ) -> None:
        self.take_index: Callable[[int], IndexBuilder | None] = lambda snapshot_index: None
        """The received database's key index where it is at hand; else it is built in one piece."""
        self._loop = loop
        self._storage = storage
        self._background = background
        self._directory = directory
        self._store = store
        self._lessor = lessor
        self._alarms = alarms
        self._membership = membership
        self._auth = auth
        self._on_membership = on_membership
        self._log = log

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Calls back when everything is as the snapshot has it."""
        path = os.path.join(self._directory, snapshot_db_name(snapshot.index))
        self._storage.install(snapshot, path, lambda: self._rebuild(snapshot, done))

    def _rebuild(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        built = self.take_index(snapshot.index)
        if built is None:
            self._log.warn("rebuilding the key index of a received database in one piece")
        old, old_leases = self._store.index, self._store.leases
        self._background.history_replaced()
        self._lessor.restore(self._storage.backend.items("lease"))
        interrupted = self._store.restore(built)
        self._alarms.restore()
        self._membership.restore()
        self._auth.restore()
        if interrupted is not None:
            self._background.add_compaction(interrupted)
        self._on_membership(snapshot)
        done()
        self._loop.call_soon(self._discard, old, old_leases)

    def _discard(self, old: Index, old_leases: dict[bytes, int]) -> None:
        """Let the old keys go, slice by slice."""
        for _ in range(min(DISCARDED_KEYS, len(old_leases))):
            old_leases.popitem()
        if not old.discard_some(DISCARDED_KEYS) or old_leases:
            self._loop.call_soon(self._discard, old, old_leases)
