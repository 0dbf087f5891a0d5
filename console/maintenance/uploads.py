"""Backups that somebody sent from a machine of one's own: files beside the saved snapshots, told
from them by their names, looked into like them, and gone after some days. No Django in here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

PREFIX = "upload-"
KEPT = timedelta(days=7)
NAME_CHARACTERS_MAX = 60
NAME = re.compile(rf"{PREFIX}(\d{{8}}T\d{{6}}Z)-[\w.-]*\.db", re.ASCII)


def name_for(sent: str, at: datetime) -> str:
    """Where a file of this name goes. Only letters that are harmless everywhere stay."""
    bare = re.sub(r"[^\w.-]+", "-", Path(sent).name, flags=re.ASCII).strip(".-")
    bare = bare.removesuffix(".db")[:NAME_CHARACTERS_MAX] or "backup"
    return f"{PREFIX}{at:%Y%m%dT%H%M%SZ}-{bare}.db"


def is_upload(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def ends_at(name: str) -> datetime:
    """When it is removed: a while after it came, which its name tells."""
    found = NAME.fullmatch(name)
    assert found, "not asked of others"
    return datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) + KEPT


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path

    @property
    def cluster(self) -> str:
        return self.path.parent.name


def past(directory: Path, now: datetime) -> Iterator[Upload]:
    """Uploads of all clusters whose time is over, and parts of some that never ended."""
    for path in sorted(directory.glob(f"*/{PREFIX}*")):
        name = path.name.removesuffix(".part")
        if is_upload(name) and ends_at(name) < now:
            yield Upload(path)
