"""The console's four roles on a cluster, each including the ones before it. No Django in here."""

from enum import IntEnum


class Role(IntEnum):
    VIEWER = 1  # read, watch
    EDITOR = 2  # keys, leases
    OPERATOR = 3  # members, compaction, defragmentation, alarms, snapshots
    ADMIN = 4  # users, roles, connections

    @property
    def label(self) -> str:
        return self.name.lower()
