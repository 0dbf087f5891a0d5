"""The etcdctl command that does what a page does, quoted for a POSIX shell. No Django in here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from console.keys.paging import KeyRange

BARE = re.compile(rb"[A-Za-z0-9@%+=:,./_-]+\Z")
VALUE_BYTES_MAX = 400
"""Longer values are read from a file in the command shown: nobody pastes a megabyte."""


def quote(data: bytes) -> str:
    """One shell word that is exactly these bytes."""
    if BARE.match(data) and not data.startswith(b"-"):
        return data.decode()
    if all(32 <= byte < 127 for byte in data):
        return "'" + data.decode().replace("'", "'\\''") + "'"
    return "$'" + "".join(map(_ansi_c, data)) + "'"


def _ansi_c(byte: int) -> str:
    if byte in b"\\'":
        return "\\" + chr(byte)
    if byte == 10:
        return "\\n"
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


def command(endpoints: Sequence[str], *words: str) -> str:
    where = ",".join(endpoints)
    return " ".join(["etcdctl", f"--endpoints={where}", *words])


def get_key(key: bytes, revision: int = 0) -> list[str]:
    return ["get", *_operand(key), *([f"--rev={revision}"] if revision else [])]


def get_range(keys: KeyRange, prefix: bytes, limit: int, revision: int = 0) -> list[str]:
    what = ["--prefix", quote(prefix)] if prefix else ["--prefix", "''"]
    return ["get", *what, f"--limit={limit}", *([f"--rev={revision}"] if revision else [])]


def put(key: bytes, value: bytes, *, lease: int = 0, keeps_lease: bool = False) -> list[str]:
    flags = ["--ignore-lease"] if keeps_lease else [f"--lease={lease:x}"] if lease else []
    if len(value) > VALUE_BYTES_MAX or b"\0" in value:
        return ["put", *flags, *_operand(key), "< value.bin"]
    return ["put", *flags, *_operand(key), *_operand(value)]


def delete(key: bytes) -> list[str]:
    return ["del", *_operand(key)]


def guarded(key: bytes, mod_revision: int, then: Sequence[str]) -> str:
    """An etcdctl txn, as it is typed: compares, an empty line, requests, twice an empty line."""
    return f'mod("{_txn_text(key)}") = "{mod_revision}"\n\n{" ".join(then)}\n\n'


def _operand(data: bytes) -> list[str]:
    return ["--", quote(data)] if data.startswith(b"-") else [quote(data)]


def _txn_text(key: bytes) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'\\"' else f"\\x{byte:02x}" for byte in key
    )
