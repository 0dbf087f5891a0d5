"""A value made from files, made again when one of them has changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from kvserver.tls.settings import TlsError, Warn

T = TypeVar("T")
Signature = tuple[tuple[int, int, int, int] | None, ...]


class Reloading(Generic[T]):
    """Costs a stat per file and look. What cannot be made of the new files is reported once, and
    the former value stays: a certificate is often there a moment before its key."""

    def __init__(self, paths: Iterable[str], make: Callable[[], T], warn: Warn) -> None:
        """Raises what `make` raises: at the start there is nothing to fall back on."""
        self._paths = tuple(path for path in paths if path)
        self._make = make
        self._warn = warn
        self._seen = self._signature()
        self._value = make()

    def value(self) -> T:
        seen = self._signature()
        if seen != self._seen:
            self._seen = seen
            try:
                self._value = self._make()
            except TlsError as error:
                self._warn(
                    "cannot use changed TLS files; going on with the former ones",
                    files=list(self._paths),
                    error=str(error),
                )
        return self._value

    def _signature(self) -> Signature:
        return tuple(_signature_of(path) for path in self._paths)


def _signature_of(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
