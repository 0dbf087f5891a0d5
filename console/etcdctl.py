"""The etcdctl command that does what a page does. No Django in here.

A guarded write is an `etcdctl txn` with its requests on standard input, quoted the way etcdctl
reads them (Go string literals); anything else is a plain command quoted for a shell. A key with
a NUL byte cannot be a shell word at all and is read by a txn too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from console.equivalent import (
    VALUE_BYTES_MAX,
    Call,
    Command,
    calls_of,
    range_call,
    txn_call,
    watch_call,
)
from console.keys.byte_text import is_plain, show
from console.keys.paging import FROM_NUL, KeyRange, after, prefix_range
from console.keys.txn import Delete, Get, Guard, Operation, Put, Txn, unchanged

BARE = re.compile(rb"[A-Za-z0-9@%+=:,./_][A-Za-z0-9@%+=:,./_-]*\Z")
# A doubled backslash is matched first, so that what follows it is not taken for an escape.
GO_ESCAPES = re.compile(r'\\\\|\\x0a|\\x09|"')
GO_NAMES = {"\\\\": "\\\\", r"\x0a": r"\n", r"\x09": r"\t", '"': r"\""}


@dataclass(frozen=True, slots=True)
class Etcdctl:
    """The command line's beginning: which cluster, as whom."""

    endpoints: tuple[str, ...]
    user: str = ""

    def line(self, *words: str) -> Command:
        return self._command(" ".join([self._start(), *words]), calls_of(words))

    def _start(self) -> str:
        start = ["etcdctl", f"--endpoints={','.join(self.endpoints)}"]
        if self.user:
            start.append(f"--user={shell_word(self.user.encode())}")
        return " ".join(start)

    def _command(self, text: str, calls: Sequence[Call]) -> Command:
        endpoint = next(iter(self.endpoints), "")
        if "://" not in endpoint:
            endpoint = f"http://{endpoint}"
        return Command(text, calls, endpoint, self.user)

    def _words(self, words: Sequence[str], call: Call) -> Command:
        return self._command(" ".join([self._start(), *words]), [call])

    def at(self, endpoint: str) -> Etcdctl:
        """The same, asking one member only."""
        return Etcdctl((endpoint,), self.user)

    def get(self, key: bytes, revision: int = 0, *, consistency: str = "") -> Command:
        """`consistency`: l, s, or etcdctl's default."""
        flags = _read_flags(revision, consistency)
        call = range_call(key, revision=revision, is_serializable=consistency == "s")
        if b"\0" in key:
            return self._input(" ".join(["get", *flags, go_string(key)]), call)
        return self._words(["get", *flags, *_operand(key)], call)

    def list(
        self, prefix: bytes, limit: int, revision: int = 0, *, consistency: str = ""
    ) -> Command:
        flags = [*([f"--limit={limit}"] if limit else []), *_read_flags(revision, consistency)]
        keys = prefix_range(prefix)
        call = range_call(
            keys.start,
            keys.end,
            limit=limit,
            revision=revision,
            is_serializable=consistency == "s",
        )
        if b"\0" in prefix:
            return self._input(" ".join(["get", "--prefix", *flags, go_string(prefix)]), call)
        return self._words(["get", "--prefix", *flags, *_operand(prefix)], call)

    def watch(self, keys: KeyRange, revision: int = 0) -> Command:
        """A watch that goes on until it is interrupted. A range with NUL bytes, which no shell
        word carries, is typed into `etcdctl watch -i`."""
        call = watch_call(keys, revision)
        rev = [f"--rev={revision}"] if revision else []
        if keys.is_everything:  # etcdctl takes "" for the first key there can be
            return self._words(["watch", *rev, "--prev-kv", "--prefix", "''"], call)
        flags = [*rev, "--prev-kv"]
        if not keys.has_end:
            flags.append("--from-key")
        bounds = _bounds(keys)
        if any(b"\0" in bound for bound in bounds):
            words = " ".join(["watch", *flags, *map(go_string, bounds)])
            text = f"{self._start()} watch -i <<'END'\n{words}\nEND"
            return self._command(text, [call])
        return self._words(["watch", *flags, *_dashes(*bounds), *map(shell_word, bounds)], call)

    def put(
        self, key: bytes, value: bytes, *, base: int, lease: int = 0, keeps_lease: bool = False
    ) -> Command:
        return self.txn(Txn((unchanged(key, base),), (Put(key, value, lease, keeps_lease),)))

    def delete(self, key: bytes, *, base: int) -> Command:
        return self.txn(Txn((unchanged(key, base),), (Delete(key),)))

    def txn(self, txn: Txn) -> Command:
        """What etcdctl cannot compare is left out, which a comment says."""
        said = [guard for guard in txn.guards if _can_say(guard)]
        text = "\n".join(
            [
                f"{self._start()} txn <<'END'",
                *map(_compare, said),
                "",
                *map(_operation, txn.then),
                "",
                *map(_operation, txn.otherwise),
                "",
                "END",
            ]
        )
        if len(said) < len(txn.guards):
            text = f"{UNSAID}\n{text}"
        return self._command(text, [txn_call(txn)])

    def lease(self, verb: str, lease: int, *flags: str) -> Command:
        return self.line("lease", verb, f"{lease:x}", *flags)

    def _input(self, then: str, call: Call) -> Command:
        return self._command(f"{self._start()} txn <<'END'\n\n{then}\n\n\nEND", [call])


UNSAID = (
    "# etcdctl compares neither ranges nor leases: this is less guarded than what the console does"
)


def _can_say(guard: Guard) -> bool:
    return not guard.end and guard.target != "lease"


def _bounds(keys: KeyRange) -> list[bytes]:
    is_single = keys.has_end and keys.end == after(keys.start)
    return [keys.start] if is_single or not keys.has_end else [keys.start, keys.end]


def _read_flags(revision: int, consistency: str) -> list[str]:
    flags = [f"--consistency={consistency}"] if consistency else []
    return [*flags, f"--rev={revision}"] if revision else flags


def _compare(guard: Guard) -> str:
    given = guard.given if isinstance(guard.given, bytes) else str(guard.given).encode()
    return f"{guard.target}({go_string(guard.key)}) {guard.sign} {go_string(given)}"


def _operation(one: Operation) -> str:
    if isinstance(one, Put):
        flags = ["--ignore-lease"] if one.keeps_lease else []
        flags += [f"--lease={one.lease:x}"] if one.lease else []
        shown = go_string(one.value)
        if len(one.value) > VALUE_BYTES_MAX:
            shown = f'"... {len(one.value)} bytes ..."'
        return " ".join(["put", *flags, *_dashes(one.key, one.value), go_string(one.key), shown])
    flags = []
    if isinstance(one, Get):
        flags += [f"--limit={one.limit}"] if one.limit else []
        flags += ["--keys-only"] if one.keys_only else []
    bounds = [one.key]
    if one.end == FROM_NUL:
        flags.append("--from-key")
    elif one.end:
        bounds.append(one.end)
    verb = "get" if isinstance(one, Get) else "del"
    return " ".join([verb, *flags, *_dashes(*bounds), *map(go_string, bounds)])


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
