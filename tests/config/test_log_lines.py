"""Log lines (spec/config.md §6; verification: run-time contract)."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from kvserver.logs import (
    LEVELS,
    LINES_PER_SECOND_FIRST,
    LINES_PER_SECOND_THEN,
    JournalSink,
    Level,
    Logger,
    StreamSink,
    console_line,
    json_line,
    timestamp,
)


class FixedClock:
    def __init__(self, wall: float) -> None:
        self.now = wall

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Lines(list[str]):
    def write(self, line: str) -> None:
        self.append(line)

    def close(self) -> None:
        self.append("closed")


NOON = 1_767_355_445.123456


def test_a_line_is_one_json_object_in_etcds_order() -> None:
    lines = Lines()
    log = Logger((lines,), clock=FixedClock(NOON))
    log.info("saved snapshot", snapshot_index=5, path=b"\xff", nodes={2, 1})
    (line,) = lines
    assert line.endswith("\n")
    found = json.loads(line)
    assert list(found) == ["level", "ts", "caller", "msg", "snapshot-index", "path", "nodes"]
    assert found["level"] == "info"
    assert found["ts"] == "2026-01-02T12:04:05.123456Z" == timestamp(NOON)
    assert found["caller"].startswith("config/test_log_lines.py:")
    assert (found["snapshot-index"], found["path"], found["nodes"]) == (5, "\\xff", [1, 2])


def test_text_with_line_breaks_stays_on_one_line() -> None:
    assert json_line(Level.WARN, "t", "c", "a\nb", {}).count("\n") == 1
    assert console_line(Level.WARN, "t", "c", "a\nb", {"k": "x\ny"}).count("\n") == 1


def test_console_lines_are_separated_by_tabs() -> None:
    assert console_line(Level.ERROR, "ts", "a/b.py:1", "msg", {"k": 1}) == (
        'ts\terror\ta/b.py:1\tmsg\t{"k": 1}\n'
    )
    assert console_line(Level.ERROR, "ts", "c", "msg", {}) == "ts\terror\tc\tmsg\n"


def test_levels_below_the_wanted_one_are_silent() -> None:
    lines = Lines()
    log = Logger((lines,), Level.WARN)
    log.debug("d")
    log.info("i")
    log.warn("w")
    log.error("e")
    log.fatal("f")
    assert [json.loads(line)["level"] for line in lines] == ["warn", "error", "fatal"]
    assert set(LEVELS) == {"debug", "info", "warn", "error", "panic", "fatal"}


def test_a_flood_of_one_message_is_sampled_by_the_second() -> None:
    lines, clock = Lines(), FixedClock(NOON)
    log = Logger((lines,), clock=clock)
    for _ in range(LINES_PER_SECOND_FIRST + 2 * LINES_PER_SECOND_THEN):
        log.info("flood")
    assert len(lines) == LINES_PER_SECOND_FIRST + 2
    log.info("other")
    log.error("flood")
    assert len(lines) == LINES_PER_SECOND_FIRST + 4
    clock.now += 1
    log.info("flood")
    assert len(lines) == LINES_PER_SECOND_FIRST + 5


def test_lines_reach_a_stream_at_once() -> None:
    reading, writing = os.pipe()
    Logger((StreamSink(writing),)).info("hello")
    assert json.loads(os.read(reading, 1000))["msg"] == "hello"
    os.close(reading)
    Logger((StreamSink(writing),)).info("to nobody")
    os.close(writing)


def test_the_journal_gets_its_own_format(tmp_path: Path) -> None:
    address = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(address)
        sink = JournalSink(address)
        sink.write("line\n")
        data = journal.recv(1000)
        sink.close()
    assert data.endswith(b"MESSAGE\n" + (4).to_bytes(8, "little") + b"line\n")


def test_no_journal_is_no_failure(tmp_path: Path) -> None:
    sink = JournalSink(str(tmp_path / "none"))
    sink.write("line\n")
    sink.close()


@pytest.mark.parametrize("level", ["debug", "panic"])
def test_names_of_levels(level: str) -> None:
    assert LEVELS[level].name.lower() == level
