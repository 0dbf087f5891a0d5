"""Leases: keys that die with their owner (spec/lease.md).

`lessor` is the state machine and the primary's duties, `lease` one lease, `deadlines` the queue of
expiries, `checkpoints` the remaining times that go to the log. No clock and no I/O here.
"""

from kvserver.lease.lessor import Lessor, NotPrimary, ttl_seconds_min

__all__ = ["Lessor", "NotPrimary", "ttl_seconds_min"]
