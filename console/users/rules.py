"""Users, roles, permissions, and what they allow. No Django, no gRPC in here.

`decide` answers as the server would (spec/auth.md §4 "Evaluation of a user's rights") and says
why: the union of all roles' intervals has to cover the range, write never implies read, and the
role named root may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from console.users.spans import SHAPES, Span, earlier, shape_of, span_of, union

ROOT = "root"
"""Magic by name, as a user and as a role."""

READ, WRITE = "read", "write"
RIGHTS = (READ, WRITE)

KINDS = {"read": "read", "write": "write", "readwrite": "read and write"}


@dataclass(frozen=True, slots=True)
class Permission:
    """`kind`: read, write or readwrite. `key` and `range_end` as on the wire."""

    kind: str
    key: bytes
    range_end: bytes

    @property
    def span(self) -> Span:
        return span_of(self.key, self.range_end)

    @property
    def kind_words(self) -> str:
        return KINDS[self.kind]

    @property
    def shape_words(self) -> str:
        return SHAPES[shape_of(self.key, self.range_end)]

    @property
    def rights(self) -> tuple[str, ...]:
        return RIGHTS if self.kind == "readwrite" else (self.kind,)


@dataclass(frozen=True, slots=True)
class EtcdRole:
    name: str
    permissions: tuple[Permission, ...] = ()

    @property
    def is_root(self) -> bool:
        return self.name == ROOT


@dataclass(frozen=True, slots=True)
class EtcdUser:
    name: str
    roles: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        return ROOT in self.roles


@dataclass(frozen=True, slots=True)
class Directory:
    """Users and roles of a cluster. `users_left_out`, `roles_left_out`: how many more there are
    than were read."""

    users: tuple[EtcdUser, ...]
    roles: tuple[EtcdRole, ...]
    users_left_out: int = 0
    roles_left_out: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.users_left_out and not self.roles_left_out

    @property
    def users_total(self) -> int:
        return len(self.users) + self.users_left_out

    @property
    def roles_total(self) -> int:
        return len(self.roles) + self.roles_left_out

    def roles_of(self, user: EtcdUser) -> tuple[EtcdRole, ...]:
        """Role root may be held without ever having been added (spec/auth.md §3)."""
        found = {role.name: role for role in self.roles}
        return tuple(found.get(name, EtcdRole(name)) for name in user.roles)

    def holders_of(self, role: str) -> tuple[str, ...]:
        return tuple(user.name for user in self.users if role in user.roles)


@dataclass(frozen=True, slots=True)
class Grant:
    """One permission and the role it comes from."""

    role: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what was asked for and the grant that allows it; None: nothing does. `near`:
    grants that reach into it, but give the other right."""

    span: Span
    grant: Grant | None
    near: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether one right holds on the whole of one span, piece by piece."""

    right: str
    span: Span
    is_allowed: bool
    is_root: bool = False
    pieces: tuple[Piece, ...] = ()

    @property
    def missing(self) -> tuple[Span, ...]:
        return union(piece.span for piece in self.pieces if piece.grant is None)

    @property
    def nearest_missing(self) -> Span | None:
        """The first part of the range that no grant allows."""
        return next(iter(self.missing), None)

    @property
    def is_partly(self) -> bool:
        return not self.is_allowed and any(piece.grant for piece in self.pieces)

    @property
    def deciding(self) -> tuple[Grant, ...]:
        """The grants that allow it, each once."""
        return tuple(dict.fromkeys(piece.grant for piece in self.pieces if piece.grant))


def decide(roles: Sequence[EtcdRole], right: str, span: Span) -> Decision:
    """Does somebody with these roles have the right on the whole of `span`?"""
    if any(role.is_root for role in roles):
        return Decision(right, span, True, is_root=True)
    every = [Grant(role.name, one) for role in roles for one in role.permissions]
    given = [grant for grant in every if right in grant.permission.rights]
    others = [grant for grant in every if right not in grant.permission.rights]
    pieces = tuple(
        piece if piece.grant else Piece(piece.span, None, _near(piece.span, others))
        for piece in cut(span, given)
    )
    return Decision(right, span, all(piece.grant for piece in pieces), False, pieces)


def _near(span: Span, others: Sequence[Grant]) -> tuple[Grant, ...]:
    return tuple(grant for grant in others if grant.permission.span.meets(span))


def cut(span: Span, grants: Sequence[Grant]) -> Iterator[Piece]:
    """`span` in order, each piece with the grant that reaches farthest from its beginning."""
    at = span.start
    while not (rest := Span(at, span.end)).is_empty:
        best = _farthest(at, grants)
        if best is not None:
            end = earlier(best.permission.span.end, span.end)
        else:
            starts = [one for one in (grant.permission.span for grant in grants) if one.start > at]
            inside = [one.start for one in starts if one.start in rest and not one.is_empty]
            end = min(inside, default=span.end)
        yield Piece(Span(at, end), best)
        if end is None:
            return
        at = end


def _farthest(at: bytes, grants: Iterable[Grant]) -> Grant | None:
    best: Grant | None = None
    for grant in grants:
        span = grant.permission.span
        if at not in span:
            continue
        if span.end is None:
            return grant
        reach = best.permission.span.end if best else None
        if reach is None or span.end > reach:
            best = grant
    return best


def readable(roles: Sequence[EtcdRole]) -> tuple[Span, ...]:
    """Everything these roles may read, as few spans as can be: the roots of a key browser for
    somebody who may not read the rest."""
    if any(role.is_root for role in roles):
        return (Span(b"", None),)
    return union(one.span for role in roles for one in role.permissions if READ in one.rights)


@dataclass(frozen=True, slots=True)
class Touch:
    """What one user or role may do to a range. `reads` and `writes` are decisions."""

    name: str
    reads: Decision
    writes: Decision

    @property
    def decisions(self) -> tuple[Decision, Decision]:
        return self.reads, self.writes

    @property
    def is_any(self) -> bool:
        return any(one.is_allowed or one.is_partly for one in self.decisions)

    @property
    def deciding(self) -> tuple[Grant, ...]:
        """The grants that allow it or a part of it, each once."""
        return tuple(dict.fromkeys(grant for one in self.decisions for grant in one.deciding))


def touch(name: str, roles: Sequence[EtcdRole], span: Span) -> Touch:
    return Touch(name, decide(roles, READ, span), decide(roles, WRITE, span))


def who_can(directory: Directory, span: Span) -> tuple[tuple[Touch, ...], tuple[Touch, ...]]:
    """Users, then roles, that may read or write at least a part of `span`."""
    users = [touch(user.name, directory.roles_of(user), span) for user in directory.users]
    roles = [touch(role.name, [role], span) for role in directory.roles]
    return tuple(one for one in users if one.is_any), tuple(one for one in roles if one.is_any)
