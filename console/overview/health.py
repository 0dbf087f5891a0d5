"""From what every member said to one sentence. No Django, no gRPC: values in, values out.

A figure is taken from the member it belongs to, never from one endpoint for all, and never from
a MemberList header, whose revision is always 0 (console.md §3 traps 9 and 14). Alarms come out
of Status texts: asking for them with Alarm GET would be a raft proposal, and opening a page
writes nothing (spec/maintenance.md A5, trap 12).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

APPLIED_LAG_MAX = 1_000
"""Entries committed and not applied beyond which a member counts as behind."""

RAFT_LAG_MAX = 5_000
"""Entries behind the furthest member beyond which a member counts as behind."""

QUOTA_SHARE_MAX = 0.8

ALARM_TEXT = re.compile(r"memberID:\s*(\d+)\s+alarm:\s*(\w+)")


class Level(IntEnum):
    OK = 0
    WARN = 1
    DANGER = 2

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member's own Status answer (spec/maintenance.md §3)."""

    version: str
    db_size_bytes: int
    db_in_use_bytes: int
    db_quota_bytes: int
    """0 when the member is too old to say."""
    leader_id: int
    raft_term: int
    raft_index: int
    applied_index: int
    revision: int
    is_learner: bool
    errors: tuple[str, ...]

    @property
    def applied_lag(self) -> int:
        return max(0, self.raft_index - self.applied_index)


@dataclass(frozen=True, slots=True)
class Member:
    """A row: who it is, and its status or why there is none."""

    id: int
    name: str
    is_learner: bool
    endpoints: tuple[str, ...]
    status: MemberStatus | None
    failure: str | None = None
    round_trip_seconds: float | None = None
    reached_at: str = ""
    """The address its status came from; empty without one."""
    peer_urls: tuple[str, ...] = ()

    @property
    def hex_id(self) -> str:
        return f"{self.id:x}" if self.id else ""

    @property
    def label(self) -> str:
        return self.name or self.hex_id or ", ".join(self.endpoints)

    @property
    def is_started(self) -> bool:
        """A member that was added and never started has neither name nor client address."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class Alarm:
    kind: str
    member_id: int
    member: str

    @property
    def hex_id(self) -> str:
        return f"{self.member_id:x}"


@dataclass(frozen=True, slots=True)
class Row:
    """A member as the table shows it."""

    member: Member
    level: Level
    state: str
    is_leader: bool
    raft_lag: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    level: Level
    chip: str
    sentence: str
    rows: tuple[Row, ...]
    alarms: tuple[Alarm, ...]
    leader: Member | None
    term: int
    revision: int
    quorum: int
    voters: int
    survives: int
    """How many more voters may fail before writes stop; -1 when they already have."""
    notes: tuple[str, ...] = field(default=())


def assess(members: list[Member], list_failure: str | None = None, *, leads: str = "") -> Health:
    """Judge the cluster by its members' answers. `leads`: for how long the leader has been it, in
    words that stay the same for a while, as the sentence is read out when it changes."""
    answered = [member for member in members if member.status]
    alarms = find_alarms(members)
    leader = find_leader(members)
    term = max((member.status.raft_term for member in answered if member.status), default=0)
    head = max((member.status.raft_index for member in answered if member.status), default=0)
    rows = tuple(_row(member, leader, head, alarms) for member in members)
    voters = [member for member in members if not member.is_learner]
    quorum = len(voters) // 2 + 1
    voters_up = sum(1 for member in voters if member.status)
    survives = voters_up - quorum if leader else -1
    level, lines = _verdict(rows, leader, alarms, quorum, voters_up, list_failure, leads)
    healthy = sum(1 for row in rows if row.level is Level.OK)
    return Health(
        level=level,
        chip=f"{healthy} of {len(rows)} healthy",
        sentence=" ".join(lines),
        rows=rows,
        alarms=alarms,
        leader=leader,
        term=term,
        revision=max((m.status.revision for m in answered if m.status), default=0),
        quorum=quorum,
        voters=len(voters),
        survives=max(survives, -1),
    )


def find_leader(members: list[Member]) -> Member | None:
    """The member most of those in the newest term name as leader, if it is on the list."""
    said = [member.status for member in members if member.status and member.status.leader_id]
    if not said:
        return None
    term = max(status.raft_term for status in said)
    votes = Counter(status.leader_id for status in said if status.raft_term == term)
    leader_id = votes.most_common(1)[0][0]
    return next((member for member in members if member.id == leader_id), None)


def find_alarms(members: list[Member]) -> tuple[Alarm, ...]:
    """Every alarm any member tells of, once. They are replicated, so one telling is enough."""
    names = {member.id: member.label for member in members}
    found: dict[tuple[str, int], Alarm] = {}
    for member in members:
        for text in member.status.errors if member.status else ():
            match = ALARM_TEXT.search(text)
            if match:
                member_id, kind = int(match[1]), match[2]
                name = names.get(member_id, f"{member_id:x}")
                found[kind, member_id] = Alarm(kind, member_id, name)
    return tuple(found[key] for key in sorted(found))


def other_errors(status: MemberStatus) -> tuple[str, ...]:
    """What Status tells beside alarms and the missing leader, both of which have own places."""
    return tuple(
        text
        for text in status.errors
        if not ALARM_TEXT.search(text) and text != "etcdserver: no leader"
    )


def _row(member: Member, leader: Member | None, head: int, alarms: tuple[Alarm, ...]) -> Row:
    is_leader = leader is not None and member.id == leader.id and member.id != 0
    status = member.status
    if status is None:
        if not member.is_started and member.id:
            return Row(member, Level.WARN, "not started", False, 0, ())
        return Row(member, Level.DANGER, "unreachable", is_leader, 0, ())
    raft_lag = max(0, head - status.raft_index)
    notes = list(other_errors(status))
    level, state = Level.OK, "healthy"
    if status.db_quota_bytes and status.db_size_bytes > QUOTA_SHARE_MAX * status.db_quota_bytes:
        share = status.db_size_bytes * 100 // status.db_quota_bytes
        level, state = Level.WARN, "near quota"
        notes.append(f"database at {share} % of its quota")
    if status.applied_lag > APPLIED_LAG_MAX or raft_lag > RAFT_LAG_MAX:
        level, state = Level.WARN, "behind"
    own = [alarm.kind for alarm in alarms if alarm.member_id == member.id]
    if own:
        level, state = Level.DANGER, " ".join(own)
    elif not status.leader_id:
        level, state = Level.DANGER, "no leader"
    elif notes and level is Level.OK:
        level, state = Level.WARN, "reports errors"
    return Row(member, level, state, is_leader, raft_lag, tuple(notes))


def _verdict(
    rows: tuple[Row, ...],
    leader: Member | None,
    alarms: tuple[Alarm, ...],
    quorum: int,
    voters_up: int,
    list_failure: str | None,
    leads: str,
) -> tuple[Level, list[str]]:
    """The sentence, the gravest thing first."""
    if not any(row.member.status for row in rows):
        text = "No member answers."
        return Level.DANGER, [text, *([f"{list_failure}."] if list_failure else [])]
    # A member in danger is a warning for the cluster: it is built to outlive one. What it cannot
    # outlive raises the level below.
    level = Level.OK if all(row.level is Level.OK for row in rows) else Level.WARN
    lines: list[str] = []
    if leader is None:
        level = Level.DANGER
        lines.append("There is no leader: writes stop and linearizable reads fail.")
    if voters_up < quorum:
        level = Level.DANGER
        lines.append(f"{voters_up} of the {quorum} voters a quorum needs answer.")
    for kind in dict.fromkeys(alarm.kind for alarm in alarms):
        level = Level.DANGER
        lines.append(_alarm_line(kind, [a.member for a in alarms if a.kind == kind]))
    if list_failure:
        level = max(level, Level.WARN)
        lines.append(f"The member list could not be read ({list_failure}): endpoints stand for it.")
    lines += [_absence(row) for row in rows if not row.member.status]
    lines += [f"{row.member.label} is {row.state}." for row in rows if _is_worth_a_line(row)]
    if leader is not None:
        voters = sum(1 for row in rows if not row.member.is_learner)
        if quorum == voters_up < voters:
            lines.append("One more failure and writes stop.")
        lines.append(f"Leader {leader.label}{leads and f' {leads}'}, term {_term(rows)}.")
    if not alarms:
        lines.append("No alarms.")
    return level, lines


def _is_worth_a_line(row: Row) -> bool:
    return row.member.status is not None and row.state in {"behind", "near quota"}


def _absence(row: Row) -> str:
    if row.state == "not started":
        return f"Member {row.member.label} was added and has not started."
    why = f" ({row.member.failure})" if row.member.failure else ""
    return f"{row.member.label} does not answer{why}."


def _alarm_line(kind: str, members: list[str]) -> str:
    where = ", ".join(members)
    if kind == "NOSPACE":
        return f"NOSPACE on {where}: writes are refused until space is freed and it is disarmed."
    if kind == "CORRUPT":
        return f"CORRUPT on {where}: the data of members differs, writes are refused."
    return f"Alarm {kind} on {where}."


def _term(rows: tuple[Row, ...]) -> int:
    return max(row.member.status.raft_term for row in rows if row.member.status)
