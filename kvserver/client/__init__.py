"""A thin synchronous client of the etcd v3 gRPC API, ours or a real etcd's.

What it adds to generated stubs: several endpoints with failover, TLS, an auth token that is
renewed when a member forgot it, and one rule about retries: **a read may be tried on every
endpoint, a write is sent at most once**. A write whose fate is unknown says so
(`CallFailed.fate_is_unknown`) instead of being repeated.

Watches come in two shapes: `Replay` reads history to a known end, `Follow` goes on from a
revision over broken streams. It is not a cache and not a session: no leases are kept alive.
Thread-safe; one `Client` a cluster is meant to be shared.
"""

from kvserver.client.client import Answer, Client
from kvserver.client.config import ClientConfig, Endpoint
from kvserver.client.download import Download
from kvserver.client.failure import CallFailed
from kvserver.client.follow import Events, Follow, Gap, Live, Resuming
from kvserver.client.replay import Replay

__all__ = [
    "Answer",
    "CallFailed",
    "Client",
    "ClientConfig",
    "Download",
    "Endpoint",
    "Events",
    "Follow",
    "Gap",
    "Live",
    "Replay",
    "Resuming",
]
