"""What a request takes in rights: each verb as a list of demands. No Django, no gRPC in here.

A request is allowed when every demand is (spec/auth.md §3 "who may call them"). A transaction
demands what both of its branches do, whichever would run, and read on every compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from console.keys.byte_text import parse
from console.users.rules import READ, WRITE, Decision, EtcdRole, decide
from console.users.spans import Span, span_of

LINES_MAX = 64


@dataclass(frozen=True, slots=True)
class Demand:
    """One right on one span, and what in the request takes it."""

    right: str
    span: Span
    why: str


@dataclass(frozen=True, slots=True)
class Verb:
    words: str
    right: str
    why: str


VERBS = {
    "read": Verb("read", READ, "a read"),
    "watch": Verb("watch", READ, "a watch, when it is created"),
    "put": Verb("put", WRITE, "a put"),
    "delete": Verb("delete", WRITE, "a delete"),
    "attach": Verb("attach a lease to", WRITE, "a put"),
}
"""What may be asked about a range, in the order it is offered."""


WATCH_CHECKED_WHOLE = {(3, 5): 33, (3, 6): 14, (3, 7): 1}
"""The first patch release of each line that checks all of a watch without an end."""


def checks_whole_watch(version: str) -> bool:
    """False for releases that check the first key only of a watch without an end, a hole that
    was closed late (spec/watch.md A2). A version that cannot be read counts as closed."""
    try:
        major, minor, patch = (int(part) for part in version.partition("-")[0].split("."))
    except ValueError:
        return True
    return patch >= WATCH_CHECKED_WHOLE.get((major, minor), 0 if (major, minor) > (3, 7) else 10**9)


def demands_of(
    verb: str,
    span: Span,
    *,
    sees_previous: bool = False,
    lease_keys: Iterable[bytes] = (),
    watches_whole: bool = True,
) -> list[Demand]:
    """`sees_previous`: the value before is asked for too (prev_kv). `lease_keys`: what is
    attached to the lease already; its keys protect it (spec/auth.md §3, KV.Put).
    `watches_whole`: see `checks_whole_watch`."""
    if verb == "watch" and span.end is None and not watches_whole:
        why = "a watch without an end, of which this release checks the first key only"
        return [Demand(READ, span_of(span.start, b""), why)]
    found = [Demand(VERBS[verb].right, span, VERBS[verb].why)]
    if sees_previous and VERBS[verb].right == WRITE:
        found.append(Demand(READ, span, "the value before, which is asked for too (prev_kv)"))
    if verb == "attach":
        why = "a key that is attached to the lease already"
        found += [Demand(WRITE, span_of(key, b""), why) for key in lease_keys]
    return found


class NotATransaction(ValueError):
    """A line that is none of a transaction's; the text says which and why."""


TXN_VERBS = {
    "compare": (READ, "a compare"),
    "get": (READ, "a read"),
    "put": (WRITE, "a put"),
    "del": (WRITE, "a delete"),
}


def demands_of_txn(text: str) -> list[Demand]:
    """One operation a line, `VERB [--prev-kv] KEY [RANGE_END]`, keys as byte text. Whether a
    line stands in a branch or is a compare, it has to be allowed."""
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, words) for number, words in lines if words]
    if not lines:
        raise NotATransaction("a transaction without operations is allowed to everybody")
    if len(lines) > LINES_MAX:
        raise NotATransaction(f"at most {LINES_MAX} operations")
    return [demand for number, words in lines for demand in _line(number, words)]


def _line(number: int, words: list[str]) -> list[Demand]:
    verb, *operands = words
    sees_previous = "--prev-kv" in operands
    operands = [word for word in operands if word != "--prev-kv"]
    if verb not in TXN_VERBS:
        raise NotATransaction(f"line {number}: {verb[:20]} is none of {', '.join(TXN_VERBS)}")
    if not 1 <= len(operands) <= (1 if verb == "put" else 2):
        more = "a key" if verb == "put" else "a key, or a key and a range_end"
        raise NotATransaction(f"line {number}: {verb} takes {more}")
    try:
        key, end = parse(operands[0]), parse(operands[1]) if len(operands) == 2 else b""
    except ValueError as error:
        raise NotATransaction(f"line {number}: {error}") from None
    span = span_of(key, end)
    if span.is_empty:
        raise NotATransaction(f"line {number}: the range_end has to lie behind the key")
    right, why = TXN_VERBS[verb]
    found = [Demand(right, span, f"line {number}, {why}")]
    if sees_previous and right == WRITE:
        found.append(Demand(READ, span, f"line {number}, the value before (--prev-kv)"))
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """A request judged: each demand with its decision."""

    parts: tuple[tuple[Demand, Decision], ...]

    @property
    def is_allowed(self) -> bool:
        return all(decision.is_allowed for _, decision in self.parts)

    @property
    def is_root(self) -> bool:
        return any(decision.is_root for _, decision in self.parts)


def judge(roles: Sequence[EtcdRole], demands: Iterable[Demand]) -> Answer:
    return Answer(tuple((one, decide(roles, one.right, one.span)) for one in demands))


def would_allow(
    held: Sequence[EtcdRole], others: Iterable[EtcdRole], demands: Sequence[Demand]
) -> tuple[str, ...]:
    """Roles that, granted beside those held, would each turn a no into a yes."""
    return tuple(role.name for role in others if judge((*held, role), demands).is_allowed)
