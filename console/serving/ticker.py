"""Something that the process that serves does by itself, now and then, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import connections

STOP_SECONDS_MAX = 5.0

log = logging.getLogger(__name__)


class Ticker:
    """`seconds` says how long to wait for the next turn. What a turn raises is logged, and the
    next one tries again: a database that is locked or away for a moment ends nothing."""

    def __init__(self, name: str, seconds: Callable[[], float], turn: Callable[[], None]) -> None:
        self._name = name
        self._seconds = seconds
        self._turn = turn
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS_MAX)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._seconds()):
                try:
                    self._turn()
                except Exception:
                    log.exception("%s", self._name)
        finally:
            connections.close_all()
