"""The leader's database in the place of ours, and everything rebuilt from it (spec/cluster.md §5).

Owner: the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from kvserver.apply.alarms import Alarms
from kvserver.auth import AuthStore
from kvserver.lease import Lessor
from kvserver.membership import Membership
from kvserver.mvcc.store import Store
from kvserver.raft import Snapshot
from kvserver.runtime.background import Background
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.snap.snapshotter import snapshot_db_name


class Installer:
    """What `MemberLoop.install` is set to."""

    def __init__(
        self,
        *,
        storage: StorageDuty,
        background: Background,
        directory: str,
        store: Store,
        lessor: Lessor,
        alarms: Alarms,
        membership: Membership,
        auth: AuthStore,
        on_membership: Callable[[Snapshot], None],
    ) -> None:
        self._storage = storage
        self._background = background
        self._directory = directory
        self._store = store
        self._lessor = lessor
        self._alarms = alarms
        self._membership = membership
        self._auth = auth
        self._on_membership = on_membership

    def install(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        """Calls back when everything is as the snapshot has it."""
        path = os.path.join(self._directory, snapshot_db_name(snapshot.index))
        self._storage.install(snapshot, path, lambda: self._rebuild(snapshot, done))

    def _rebuild(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        self._background.history_replaced()
        self._lessor.restore(self._storage.backend.items("lease"))
        interrupted = self._store.restore()
        self._alarms.restore()
        self._membership.restore()
        self._auth.restore()
        if interrupted is not None:
            self._background.add_compaction(interrupted)
        self._on_membership(snapshot)
        done()
