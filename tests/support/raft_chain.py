"""The smallest state machine that tells histories apart: a checksum of all entries in order."""

from __future__ import annotations

import zlib

from kvserver.raft import Entry


def link(state: int, entry: Entry) -> int:
    return zlib.crc32(b"%d %d %b" % (entry.index, entry.term, entry.data), state)
