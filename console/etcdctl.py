"""The etcdctl command that does what a page does. No Django in here.

A guarded write is an `etcdctl txn` with its requests on standard input, quoted the way etcdctl
reads them (Go string literals); anything else is a plain command quoted for a shell. A key with
a NUL byte cannot be a shell word at all and is read by a txn too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from console.keys.byte_text import is_plain, show
from console.keys.paging import KeyRange, after

BARE = re.compile(rb"[A-Za-z0-9@%+=:,./_][A-Za-z0-9@%+=:,./_-]*\Z")
# A doubled backslash is matched first, so that what follows it is not taken for an escape.
GO_ESCAPES = re.compile(r'\\\\|\\x0a|\\x09|"')
GO_NAMES = {"\\\\": "\\\\", r"\x0a": r"\n", r"\x09": r"\t", '"': r"\""}
VALUE_BYTES_MAX = 4096
"""A longer value is named by its size: nobody pastes a megabyte."""


@dataclass(frozen=True, slots=True)
class Etcdctl:
    """The command line's beginning: which cluster, as whom."""

    endpoints: tuple[str, ...]
    user: str = ""

    def line(self, *words: str) -> str:
        start = ["etcdctl", f"--endpoints={','.join(self.endpoints)}"]
        if self.user:
            start.append(f"--user={shell_word(self.user.encode())}")
        return " ".join([*start, *words])

    def at(self, endpoint: str) -> Etcdctl:
        """The same, asking one member only."""
        return Etcdctl((endpoint,), self.user)

    def get(self, key: bytes, revision: int = 0, *, consistency: str = "") -> str:
        """`consistency`: l, s, or etcdctl's default."""
        flags = _read_flags(revision, consistency)
        if b"\0" in key:
            return self._txn("", " ".join(["get", *flags, go_string(key)]))
        return self.line("get", *flags, *_operand(key))

    def list(self, prefix: bytes, limit: int, revision: int = 0, *, consistency: str = "") -> str:
        flags = [*([f"--limit={limit}"] if limit else []), *_read_flags(revision, consistency)]
        if b"\0" in prefix:
            return self._txn("", " ".join(["get", "--prefix", *flags, go_string(prefix)]))
        return self.line("get", "--prefix", *flags, *_operand(prefix))

    def watch(self, keys: KeyRange, revision: int = 0) -> str:
        """A watch that goes on until it is interrupted. A range with NUL bytes, which no shell
        word carries, is typed into `etcdctl watch -i`."""
        rev = [f"--rev={revision}"] if revision else []
        flags = [*rev, "--prev-kv"]
        if not keys.has_end:
            flags.append("--from-key")
        is_single = keys.has_end and keys.end == after(keys.start)
        bounds = [keys.start] if is_single or not keys.has_end else [keys.start, keys.end]
        if keys.is_everything:  # etcdctl takes "" for the first key there can be
            return self.line("watch", *rev, "--prev-kv", "--prefix", "''")
        if any(b"\0" in bound for bound in bounds):
            words = " ".join(["watch", *flags, *map(go_string, bounds)])
            return f"{self.line('watch', '-i')} <<'END'\n{words}\nEND"
        return self.line("watch", *flags, *_dashes(*bounds), *map(shell_word, bounds))

    def put(
        self, key: bytes, value: bytes, *, base: int, lease: int = 0, keeps_lease: bool = False
    ) -> str:
        flags = ["--ignore-lease"] if keeps_lease else [f"--lease={lease:x}"] if lease else []
        shown = go_string(value)
        if len(value) > VALUE_BYTES_MAX:
            shown = f'"... {len(value)} bytes ..."'
        words = ["put", *flags, *_dashes(key, value), go_string(key), shown]
        return self._txn(_compare(key, base), " ".join(words))

    def delete(self, key: bytes, *, base: int) -> str:
        words = ["del", *_dashes(key), go_string(key)]
        return self._txn(_compare(key, base), " ".join(words))

    def lease(self, verb: str, lease: int, *flags: str) -> str:
        return self.line("lease", verb, f"{lease:x}", *flags)

    def _txn(self, compare: str, then: str) -> str:
        head = f"{compare}\n" if compare else ""
        return f"{self.line('txn')} <<'END'\n{head}\n{then}\n\n\nEND"


def _read_flags(revision: int, consistency: str) -> list[str]:
    flags = [f"--consistency={consistency}"] if consistency else []
    return [*flags, f"--rev={revision}"] if revision else flags


def _compare(key: bytes, mod_revision: int) -> str:
    return f'mod({go_string(key)}) = "{mod_revision}"'


def shell_word(data: bytes) -> str:
    """One word of a bash command that is exactly these bytes, none of them NUL."""
    if BARE.match(data):
        return data.decode()
    if is_plain(data) or data in (b"", b" "):
        return "'" + data.decode().replace("'", "'\\''") + "'"
    return "$'" + show(data).replace("'", "\\'") + "'"


def go_string(data: bytes) -> str:
    """A Go string literal: byte text's escapes are Go's too, line ends read better as such."""
    return '"' + GO_ESCAPES.sub(lambda found: GO_NAMES[found[0]], show(data)) + '"'


def _operand(data: bytes) -> tuple[str, ...]:
    return (*_dashes(data), shell_word(data))


def _dashes(*operands: bytes) -> tuple[str, ...]:
    """What keeps an operand from being taken for a flag."""
    return ("--",) if any(data.startswith(b"-") for data in operands) else ()
