"""The tables of the backend file, named as etcd names its buckets (spec/storage.md §4.1)."""

from __future__ import annotations

from typing import Final

KEY: Final = "key"
"""Revision key (8-byte main, `_`, 8-byte sub, `t` for a tombstone) -> encoded mvccpb.KeyValue."""
META: Final = "meta"
LEASE: Final = "lease"
ALARM: Final = "alarm"
AUTH: Final = "auth"
AUTH_USERS: Final = "authUsers"
AUTH_ROLES: Final = "authRoles"
MEMBERS: Final = "members"
MEMBERS_REMOVED: Final = "members_removed"
CLUSTER: Final = "cluster"

SMALL_TABLES: Final = (
    META,
    LEASE,
    ALARM,
    AUTH,
    AUTH_USERS,
    AUTH_ROLES,
    MEMBERS,
    MEMBERS_REMOVED,
    CLUSTER,
)
"""Tables changed by `put` and `delete`; the key table only grows by `append`."""
TABLES: Final = (KEY, *SMALL_TABLES)

# Keys of `meta` that the backend itself writes, always in the transaction of their effects.
CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"
MARKS: Final = (CONSISTENT_INDEX, TERM, CONF_STATE)
# Keys of `meta` that the store and the server write with `put`.
SCHEDULED_COMPACT_REVISION: Final = b"scheduledCompactRev"
FINISHED_COMPACT_REVISION: Final = b"finishedCompactRev"
STORAGE_VERSION: Final = b"storageVersion"
