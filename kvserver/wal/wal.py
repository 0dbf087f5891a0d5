"""The log as the member uses it: create, open, read once, then append.

Two owners (design D1): `encode` and `encode_snapshot` belong to the loop, `write`, `release_to`
and `close` to the append thread. Only batches cross. `create`, `open` and `read_all` run before
there are threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from kvserver.fs import FileSystem
from kvserver.limits import WAL_SEGMENT_BYTES
from kvserver.logs import NULL_LOGGER, Logger
from kvserver.raft.types import ConfState, Entry, HardState
from kvserver.wal.encoder import AppendBatch, Position, WalEncoder, segment_head
from kvserver.wal.errors import WalError, WalExists, WalLocked, WalTorn
from kvserver.wal.frame import RecordType, encode_record
from kvserver.wal.payload import SnapshotRecord, encode_snapshot_record
from kvserver.wal.reader import LogReader, WalContents
from kvserver.wal.repair import clear_tail, repair_tail
from kvserver.wal.segment import (
    NEXT_NAMES,
    SegmentName,
    has_segments,
    list_segments,
    select_from,
)
from kvserver.wal.writer import SegmentWriter


class Wal:
    """An open log. Made by `create` or `open`."""

    def __init__(
        self,
        fs: FileSystem,
        directory: str,
        held: list[tuple[SegmentName, int]],
        segment_bytes: int,
        log: Logger,
        at: tuple[int, int],
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._held = held
        self._segment_bytes = segment_bytes
        self._log = log
        self._at = at
        self._encoder: WalEncoder | None = None
        self._writer = SegmentWriter(fs, directory, held, segment_bytes)
        self.write = self._writer.write
        """Write one batch, durably if it must be. `WalWriteFailed` is final. The append thread's,
        or the loop's while that has nothing to do."""

    # -- beginning

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        directory: str,
        metadata: bytes,
        *,
        segment_bytes: int = WAL_SEGMENT_BYTES,
        log: Logger = NULL_LOGGER,
    ) -> Wal:
        """Begin a log. It is built beside its place and renamed there, so that a half-made one
        never counts (spec/storage.md §1)."""
        if has_segments(fs, directory):
            raise WalExists(f"wal: {directory!r} already holds a log")
        building = directory.rstrip(os.sep) + ".tmp"
        if fs.exists(building):
            fs.remove_tree(building)
        fs.make_dir(building)
        name = SegmentName(0, 0)
        handle = fs.create(os.path.join(building, str(name)))
        if not fs.lock(handle):
            raise WalLocked(f"wal: {building!r} is locked by another process")
        fs.allocate(handle, segment_bytes)
        head, crc = segment_head(0, metadata)
        frame, crc = encode_record(
            RecordType.SNAPSHOT, encode_snapshot_record(SnapshotRecord(0, 0)), crc
        )
        fs.write(handle, head + frame, 0, sync=False)
        fs.sync(handle)
        fs.sync_dir(building)
        _make_room(fs, directory)
        fs.rename(building, directory)
        fs.sync_dir(os.path.dirname(os.path.abspath(directory)))
        wal = cls(fs, directory, [(name, handle)], segment_bytes, log, (0, 0))
        wal._start(Position(0, len(head + frame), crc, 0, metadata, HardState()))
        return wal

    @classmethod
    def open(
        cls,
        fs: FileSystem,
        directory: str,
        at: tuple[int, int] = (0, 0),
        *,
        segment_bytes: int = WAL_SEGMENT_BYTES,
        log: Logger = NULL_LOGGER,
    ) -> Wal:
        """Open and lock the segments that hold the entries after the snapshot `at` (index,
        term). `read_all` must follow before anything is appended."""
        segments, foreign = list_segments(fs, directory)
        for name in foreign:
            log.warn("ignored file in WAL directory", path=os.path.join(directory, name))
        held: list[tuple[SegmentName, int]] = []
        try:
            for segment in select_from(segments, at[0], directory):
                handle = fs.open(os.path.join(directory, str(segment)))
                held.append((segment, handle))
                if not fs.lock(handle):
                    raise WalLocked(
                        f"wal: {directory!r} is locked by another process: stop the server that "
                        "uses this data directory first"
                    )
        except BaseException:
            for _, handle in held:
                fs.close(handle)
            raise
        return cls(fs, directory, held, segment_bytes, log, at)

    def read_all(self) -> WalContents:
        """Everything after the snapshot the log was opened at. A torn tail is repaired once.

        Raises `WalError`: corruption, a missing snapshot record, a hole in the entries.
        """
        try:
            reader, image = self._read()
        except WalTorn as torn:
            self._log.warn("repairing WAL", path=torn.path, position=torn.offset, error=str(torn))
            repair_tail(self._fs, torn.path, self._held[-1][1], torn.offset)
            self._log.info("repaired WAL", path=torn.path, copy=torn.path + ".broken")
            reader, image = self._read()
        contents = reader.finish()
        name, handle = self._held[-1]
        clear_tail(self._fs, handle, image, reader.offset, self._segment_bytes)
        for stale in NEXT_NAMES:
            path = os.path.join(self._directory, stale)
            if self._fs.exists(path):
                self._fs.unlink(path)
        self._start(
            Position(
                name.sequence,
                reader.offset,
                reader.crc,
                max(reader.last_index, self._at[0]),
                contents.metadata,
                contents.hard_state,
            )
        )
        return contents

    def _read(self) -> tuple[LogReader, bytes]:
        reader = LogReader(self._at)
        image = b""
        last, _ = self._held[-1]
        for name, _ in self._held:
            path = os.path.join(self._directory, str(name))
            image = self._fs.read_file(path)
            reader.read(path, image, is_last=name is last)
        return reader, image

    def _start(self, position: Position) -> None:
        self._encoder = WalEncoder(position, self._segment_bytes)
        self._writer.prepare_next()

    # -- appending: the loop

    def encode(
        self, hard_state: HardState | None, entries: Sequence[Entry], must_sync: bool
    ) -> AppendBatch:
        """The bytes of one Ready. Loop only; batches must be written in this order."""
        encoder = self._encoder or self._ready_encoder()
        return encoder.encode(hard_state, entries, must_sync)

    def encode_snapshot(self, index: int, term: int, conf_state: ConfState | None) -> AppendBatch:
        """The record of a snapshot whose file is already durable. Loop only."""
        return self._ready_encoder().encode_snapshot(index, term, conf_state)

    @property
    def last_index(self) -> int:
        """The last index encoded. Loop only."""
        return self._ready_encoder().last_index

    def _ready_encoder(self) -> WalEncoder:
        if self._encoder is None:
            raise WalError("wal: not read yet, so it cannot be appended to")
        return self._encoder

    # -- appending: the append thread

    def save(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Encode and write at once, synced: for tools and tests, where there are no threads."""
        self.write(self.encode(hard_state, entries, True))

    def save_snapshot(self, index: int, term: int, conf_state: ConfState | None) -> None:
        """Encode and write a snapshot record at once, where there are no threads."""
        self.write(self.encode_snapshot(index, term, conf_state))

    def release_to(self, index: int) -> int:
        """Unlock segments that hold only entries before `index`; how many."""
        return self._writer.release_to(index)

    def close(self) -> None:
        self._writer.close()


def _make_room(fs: FileSystem, directory: str) -> None:
    """An empty directory may stand where the log goes; somebody's files may not."""
    if not fs.exists(directory):
        return
    names = [name for name in fs.listdir(directory) if name not in NEXT_NAMES]
    if names:
        raise WalExists(f"wal: {directory!r} holds no log but other files, e.g. {names[0]!r}")
    fs.remove_tree(directory)
