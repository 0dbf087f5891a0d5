"""No command of either etcdctl is forgotten: what `etcdctl help` lists is what the tests beside
this one run against both servers, in every output format that it has.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.conftest import LINES, require
from tests.support.etcd_binaries import find_etcd34, find_etcd35

pytestmark = pytest.mark.compat

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("test_etcdctl*.py"))
FORMATS = HERE / "test_etcdctl_formats.py"

WITHOUT_SERVER = {
    "completion bash": "text of the client's own",
    "completion fish": "the same",
    "completion powershell": "the same",
    "completion zsh": "the same",
    "help": "the same",
    "migrate": "reads the files of an etcd 2 that is down",
}
"""Asks no server anything."""
NOT_COMPARED = {
    "check perf": "a minute of load, judged by its speed: `make bench` compares that",
}
SAYS_THE_SAME_IN_EVERY_FORMAT = {
    "check datascale", "make-mirror", "snapshot restore", "snapshot save",
}  # fmt: skip
NAMES = {"compact": "compaction"}
"""Short for."""


def commands(binary: Path) -> set[str]:
    """What `etcdctl help` lists."""
    shown = subprocess.run(
        [binary, "help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"ETCDCTL_API": "3"},
    ).stdout
    listed = re.search(r"\nCOMMANDS:\n(.*?)\n\n", shown, re.DOTALL)
    assert listed, shown
    return {re.split(r"\t+", line.strip())[0] for line in listed[1].splitlines()}


def texts(path: Path) -> Iterator[str]:
    """The literal parts of every string in a script; what is filled in is an x."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def commands_in(path: Path, known: set[str]) -> set[str]:
    found = set()
    for text in texts(path):
        try:
            words = [word for word in shlex.split(text) if not word.startswith("-")]
        except ValueError:
            continue
        for start in range(min(len(words), 2)):  # `--user x:y` or what stands for it comes first
            first = NAMES.get(words[start], words[start])
            found |= {first, " ".join([first, *words[start + 1 : start + 2]])} & known
    return found


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_run(line: str) -> None:
    find = find_etcd34 if line == "3.4" else find_etcd35
    known = commands(require(find(), line).etcdctl)
    assert len(known) > 40
    left_out = WITHOUT_SERVER.keys() | NOT_COMPARED.keys()
    run = set().union(
        *(commands_in(script, known) for script in SCRIPTS if script != Path(__file__))
    )
    assert known - run - left_out == set(), "these are compared nowhere"
    assert run & left_out == set(), "these are said to be left out"
    formatted = commands_in(FORMATS, known)
    assert known - formatted - left_out - SAYS_THE_SAME_IN_EVERY_FORMAT == set()
