"""The assistant that replaces a member: four steps, each read off the cluster as it is now.

Nothing is remembered: the address holds which member goes and what takes its place, and where one
is shows in the member list. So the page survives a closed tab, a restart of the console, and
somebody else doing a step. No Django, no gRPC.

The dead one goes first: while it is listed it counts as a voter that is down, and a new voter
beside it would raise the quorum (spec/cluster.md §3.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.overview.health import Health, Member, Row


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    words: str
    is_done: bool
    is_next: bool = False


@dataclass(frozen=True, slots=True)
class Replacement:
    """`old` is None once it is gone; `new` is None until it was added."""

    old: Row | None
    new: Row | None
    steps: tuple[Step, ...]

    @property
    def is_over(self) -> bool:
        return all(step.is_done for step in self.steps)


def follow(health: Health, old_id: int, name: str, peer_urls: Sequence[str]) -> Replacement:
    old = next((row for row in health.rows if row.member.id == old_id), None)
    wanted = set(peer_urls)
    new = next(
        (
            row
            for row in health.rows
            if row.member.id != old_id and wanted and set(row.member.peer_urls) == wanted
        ),
        None,
    )
    member = new.member if new else None
    states = (
        ("remove", f"Remove {_label(old)}", old is None),
        ("add", f"Add {name or 'the new member'} as a learner", new is not None),
        ("start", f"Start {name or 'it'} with the flags below", bool(member and member.status)),
        ("promote", "Promote it, once it has caught up", bool(member and _is_voter(member))),
    )
    first = next((key for key, _, is_done in states if not is_done), "")
    steps = tuple(Step(key, words, is_done, key == first) for key, words, is_done in states)
    return Replacement(old, new, steps)


def _is_voter(member: Member) -> bool:
    return not member.is_learner and member.status is not None


def _label(row: Row | None) -> str:
    return row.member.label if row else "the old member"
