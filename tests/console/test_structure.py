"""What the console's modules may import (console.md §1)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import console

ROOT = Path(console.__file__).parent
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if "migrations" not in path.parts]

PURE = [
    "accounts/throttle.py",
    "config.py",
    "equivalent.py",
    "etcdctl.py",
    "gateway/records.py",
    "help.py",
    "history/changes.py",
    "history/versions.py",
    "icons.py",
    "keys/batches.py",
    "keys/byte_text.py",
    "keys/decoders.py",
    "keys/diff.py",
    "keys/draft.py",
    "keys/interchange.py",
    "keys/lens.py",
    "keys/merge.py",
    "keys/paging.py",
    "keys/protobuf_text.py",
    "keys/rewind.py",
    "keys/search.py",
    "keys/tree.py",
    "keys/txn.py",
    "keys/txn_form.py",
    "maintenance/archive.py",
    "maintenance/backup_index.py",
    "maintenance/lens.py",
    "maintenance/plan.py",
    "maintenance/prefixes.py",
    "maintenance/preflight.py",
    "maintenance/reclaim.py",
    "maintenance/sizes.py",
    "maintenance/uploads.py",
    "overview/health.py",
    "roles.py",
    "serving/member.py",
    "serving/ports.py",
    "watch/cursors.py",
    "users/commands.py",
    "users/demands.py",
    "users/lint.py",
    "users/preflight.py",
    "users/roots.py",
    "users/rules.py",
    "users/spans.py",
]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_gateway_knows_the_client_and_the_wire(path: Path) -> None:
    wire = {name for name in imports(path) if name.split(".")[0] in {"kvserver", "grpc"}}
    assert not wire or path.parent == ROOT / "gateway"


@pytest.mark.parametrize("name", PURE)
def test_the_pure_parts_know_no_django(name: str) -> None:
    known = {module.split(".")[0] for module in imports(ROOT / name)}
    assert not known & {"django", "channels", "daphne"}
    ours = {module for module in imports(ROOT / name) if module.startswith("console.")}
    pure = {"console." + each.removesuffix(".py").replace("/", ".") for each in PURE}
    assert ours <= pure
