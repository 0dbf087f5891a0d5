"""The only door to a cluster: wire messages in, frozen records and a few domain errors out.

A `Reader` has no method that changes anything; views that answer GET are given one, so that
opening a page cannot write (console.md §3 trap 12). A `Writer` is a `Reader` that may.
Nothing outside this package imports `kvserver.client` or sees a protobuf message.
"""

from console.gateway.clients import check_endpoint, clients
from console.gateway.errors import (
    ClusterError,
    Compacted,
    Denied,
    FateUnknown,
    NoLeader,
    TooLarge,
    Unreachable,
)
from console.gateway.reader import Reader
from console.gateway.records import (
    Event,
    History,
    Key,
    LeaseList,
    LeaseTime,
    Listing,
    Part,
    Written,
)
from console.gateway.writer import Writer

__all__ = [
    "ClusterError",
    "Compacted",
    "Denied",
    "Event",
    "FateUnknown",
    "History",
    "Key",
    "LeaseList",
    "LeaseTime",
    "Listing",
    "NoLeader",
    "Part",
    "Reader",
    "TooLarge",
    "Unreachable",
    "Writer",
    "Written",
    "check_endpoint",
    "clients",
]
