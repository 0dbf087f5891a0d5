"""Every bound of the server, with its reason. Relations between them are asserted at the end.

Names end in their unit and extreme. Values that a flag can change are the flag's default here
(spec/config.md §2); the rest are fixed.
"""

from __future__ import annotations

# Requests (spec/kv.md §12, spec/wire-api.md §3.2)
REQUEST_BYTES_MAX = 1_572_864
"""A proposal's serialised size; `--max-request-bytes`."""
GRPC_OVERHEAD_BYTES = 524_288
"""What a gRPC message may be longer than a request; the receive limit is the sum."""
TXN_OPS_MAX = 128
LAST_WORDS_SECONDS = 0.1
"""What is open when a member stops has so long, though the hand-over took all of the grace."""
REQUEST_TIMEOUT_BASE_SECONDS = 5.0
"""Plus two election timeouts (spec/kv.md E1)."""
UNAPPLIED_ENTRIES_MAX = 5000
"""Committed entries that may wait for apply before proposals are refused (spec/kv.md L3)."""

# Backend
QUOTA_BYTES_DEFAULT = 2 * 1024**3
QUOTA_BYTES_WARN = 8 * 1024**3
BACKEND_HEADROOM_BYTES = 1024**3
"""Address space beyond twice the quota: a full map would be fatal, address space is free."""
BACKEND_MAP_BYTES_MIN = 16 * 1024**3
PUT_COST_BYTES = 256
LEASE_COST_BYTES = 64
FLUSH_INTERVAL_SECONDS = 0.1
FLUSH_RECORDS_MAX = 10_000
FLUSH_BYTES_MAX = 16 * 1024 * 1024
"""Record bytes that start a flush before its time."""
UNFLUSHED_BYTES_MAX = 256 * 1024 * 1024
"""Applied bytes that LMDB does not have yet; beyond it new proposals wait (a slow disk, or a
defragmentation under heavy load, must not grow memory without bound)."""
FLUSH_SLICE_RECORDS = 1000
"""Records the flush thread writes per turn it is granted (about 0.3 ms)."""
FLUSH_SLICE_REMOVALS = 200
"""The same for compacted records: each may copy a page that nothing else touches (5 us)."""
FLUSH_SLICE_BYTES = 1024 * 1024
"""The same for large values: a slice ends with the record that reaches this."""
GRANT_SECONDS_MAX = 0.01
"""The loop waits no longer than this for a slice it granted."""
COMPACTION_BATCH_REVISIONS = 1000
COMPACTION_SLEEP_SECONDS = 0.01

# Loop
SLOW_APPLY_SECONDS = 0.1
"""`--warning-apply-duration`: slower work is logged."""
SLICE_SECONDS_MAX = 0.004
"""No request or background job holds the loop longer than this at a time (design D6)."""

# Leases (spec/lease.md)
LEASE_TTL_SECONDS_MAX = 9_000_000_000
CHECKPOINTS_PER_ENTRY_MAX = 1000
LEASE_REVOKES_PER_ROUND_MAX = 500
LEASE_EXPIRY_INTERVAL_SECONDS = 0.5
LEASE_REVOKES_IN_FLIGHT_MAX = 16

# Watches (spec/watch.md)
WATCH_QUEUE_RESPONSES_MAX = 128
WATCH_CATCH_UP_REVISIONS_MAX = 1000
WATCH_PROGRESS_INTERVAL_SECONDS = 600.0
WATCH_PROGRESS_INTERVAL_SECONDS_MIN = 0.1

STALL_TICKS = 3
"""A leader that stood still for longer asks a quorum before it renews a lease (lease.md K7)."""

# Auth (spec/auth.md)
HASHES_PENDING_MAX = 256
"""Passwords that may wait for bcrypt; one takes a tenth of a second of a core."""
HASH_THREADS = 2
JWT_CHECKED_MAX = 4096
"""Signatures remembered as good; beyond it all are checked anew."""

# Raft (spec/raft.md §1)
HEARTBEAT_SECONDS = 0.1
ELECTION_SECONDS = 1.0
APPEND_BYTES_MAX = 1024 * 1024
INFLIGHT_APPENDS_MAX = 512
APPLY_BYTES_MAX = 1024 * 1024
APPEND_HERE_BYTES_MAX = 16 * 1024
"""A member for which nobody else waits writes no larger append on the loop itself."""
COMPANY_SECONDS = 1.0
"""A client that asked for anything but a write is taken to ask again for so long."""
APPEND_HERE_SECONDS_MAX = 0.03
"""Once the disk took longer, it is left to the append thread for"""
APPEND_HERE_AGAIN_SECONDS = 10.0
"""so long: a disk that stalls holds the loop up once."""
SNAPSHOT_ENTRIES = 10_000
SNAPSHOT_CATCH_UP_ENTRIES = 5000

# Between members (spec/peer.md §3)
PEER_FRAME_BYTES_MAX = 512 * 1024 * 1024
"""One message on a stream, as etcd bounds it."""
PEER_STREAM_MESSAGES_MAX = 4096
"""Messages that wait for one stream; more are dropped and reported to raft."""
PEER_STREAM_BYTES_MAX = 32 * 1024 * 1024
"""The same in bytes: a window of full appends to a member that takes nothing would be sixteen times
as much before the link counts as broken."""
COMMIT_HELD_SECONDS = 0.002
"""A leader's message that tells a commit and nothing else waits so long for entries to go with."""
COMMIT_EAGER_SECONDS = 1.0
"""It does not wait for a member that has passed on a write or a read of its clients since."""
PEER_PIPELINE_MESSAGES_MAX = 64
PEER_PIPELINE_WORKERS = 4
PEER_IO_SECONDS_MIN = 5.0
"""Less is no deadline between members: `--raft-read-timeout` and `--raft-write-timeout` below it
are raised to it."""
PEER_HEARTBEAT_SECONDS = PEER_IO_SECONDS_MIN / 3
PEER_REDIAL_SECONDS = 0.1
PEER_STABLE_SECONDS = 5.0
"""A link must have been up this long to count in strict reconfiguration checks."""
PEER_FOREIGN_PROPOSALS_MAX = 4096
"""Forwarded proposals held while no leader is known."""
READ_RETRY_SECONDS = 0.5
JOIN_SECONDS_MAX = 10.0
PRESENCE_SECONDS_MAX = 1.0
VERSION_POLL_SECONDS = 4.0
LEADER_ASK_SECONDS = 0.05
"""Between two attempts to ask the leader something by HTTP."""
PROMOTE_ANSWER_SECONDS = 7.0
SNAPSHOT_ENVELOPE_BYTES_MAX = 64 * 1024 * 1024
PEER_SNAPSHOTS_MAX = 16
"""Whole databases on their way to members that lag."""
SNAPSHOT_ANSWER_SECONDS = 300.0
"""After the last byte of a database: the other side makes a backend of it before it answers."""
SNAPSHOT_STALL_SECONDS = 30.0
"""A database of which the other side takes nothing for so long is given up: a network that swallows
packets would keep the sender for a quarter of an hour, and the member without another one. So is
one of which nothing more comes: a sender that lost power says no farewell, and databases are taken
one at a time."""
SNAPSHOT_LOG_HOLD_SECONDS = 30.0
"""The log is not compacted for so long after a database was sent: its receiver goes on from it."""
PEER_KEPT_SECONDS_MAX = 4.0
PEER_KEPT_PER_URL_MAX = 8
"""Idle connections for short questions to other members, such as renewals of leases."""
PEER_PROBE_SECONDS = 4.0
PEER_PROBE_REPORT_SECONDS = 30.0
CLOCK_DRIFT_SECONDS_WARN = 1.0
PEER_HASH_SECONDS = 60.0
"""For another member's HashKV, which walks over its whole database in slices."""
LOG_HELD_BYTES_MAX = 256 * 1024 * 1024
LOG_HELD_ENTRIES_MAX = 200_000
"""Beyond either it is compacted all the same: a receiver so slow must begin anew, and a leader's
memory is not its to fill."""
PEER_APPLIED_WAIT_SECONDS = 1.0
"""How long another member's lease call waits until what is committed here is applied."""
REMOVED_STOP_SECONDS = 1.0
"""A removed member stops this long after it has applied its removal."""

# WAL and snapshots (spec/storage.md §2-§3)
WAL_SEGMENT_BYTES = 64_000_000
WAL_PAGE_BYTES = 4096
SECTOR_BYTES = 512
WAL_UNSYNCED_BYTES_MAX = 65_536
"""Bytes written without a sync that the next sync writes again; beyond it the file is synced."""
WAL_FILES_MAX = 5
SNAPSHOT_FILES_MAX = 5
PURGE_INTERVAL_SECONDS = 30.0

# Backups (spec/maintenance.md §6)
SNAPSHOT_CHUNK_BYTES = 32_768
SNAPSHOT_READ_BYTES = 1024 * 1024
"""Pages handed to the thread that writes them, and read back at a time."""
SNAPSHOT_STREAMS_MAX = 4
"""Backups at a time: each has the whole database on disk a second time."""
SNAPSHOT_DISK_RESERVE_BYTES = 32 * 1024 * 1024
"""What a backup leaves free on the disk that the log needs."""
IMAGE_PAGE_RUN_BYTES_MAX = 1024**3
"""One page with its overflow, when an image is read: far above any value, and a bound on memory
for a file that lies."""

# Auth
AUTH_NAME_BYTES_MAX = 32_768
"""Of a user or a role: the longest key of bbolt. etcd stops for good at a longer one, and no backup
could hold it."""

# Profiles (services/pprof.py)
PROFILE_SAMPLES_PER_SECOND = 100
PROFILE_SECONDS_DEFAULT = 30
PROFILE_SECONDS_MAX = 60
PROFILE_DEPTH_MAX = 128
PROFILE_STACKS_MAX = 20_000
"""Different stacks of one profile; what comes later is charged to its outermost function."""
PROFILE_TASKS_MAX = 1000
"""Tasks that are listed; each connection may have one."""

assert TXN_OPS_MAX > 0
assert LEASE_COST_BYTES < PUT_COST_BYTES < REQUEST_BYTES_MAX
assert HEARTBEAT_SECONDS * 5 <= ELECTION_SECONDS
assert FLUSH_SLICE_RECORDS <= FLUSH_RECORDS_MAX
assert REQUEST_BYTES_MAX < FLUSH_BYTES_MAX < UNFLUSHED_BYTES_MAX
assert WATCH_PROGRESS_INTERVAL_SECONDS >= WATCH_PROGRESS_INTERVAL_SECONDS_MIN
assert SNAPSHOT_CATCH_UP_ENTRIES < SNAPSHOT_ENTRIES
assert WAL_UNSYNCED_BYTES_MAX < WAL_SEGMENT_BYTES
assert APPEND_BYTES_MAX + REQUEST_BYTES_MAX < PEER_STREAM_BYTES_MAX
assert WAL_PAGE_BYTES % SECTOR_BYTES == 0
assert REQUEST_BYTES_MAX < IMAGE_PAGE_RUN_BYTES_MAX
assert SNAPSHOT_READ_BYTES % SNAPSHOT_CHUNK_BYTES == 0
