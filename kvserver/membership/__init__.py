"""Who is in the cluster: members, their ids and attributes, the cluster version.

Membership comes from the log only (spec/cluster.md §1-§3). `Membership` is its state machine; it
persists into the backend's `members`, `members_removed` and `cluster` tables with the applied
index, so that a removal or a promotion can never be half done.
"""

from kvserver.membership.cluster import Membership
from kvserver.membership.ids import cluster_id, member_id
from kvserver.membership.types import Member

__all__ = ["Member", "Membership", "cluster_id", "member_id"]
