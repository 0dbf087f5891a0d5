"""What an image of ours holds: etcd's ten buckets, taken from a view of the backend
(spec/bbolt.md §3.1).

Our tables have etcd's names, keys and values, so they pass as they are. The one thing added is
`storageVersion`, which follows the cluster version (spec/cluster.md §6.3): a 3.6 looks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from kvserver.mvcc.backend.tables import CLUSTER, META, STORAGE_VERSION, TABLES

Pair = tuple[bytes, bytes]

BUCKETS = tuple(sorted(TABLES))
"""In the order of their names, which is the order in an image and in its hash."""
CLUSTER_VERSION_KEY = b"clusterVersion"
STORAGE_VERSION_FIRST = (3, 6)
"""Older releases store none; one that is named here but unknown there would only be ignored."""


class View(Protocol):
    """A backend that stands still: `mvcc.backend.api.Snapshot`."""

    def items(self, table: str) -> Iterator[list[Pair]]: ...


def storage_version(view: View) -> str:
    """The version that the image announces; "" when the cluster has none yet."""
    for rows in view.items(CLUSTER):
        for key, value in rows:
            if key == CLUSTER_VERSION_KEY:
                return _storage_version(value.decode(errors="replace"))
    return ""


def _storage_version(cluster_version: str) -> str:
    parts = cluster_version.split(".")[:2]
    if not all(part.isdecimal() for part in parts):
        return ""
    return cluster_version if tuple(map(int, parts)) >= STORAGE_VERSION_FIRST else ""


def bucket_slices(view: View, version: str) -> Iterator[tuple[bytes, Iterator[list[Pair]]]]:
    """The buckets with their pairs, slice by slice."""
    for table in BUCKETS:
        slices = view.items(table)
        yield table.encode(), _with_version(slices, version) if table == META else slices


def _with_version(slices: Iterable[list[Pair]], version: str) -> Iterator[list[Pair]]:
    """The few rows of `meta`, with our version in place of whatever an import left there."""
    rows = {key: value for pairs in slices for key, value in pairs}
    rows.pop(STORAGE_VERSION, None)
    if version:
        rows[STORAGE_VERSION] = version.encode()
    yield sorted(rows.items())
