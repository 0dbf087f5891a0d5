"""Chaos on a real network of namespaces, where they can be had (verification.md rung 8)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chaos.namespaces import INSIDE, NotHere, prefix
from tests.support.etcd_binaries import REPOSITORY

pytestmark = pytest.mark.e2e
SECONDS_MAX = 400.0


def test_the_network_and_rounds_over_it(tmp_path: Path) -> None:
    try:
        before = prefix()
    except NotHere as reason:
        pytest.skip(str(reason))
    tests = REPOSITORY / "tests/e2e/chaos/inside_namespaces.py"
    done = subprocess.run(
        [*before, sys.executable, "-m", "pytest", tests, "-q", "-s", "-p", "no:cacheprovider",
         f"--basetemp={tmp_path / 'inside'}"],
        cwd=REPOSITORY, env={**os.environ, INSIDE: "1"}, capture_output=True, text=True,
        check=False, timeout=SECONDS_MAX,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
