"""The consensus core: pure Raft, without I/O, clock or randomness of its own (design D9).

A member owns one `RawNode` and drives it from its event loop: messages, ticks and proposals go
in, `Ready` values come out, and `plan_ready` says in which order their duties are done. The rules
are those of spec/raft.md, which are those of etcd's members, so that both can share a cluster.

Where to look:

    types        values on the wire and in the log        codec       values <-> raftpb bytes
    storage, log the log in memory and its cursors        quorum      majorities, also of two
    progress     what the leader knows of one follower    tracker     all of them, and the votes
    inflights    the window of unanswered appends         confchange  configuration -> configuration
    state        the mutable state and its transitions    step        the term rule and dispatch
    election     ticks, campaigns, votes                  follower, candidate, leader: handlers
    replication  what the leader sends                    read_only   reads confirmed by heartbeats
    commits      who learns of a commit, and when         config      the settings
    reconfigure  applied conf changes                     ready, plan the duties and their order
    rawnode      the interface                            status      a picture for operators
    invariants   assertions that stay on
"""

from kvserver.raft.config import Config
from kvserver.raft.plan import plan_ready
from kvserver.raft.rawnode import RawNode
from kvserver.raft.ready import Ready
from kvserver.raft.storage import MemoryStorage
from kvserver.raft.types import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    ProposalDropped,
    ReadState,
    Role,
    Snapshot,
    SoftState,
)

__all__ = [
    "ConfChange",
    "ConfChangeSingle",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "Entry",
    "EntryType",
    "HardState",
    "MemoryStorage",
    "Message",
    "MessageType",
    "ProposalDropped",
    "RawNode",
    "ReadState",
    "Ready",
    "Role",
    "Snapshot",
    "SoftState",
    "plan_ready",
]
