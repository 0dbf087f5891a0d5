"""Log lines as etcd writes them (spec/config.md §6): one JSON object, or console text, per line.

    {"level":"info","ts":"2026-01-02T15:04:05.123456Z","caller":"wal/wal.py:12","msg":"…", …fields}

A `Logger` is a value that is passed around; there is no global one. Each line is one write and is
flushed, because scripts wait for lines (verification: run-time contract). Safe from any thread:
one `write` call per line. Log files, and how they are rotated, are in `log_files.py`.

Secrets: callers never pass passwords or tokens as fields.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

from kvserver.clock import Clock, SystemClock, utc

PACKAGE_DIRECTORY = os.path.dirname(os.path.abspath(__file__)) + os.sep
LINES_PER_SECOND_FIRST = 100
"""Sampling: of one message per second the first so many lines, then every hundredth."""
LINES_PER_SECOND_THEN = 100


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARN = 30
    ERROR = 40
    PANIC = 50
    FATAL = 60


LEVELS = {level.name.lower(): level for level in Level}


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: str) -> None:
        """One whole line, newline included; durable as far as the process is concerned."""

    def close(self) -> None: ...


Format = Callable[[Level, str, str, str, dict[str, Any]], str]


def json_line(level: Level, ts: str, caller: str, msg: str, fields: dict[str, Any]) -> str:
    record = {"level": level.name.lower(), "ts": ts, "caller": caller, "msg": msg, **fields}
    return json.dumps(record, default=_plain, separators=(",", ":"), ensure_ascii=False) + "\n"


def console_line(level: Level, ts: str, caller: str, msg: str, fields: dict[str, Any]) -> str:
    parts = [ts, level.name.lower(), caller, msg]
    if fields:
        parts.append(json.dumps(fields, default=_plain, ensure_ascii=False))
    return "\t".join(parts).replace("\n", "\\n") + "\n"


FORMATS: dict[str, Format] = {"json": json_line, "console": console_line}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)


class Logger:
    """Lines of at least `level` to the sinks. `bind` makes one with fixed fields."""

    def __init__(
        self,
        sinks: tuple[Sink, ...],
        level: Level = Level.INFO,
        line: Format = json_line,
        clock: Clock | None = None,
    ) -> None:
        self.level = level
        self._sinks = sinks
        self._line = line
        self._clock = clock or SystemClock()
        self._sampler = _Sampler()

    def debug(self, msg: str, **fields: Any) -> None:
        self._emit(Level.DEBUG, msg, fields)

    def info(self, msg: str, **fields: Any) -> None:
        self._emit(Level.INFO, msg, fields)

    def warn(self, msg: str, **fields: Any) -> None:
        self._emit(Level.WARN, msg, fields)

    def error(self, msg: str, **fields: Any) -> None:
        self._emit(Level.ERROR, msg, fields)

    def fatal(self, msg: str, **fields: Any) -> None:
        """The last line before the process ends; ending it is the caller's business."""
        self._emit(Level.FATAL, msg, fields)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def _emit(self, level: Level, msg: str, fields: dict[str, Any]) -> None:
        if level < self.level or not self._sinks:
            return
        now = self._clock.wall()
        if level < Level.ERROR and not self._sampler.passes(level, msg, int(now)):
            return
        named = {_field_name(name): value for name, value in fields.items()}
        line = self._line(level, timestamp(now), _caller(3), msg, named)
        for sink in self._sinks:
            sink.write(line)


def _field_name(name: str) -> str:
    """Keyword arguments cannot hold dashes; etcd's field names do. Two underscores are one."""
    return name.replace("__", "\0").replace("_", "-").replace("\0", "_")


class _Sampler:
    """Keeps a flood of one message from filling the disk."""

    def __init__(self) -> None:
        self._second = 0
        self._counts: dict[tuple[Level, str], int] = {}

    def passes(self, level: Level, msg: str, second: int) -> bool:
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts.get((level, msg), 0) + 1
        self._counts[level, msg] = count
        over = count - LINES_PER_SECOND_FIRST
        return over <= 0 or over % LINES_PER_SECOND_THEN == 0


def timestamp(wall_seconds: float) -> str:
    return utc(wall_seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text: str) -> float:
    """The opposite of `timestamp`, for its form and for Go's with nanoseconds and an offset.
    Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def _caller(depth: int) -> str:
    frame = sys._getframe(depth)
    path = frame.f_code.co_filename
    if path.startswith(PACKAGE_DIRECTORY):
        path = path[len(PACKAGE_DIRECTORY) :]
    else:
        path = os.sep.join(path.split(os.sep)[-2:])
    return f"{path}:{frame.f_lineno}"


class StreamSink:
    """A file descriptor that somebody else opened: standard output or standard error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError:
                # A closed pipe must not end the server.
                return

    def close(self) -> None:
        """The descriptor is not ours."""


class JournalSink:
    """systemd's journal, by its own datagram protocol; silent where there is no journal."""

    ADDRESS = "/run/systemd/journal/socket"

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, line: str) -> None:
        message = line.rstrip("\n").encode("utf-8", "backslashreplace")
        length = len(message).to_bytes(8, "little")
        data = b"SYSLOG_IDENTIFIER=etcd\nMESSAGE\n" + length + message + b"\n"
        try:
            self._socket.sendto(data, self._address)
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


NULL_LOGGER = Logger(())
"""Says nothing."""
