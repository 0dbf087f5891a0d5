"""What the WAL refuses. All of it is fatal: the member says what happened and what to do."""

from __future__ import annotations

from kvserver.errors import FatalError

RESTORE_ADVICE = (
    "The log is damaged beyond what a crash can do. Do not delete files from it: remove this "
    "member from its cluster and add it again with an empty data directory, or restore a snapshot."
)


class WalError(FatalError):
    """Root of the WAL's errors."""


class WalFileNotFound(WalError):
    """No segment begins at or below the wanted index, or a segment is missing in between."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"wal: file not found: {detail}")


class WalExists(WalError):
    """A log was to be created where there is one."""


class WalLocked(WalError):
    """Another process has the log open."""


class WalCorrupt(WalError):
    """Bytes that no crash can leave behind (spec/storage.md §2.5)."""

    def __init__(self, what: str, path: str, offset: int) -> None:
        super().__init__(f"{what} in {path!r} at position {offset}. {RESTORE_ADVICE}")
        self.path = path
        self.offset = offset


class SnapshotNotFound(WalError):
    """The log has no record of the snapshot it was opened at."""


class SnapshotMismatch(WalError):
    """The log has a snapshot record of that index and another term."""


class WalTorn(WalError):
    """A record that a crash cut off at the end of the last segment; repaired once."""

    def __init__(self, path: str, offset: int) -> None:
        super().__init__(f"wal: unexpected EOF in {path!r} after position {offset}")
        self.path = path
        self.offset = offset


class WalWriteFailed(WalError):
    """A write or sync failed. Nothing may be written or vouched for after it."""
