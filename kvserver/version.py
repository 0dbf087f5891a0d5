"""Versions: the etcd release whose API we have in full, and our own (design D12).

Clients gate features on the former (spec/cluster.md §6); the latter stands beside it in
`/version` and in the log.
"""

from kvserver import __version__ as KEYDECK_VERSION

SERVER_VERSION = "3.7.1"
CLUSTER_VERSION = "3.7.0"
STORAGE_VERSION = "3.7.0"

__all__ = ["CLUSTER_VERSION", "KEYDECK_VERSION", "SERVER_VERSION", "STORAGE_VERSION"]
