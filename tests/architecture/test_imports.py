"""The house's dependency directions, read from the imports (see ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BASE = {"errors", "limits", "proto", "version", "__version__"}
ALLOWED: dict[str, set[str]] = {
    "raft": BASE,
    "mvcc": BASE | {"failpoints"},
    "watch": BASE | {"mvcc", "failpoints"},
    "lease": BASE | {"metrics", "mvcc"},
    "auth": BASE,
    "membership": BASE,
    "apply": BASE | {"mvcc", "lease", "auth", "membership", "watch"},
    "member": BASE | {"auth", "raft", "apply", "lease", "membership", "mvcc", "failpoints"},
    "wal": BASE | {"raft", "fs", "failpoints", "logs"},
    "snap": BASE | {"raft", "fs", "failpoints", "logs", "wal"},
    "transport": set(),
    "metrics": set(),
    "interchange": BASE | {"datadir", "fs", "logs", "membership", "mvcc", "raft", "snap", "wal"},
    "peers": BASE
    | {
        "clock",
        "fs",
        "interchange",
        "logs",
        "membership",
        "metrics",
        "mvcc",
        "raft",
        "snap",
        "transport",
    },
    "client": {"proto", "errors", "clock", "interchange"},
    "tls": BASE | {"clock", "transport"},
    "discovery": BASE | {"client", "config", "logs", "membership", "resolving"},
    "runtime": BASE
    | {
        "apply",
        "auth",
        "clock",
        "failpoints",
        "fs",
        "lease",
        "logs",
        "member",
        "membership",
        "metrics",
        "mvcc",
        "raft",
        "snap",
        "wal",
        "watch",
    },
}
"""What each package may import of kvserver, itself aside. `services` and the composition root may
import everything below them."""

PURE = ("raft", "mvcc", "watch", "lease", "auth", "membership", "apply", "member")
IMPURE_MODULES = {"asyncio", "threading", "time", "os", "socket", "random", "uvloop", "datetime"}
LMDB_FILES = {"lmdb.py", "environment.py", "defragment.py", "flush.py", "snapshot.py"}
"""The files of mvcc/backend that touch the disk."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / "kvserver" / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of everything the module imports, those for type checking aside."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return names


def own_packages(path: Path) -> set[str]:
    """The top-level rooms of kvserver that the module imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("kvserver.")}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_packages_import_only_what_is_below_them(package: str) -> None:
    assert modules(package), f"kvserver/{package} is empty"
    for path in modules(package):
        wrong = own_packages(path) - ALLOWED[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("package", PURE)
def test_pure_packages_know_no_clock_no_disk_and_no_network(package: str) -> None:
    for path in modules(package):
        if path.parent.name == "backend" and path.name in LMDB_FILES:
            continue
        wrong = {name.split(".")[0] for name in imports(path)} & IMPURE_MODULES
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_only_the_backend_touches_lmdb() -> None:
    for path in sorted((ROOT / "kvserver").rglob("*.py")):
        if "lmdb" in {name.split(".")[0] for name in imports(path)}:
            assert path.parent.name == "backend", path


def test_time_is_imported_in_one_place() -> None:
    users = {
        str(path.relative_to(ROOT / "kvserver"))
        for path in (ROOT / "kvserver").rglob("*.py")
        if {"time", "datetime"} & {name.split(".")[0] for name in imports(path)}
    }
    assert users <= {"clock.py", "failpoints.py", "logs.py"}, users


def test_the_console_meets_the_client_in_one_package() -> None:
    users = {
        path.relative_to(ROOT / "console").parts[0]
        for path in (ROOT / "console").rglob("*.py")
        if any(name.startswith("kvserver.client") for name in imports(path))
    }
    assert users == {"gateway"}


def test_the_console_knows_the_server_only_by_its_api() -> None:
    for path in sorted((ROOT / "console").rglob("*.py")):
        wrong = own_packages(path) - {"client", "errors", "proto", "version"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_only_the_clients_door_to_backups_knows_their_format() -> None:
    """A client that opens no snapshot file loads nothing of the server's storage."""
    users = {path.name for path in modules("client") if "interchange" in own_packages(path)}
    assert users == {"backup.py"}
    ours = imports(ROOT / "kvserver" / "client" / "__init__.py")
    assert not any("backup" in name for name in ours)


def test_there_is_no_room_called_utils() -> None:
    names = {
        path.stem
        for area in ("kvserver", "console", "bench")
        for path in (ROOT / area).rglob("*.py")
    }
    assert not names & {"utils", "util", "helpers", "misc", "common"}
