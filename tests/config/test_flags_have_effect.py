"""Every flag that is not said to be without effect is read by something (spec/config.md §8).

The text of the code is searched for the field of `Config`, so that a flag nobody reads any more is
noticed. Those whose value reaches the server under another name have their own tests.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from kvserver.config.flags import FLAGS

ROOT = Path(__file__).resolve().parents[2] / "kvserver"

OTHERWISE = {
    "auto-compaction-retention": "complete.py makes seconds or revisions of it",
    "config-file": "load.py reads the file",
    "debug": "retired",
    "discovery": "refused with a word about what replaced it",
    "enable-v2": "refused when true",
    "logger": "only one value is accepted",
    "proxy": "only one value is accepted",
    "socket-reuse-address": "the option is always set on listeners, as Go sets it",
    "version": "load.py prints it",
}
BELONGS_TO_CONFIG = {
    "log-outputs", "log-level", "log-format", "enable-log-rotation", "log-rotation-config-json",
    "quota-backend-bytes", "heartbeat-interval", "election-timeout",
}  # fmt: skip
"""Read by config/logging.py, or by properties of `Config` that say what they mean."""


def readers(field: str, *, inside_config: bool) -> list[str]:
    """Files that read this field of a `Config`."""
    owner = "(?:self|config)" if inside_config else "_?config"
    read = re.compile(rf"\b{owner}\.{field}\b")
    return [
        str(path.relative_to(ROOT))
        for path, text in sources().items()
        if (path.parent.name == "config") is inside_config and field in text and read.search(text)
    ]


@cache
def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in ROOT.rglob("*.py")}


def test_every_flag_is_read_somewhere() -> None:
    unread = [
        name
        for name, flag in FLAGS.items()
        if not flag.note
        and name not in OTHERWISE
        and not readers(flag.field, inside_config=name in BELONGS_TO_CONFIG)
    ]
    assert unread == []


def test_the_exceptions_are_exceptions() -> None:
    """What is listed as read under another name and is read by its own is out of date."""
    for name in OTHERWISE:
        assert not readers(FLAGS[name].field, inside_config=False), name
    for name in BELONGS_TO_CONFIG:
        assert readers(FLAGS[name].field, inside_config=True), name


def test_what_is_without_effect_is_what_the_page_lets_go() -> None:
    """spec/config.md §8 marks these "skip" or does not have them any more."""
    assert {name for name, flag in FLAGS.items() if flag.note} == {
        "backend-bbolt-freelist-type", "debug", "discovery-fallback", "discovery-proxy",
        "experimental-enable-v2v3", "log-package-levels", "memory-mlock",
        "proxy-dial-timeout", "proxy-failure-wait", "proxy-read-timeout",
        "proxy-refresh-interval", "proxy-write-timeout", "v2-deprecation",
    }  # fmt: skip
