"""The scenarios of spec/raft.md §11 and a few stories, replayed word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.raft_script import run_script

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_happens_as_written(path: Path) -> None:
    written = path.read_text()
    assert run_script(written) == written


def test_every_scenario_of_the_spec_is_told() -> None:
    """S26 and S27 are observations of real servers; the rest are the core's."""
    told = "".join(path.read_text() for path in SCRIPTS)
    missing = [n for n in range(1, 26) if f"# S{n:02d} " not in told]
    assert not missing
