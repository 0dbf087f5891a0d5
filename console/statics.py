"""Static URLs that change with the file, so that an upgrade is never seen half."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage


class FingerprintedStorage(StaticFilesStorage):
    """`url(name)` ends in a short hash of the file's content."""

    def url(self, name: str | None) -> str:
        address = super().url(name)
        mark = _mark(name or "") if settings.DEBUG is False else ""
        return f"{address}?v={mark}" if mark else address


@cache
def _mark(name: str) -> str:
    path = finders.find(name)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:10] if path else ""
