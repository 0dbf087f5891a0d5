"""Failpoints (verification: run-time contract)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kvserver import failpoints
from kvserver.raft.types import ConfState, Snapshot
from kvserver.snap import Snapshotter
from tests.wal.logs_for_tests import create, disk, entries


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    failpoints.disarm_all()
    yield
    failpoints.disarm_all()


def test_nothing_happens_while_nothing_is_armed() -> None:
    assert failpoints.hit("raftBeforeSave") is None


def test_return_gives_its_text_to_the_place() -> None:
    failpoints.arm("beforeCommit", 'return("text")')
    assert failpoints.hit("beforeCommit") == "text"
    assert failpoints.hit("afterCommit") is None
    failpoints.arm("beforeCommit", "off")
    assert failpoints.hit("beforeCommit") is None


def test_only_the_first_hits_count() -> None:
    failpoints.arm("beforeCommit", '2*return("x")')
    assert [failpoints.hit("beforeCommit") for _ in range(3)] == ["x", "x", None]


@pytest.mark.parametrize(
    ("term", "seconds"),
    [('sleep("1s")', 1.0), ('sleep("1m30s")', None), ("sleep(100)", 0.1), ('sleep("20ms")', 0.02)],
)
def test_sleep_lasts_what_it_says(term: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="could not parse"):
            failpoints.arm("beforeCommit", term)
        return
    failpoints.arm("beforeCommit", term)
    slept: list[float] = []
    failpoints._act("beforeCommit", sleep=slept.append)
    assert slept == [seconds]


def test_panic_ends_the_process_without_a_word() -> None:
    script = (
        "from kvserver import failpoints; failpoints.arm('raftAfterSave', 'panic');"
        "failpoints.hit('raftBeforeSave'); print('alive', flush=True);"
        "failpoints.hit('raftAfterSave'); print('never')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, env={**os.environ}
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"alive\n"


@pytest.mark.parametrize("term", ["", "explode", 'sleep("soon")', "return(", "x*panic"])
def test_what_is_no_term(term: str) -> None:
    with pytest.raises(ValueError, match="could not parse"):
        failpoints.arm("beforeCommit", term)


def test_the_variable_arms_several() -> None:
    failpoints.arm_from_variable('beforeCommit=return("a");afterCommit=return("b")')
    assert failpoints.hit("beforeCommit") == "a"
    assert failpoints.hit("afterCommit") == "b"
    with pytest.raises(ValueError, match="unknown failpoint"):
        failpoints.arm_from_variable("nope=panic")


def test_the_endpoints_answers() -> None:
    assert failpoints.answer("PUT", "/beforeCommit", 'return("x")') == (204, "")
    status, text = failpoints.answer("GET", "/", "")
    assert status == 200
    assert 'beforeCommit=return("x")\n' in text
    assert "raftBeforeSave=\n" in text
    assert len(text.splitlines()) == len(failpoints.NAMES)
    failpoints.hit("beforeCommit")
    assert failpoints.answer("GET", "/beforeCommit/count", "") == (200, "1")
    assert failpoints.answer("GET", "/beforeCommit", "") == (200, 'return("x")\n')
    assert failpoints.answer("DELETE", "/beforeCommit", "") == (204, "")
    assert failpoints.answer("DELETE", "/beforeCommit", "")[0] == 404
    assert failpoints.answer("GET", "/beforeCommit", "")[0] == 404
    assert failpoints.answer("GET", "/beforeCommit/count", "")[0] == 404
    assert failpoints.answer("PUT", "/beforeCommit", "explode")[0] == 400
    assert failpoints.answer("PUT", "/nope", "panic")[0] == 404
    assert failpoints.answer("POST", "/beforeCommit", "panic")[0] == 405


def test_the_logs_places_are_hit_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(failpoints, "hit", seen.append)
    fs = disk()
    wal = create(fs)
    wal.save(None, entries(1, 1))
    assert seen == ["raftBeforeSave", "raftAfterSave"]
    seen.clear()
    fs.make_dir("/member/snap")
    Snapshotter(fs, "/member/snap").save(Snapshot(1, 1, ConfState(voters=(1,))))
    wal.save_snapshot(1, 1, None)
    wal.release_to(1)
    assert seen == ["raftBeforeSaveSnap", "raftAfterSaveSnap", "raftAfterWALRelease"]
    assert set(seen) <= set(failpoints.NAMES)
