"""Small file systems of a member's own, to be filled up."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

DISK_BYTES = 320 * 1024 * 1024
"""Of a member whose disk is to fill up: two log segments, the database and room for a while."""


def may_mount() -> bool:
    """Whether small file systems can be had here: root in a namespace that lets it mount."""
    with tempfile.TemporaryDirectory() as directory:
        if not _mount(Path(directory), 1024 * 1024):
            return False
        unmount(Path(directory))
    return True


def small_disk(directory: Path) -> Path | None:
    directory.mkdir(parents=True, mode=0o700)
    return directory if _mount(directory, DISK_BYTES) else None


def _mount(directory: Path, size_bytes: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "tmpfs", directory]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def unmount(directory: Path) -> None:
    # Lazily: whatever still holds a file there lets go of it in its own time.
    subprocess.run(["umount", "-l", directory], capture_output=True, check=False)


def ballast(disk: Path) -> Path:
    return disk / "ballast"
