"""What opening does to the end of the last segment before anything is appended to it."""

from __future__ import annotations

import contextlib

from kvserver.fs import FileSystem

_BLOCK_BYTES = 1 << 20
_ZEROS = bytes(_BLOCK_BYTES)


def repair_tail(fs: FileSystem, path: str, handle: int, good_bytes: int) -> None:
    """Cut a torn record off, keeping a copy of the file as it was (spec/storage.md §2.5)."""
    copy = path + ".broken"
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(copy)
    broken = fs.create(copy)
    try:
        fs.write(broken, fs.read_file(path), 0, sync=False)
        fs.sync(broken)
    finally:
        fs.close(broken)
    fs.truncate(handle, good_bytes)
    fs.sync(handle)


def clear_tail(
    fs: FileSystem, handle: int, image: bytes, good_bytes: int, segment_bytes: int
) -> None:
    """Zero everything after the last good record, so that stale bytes never look like records."""
    if len(image) >= segment_bytes and is_zero_from(image, good_bytes):
        return
    fs.truncate(handle, good_bytes)
    fs.allocate(handle, segment_bytes)
    fs.sync(handle)


def is_zero_from(image: bytes, offset: int) -> bool:
    while offset < len(image):
        rest = min(_BLOCK_BYTES, len(image) - offset)
        if not image.startswith(_ZEROS if rest == _BLOCK_BYTES else bytes(rest), offset):
            return False
        offset += rest
    return True
