"""Failpoints: places where a test may make the member die, stall or misbehave.

A place is `failpoints.hit("raftBeforeSave")`; while nothing is armed that is one function call and
one truth test. The terms and the HTTP surface are those of etcd's failpoints, so that the same
scripts drive both: `panic`, `sleep("1s")` or `sleep(100)` (milliseconds), `return("text")`, `off`,
each with an optional `N*` in front (only the first N hits).

A test in the same process may also have a place call it back (`arm_call`).

Armed only by tests: through the variable `GOFAIL_FAILPOINTS` (`name=term;name=term`) or the
endpoint that `GOFAIL_HTTP` opens, for which `answer` is the whole logic.

Owner: any thread may hit; a term is one reference in a dict, replaced as a whole.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

NAMES = (
    "afterCommit",
    "applyBeforeOpenSnapshot",
    "beforeApplyOneConfChange",
    "beforeApplyOneEntryNormal",
    "beforeCommit",
    "beforeSendWatchResponse",
    "beforeSyncWatchers",
    "compactAfterCommitBatch",
    "compactAfterCommitScheduledCompact",
    "compactAfterSetFinishedCompact",
    "compactBeforeCommitBatch",
    "compactBeforeCommitScheduledCompact",
    "compactBeforeSetFinishedCompact",
    "defragBeforeCopy",
    "defragBeforeRename",
    "raftAfterApplySnap",
    "raftAfterSave",
    "raftAfterSaveSnap",
    "raftAfterWALRelease",
    "raftBeforeApplySnap",
    "raftBeforeFollowerSend",
    "raftBeforeLeaderSend",
    "raftBeforeSave",
    "raftBeforeSaveSnap",
)

_TERM = re.compile(
    r"""\s*(?:(?P<count>\d+)\*)?
    (?P<action>panic|sleep|return|off)
    (?:\(\s*(?:"(?P<text>[^"]*)"|(?P<number>\d+))?\s*\))?\s*$""",
    re.VERBOSE,
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_UNIT_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _die() -> None:
    """End as a power cut would: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


@dataclass(slots=True)
class _Term:
    text: str
    action: str
    argument: str
    hits_left: int | None = None
    hits: int = 0
    call: Callable[[], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Count one hit; False once the first N are used up."""
        with self.lock:
            if self.hits_left == 0:
                return False
            self.hits += 1
            if self.hits_left is not None:
                self.hits_left -= 1
            return True


_armed: dict[str, _Term] = {}


def hit(name: str) -> str | None:
    """Pass this place. The text of an armed `return("text")`, else None."""
    if not _armed:
        return None
    return _act(name)


def _act(
    name: str, die: Callable[[], None] = _die, sleep: Callable[[float], None] = _sleep
) -> str | None:
    term = _armed.get(name)
    if term is None or not term.take():
        return None
    if term.call is not None:
        term.call()
    elif term.action == "panic":
        die()
    elif term.action == "sleep":
        sleep(_seconds(term.argument))
    elif term.action == "return":
        return term.argument
    return None


def _seconds(argument: str) -> float:
    if argument.isdigit():
        return int(argument) / 1000
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION.findall(argument))


def arm(name: str, text: str) -> None:
    """Set the term of a place. ValueError for an unknown place or a bad term."""
    if name not in NAMES:
        raise ValueError(f"failpoint: unknown failpoint {name!r}")
    match = _TERM.match(text)
    if match is None:
        raise ValueError(f"failpoint: could not parse {text!r}")
    action, argument = match["action"], match["text"] or match["number"] or ""
    if action == "sleep" and not (argument.isdigit() or _DURATION.fullmatch(argument)):
        raise ValueError(f"failpoint: could not parse {text!r}")
    if action == "off":
        disarm(name)
        return
    count = match["count"]
    _armed[name] = _Term(text.strip(), action, argument, int(count) if count else None)


def arm_call(name: str, call: Callable[[], None]) -> None:
    """Have a place call `call`, which may raise. ValueError for an unknown place."""
    if name not in NAMES:
        raise ValueError(f"failpoint: unknown failpoint {name!r}")
    _armed[name] = _Term("call", "call", "", call=call)


def disarm(name: str) -> bool:
    """Switch a place off; whether it was on."""
    return _armed.pop(name, None) is not None


def disarm_all() -> None:
    _armed.clear()


def arm_from_variable(value: str) -> None:
    """`GOFAIL_FAILPOINTS`: `name=term` pairs between semicolons."""
    for pair in filter(None, value.split(";")):
        name, _, text = pair.partition("=")
        arm(name.strip(), text)


def answer(method: str, path: str, body: str) -> tuple[int, str]:
    """Status and text of one request to the failpoint endpoint."""
    name = path.strip("/")
    if method == "GET" and not name:
        lines = [f"{each}={_armed[each].text if each in _armed else ''}\n" for each in NAMES]
        return 200, "".join(lines)
    if name.endswith("/count"):
        return _answer_count(name.removesuffix("/count"))
    if name not in NAMES:
        return 404, "failpoint does not exist\n"
    if method == "GET":
        return (200, _armed[name].text + "\n") if name in _armed else (404, "failpoint is off\n")
    if method == "PUT":
        try:
            arm(name, body)
        except ValueError as error:
            return 400, f"{error}\n"
        return 204, ""
    if method == "DELETE":
        return (204, "") if disarm(name) else (404, "failpoint is off\n")
    return 405, "Method not allowed\n"


def _answer_count(name: str) -> tuple[int, str]:
    term = _armed.get(name)
    return (404, "failpoint is off\n") if term is None else (200, str(term.hits))
