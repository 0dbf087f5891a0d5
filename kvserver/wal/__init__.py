"""The write-ahead log, in etcd's format. This docstring is the format's specification.

Directory
    `<sequence %016x>-<first index %016x>.wal`   segments; sequences are contiguous, the first
                                                 index is that of the first entry that may be in it
    `0.tmp`, `1.tmp`                             the next segment, preallocated, names in turn
    `*.wal.broken`                               copies kept by the repair of a torn tail
    A log is built in `<directory>.tmp` and renamed, then the parent is synced. The directory is
    0700, files are 0600. A process holds an exclusive lock on every segment it may still need.

Segment
    Preallocated to 64,000,000 zero bytes. Frames follow one another from offset 0; a frame whose
    length is 0 ends the written part. Each segment begins with a crc record that carries the
    chain's value over the border (0 in the first), then metadata; from the second on, then the
    hard state; in the first, then a snapshot record {0, 0}. After a write that reaches the
    segment's size comes the cut: truncate to the used length, sync; write the head of the
    prepared file, sync; rename it, sync the directory. So every segment but the last ends exactly
    at its last record.

Frame
    8-byte little-endian length · record · 0-7 zero bytes to a multiple of 8. The low 56 bits of
    the length are the record's size; with padding the top byte is 0x80 | padding.

Record
    protobuf {1: type, 2: crc, 3: data}. Types: 1 metadata {1 node, 2 cluster}; 2 entry
    (raftpb.Entry); 3 state (raftpb.HardState); 4 crc, no data; 5 snapshot {1 index, 2 term, 3
    conf_state}. CRC-32C, rolling: crc = crc32c(data, previous crc); a crc record restarts it.

Meaning
    An entry at index i replaces every entry from i on. The last state record counts. A snapshot
    record vouches for a `.snap` file that is already durable.

What a crash can leave, and what is done about it
    - a log half made in `<directory>.tmp`: not a log; removed when one is made again;
    - `0.tmp` or `1.tmp` in any state, with or without a head: removed;
    - a segment truncated to its used length with no successor: it goes on past its size and is
      cut after the next write;
    - zeroes where a frame's length would be, and anything after them: the end of the log; what
      follows is zeroed before anything is appended;
    - a torn record at the end of the last segment: the file ends inside it, or its protobuf or CRC
      is bad and one of the 512-byte sectors it covers is all zero. Cut off, once, and the file as
      it was kept beside it;
    - after a write that was not synced (a hard state in which only the commit moved): any of its
      sectors old or new, which is one of the above. The next synced write contains those bytes
      again, because syncing a range vouches for that range only;
    - a `.snap` file without its snapshot record: ignored (kvserver/snap).
    Anything else is corruption and refused: a wrong CRC without a lost sector, damage in an
    earlier segment, a gap in the sequence or the entries, differing metadata, a length that is
    proven wrong by the records behind it.

Not here: when to snapshot, what entries mean, who may read them.
"""

from kvserver.wal.encoder import AppendBatch
from kvserver.wal.errors import (
    SnapshotMismatch,
    SnapshotNotFound,
    WalCorrupt,
    WalError,
    WalExists,
    WalFileNotFound,
    WalLocked,
    WalWriteFailed,
)
from kvserver.wal.payload import (
    SnapshotRecord,
    WalMetadata,
    decode_metadata,
    encode_metadata,
)
from kvserver.wal.purge import purge_segments
from kvserver.wal.reader import WalContents
from kvserver.wal.segment import has_segments
from kvserver.wal.wal import Wal

__all__ = [
    "AppendBatch",
    "SnapshotMismatch",
    "SnapshotNotFound",
    "SnapshotRecord",
    "Wal",
    "WalContents",
    "WalCorrupt",
    "WalError",
    "WalExists",
    "WalFileNotFound",
    "WalLocked",
    "WalMetadata",
    "WalWriteFailed",
    "decode_metadata",
    "encode_metadata",
    "has_segments",
    "purge_segments",
]
