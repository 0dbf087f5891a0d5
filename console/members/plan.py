"""What a change of the membership does to the quorum, and what stands against it.

No Django, no gRPC. The server judges again when it is asked (spec/cluster.md §3.6); what is said
here comes before that, in words, with what the next failure would do afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from console.overview.health import Health, Member, Row

IN_SYNC_PERCENT = 90
"""Of the leader's log, so much has to be on a learner before it may vote (spec/cluster.md §3.4)."""
VOTERS_USUAL_MAX = 7
"""Beyond this every write waits for more members than failures are worth."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """Voters, and how many of them answer."""

    voters: int
    up: int

    @property
    def needed(self) -> int:
        return self.voters // 2 + 1

    @property
    def survives(self) -> int:
        """Further failures that leave a quorum; -1 when there is none already."""
        return self.up - self.needed if self.up >= self.needed else -1

    @property
    def next_failure(self) -> str:
        """What the next failure of a voter would do."""
        if self.survives < 0:
            return "there is no quorum: writes have stopped"
        if self.voters == 1:
            return "the next failure stops the cluster"
        if self.survives == 0:
            return "the next failure stops writes"
        return f"the next failure is survived, and {_more(self.survives - 1)}"


def _more(count: int) -> str:
    return "the one after it stops writes" if count == 0 else f"{count} more after it"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be so. One that is not `is_required` is advice."""

    is_met: bool
    words: str
    is_required: bool = True
    remedy: str = ""
    """The name of a page that helps."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A change: the quorum before and after, what was checked, what it means."""

    before: Quorum
    after: Quorum
    checks: tuple[Check, ...]
    points: tuple[str, ...] = ()

    @property
    def is_ready(self) -> bool:
        return all(check.is_met for check in self.checks if check.is_required)


def quorum_of(rows: Iterable[Row]) -> Quorum:
    voters = [row for row in rows if not row.member.is_learner]
    return Quorum(len(voters), sum(1 for row in voters if row.member.status))


def start_flags(
    name: str, peer_urls: Sequence[str], members: Sequence[Member], added: Member
) -> dict[str, str]:
    """The flags that a new member starts with, those of the others taken from the member list. One
    that has not started has no name; only one such can be, and it is the new one."""
    others = [
        f"{member.name or member.hex_id}={url}"
        for member in members
        if member.id != added.id
        for url in member.peer_urls
    ]
    own = [f"{name}={url}" for url in peer_urls]
    urls = ",".join(peer_urls)
    return {
        "name": name,
        "initial-cluster": ",".join([*others, *own]),
        "initial-cluster-state": "existing",
        "initial-advertise-peer-urls": urls,
        "listen-peer-urls": urls,
    }


def bad_peer_urls(urls: Sequence[str]) -> str:
    """Why these cannot be a member's peer URLs, or "" (spec/cluster.md §3.1)."""
    if not urls:
        return "One address a line, such as http://10.0.0.4:2380."
    for url in urls:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return f"{url} is no address."
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return f"{url} does not begin with http:// or https:// and a host."
        if port is None:
            return f"{url} has no port."
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            return f"{url} must be scheme, host and port only."
    return ""


# -- the changes


def plan_add(
    health: Health, members: Sequence[Member], urls: Sequence[str], *, as_voter: bool
) -> Plan:
    before = quorum_of(health.rows)
    after = Quorum(before.voters + 1, before.up) if as_voter else before
    waiting = [row.member for row in health.rows if row.state == "not started"]
    learners = [row.member for row in health.rows if row.member.is_learner]
    taken = {url: member.label for member in members for url in member.peer_urls}
    used = [f"{url} is {taken[url]}'s" for url in urls if url in taken]
    checks = [
        *_leadership(health),
        Check(
            before.survives >= 0,
            "A quorum of the voters answers" if before.survives >= 0 else _short(before),
        ),
        Check(
            not waiting,
            "Every member that was added has started"
            if not waiting
            else f"{waiting[0].label} was added and has not started: start it or remove it first",
        ),
        Check(not used, "The addresses are nobody else's" if not used else "; ".join(used)),
    ]
    points = []
    if as_voter:
        checks.append(
            Check(
                after.survives >= 0,
                "A quorum is there even before the new voter has started"
                if after.survives >= 0
                else "Until the new voter has started there would be no quorum: writes would stop",
            )
        )
        points.append(
            "It counts as a voter at once, while it is empty: until it has caught up the cluster "
            "survives less, not more."
        )
    else:
        checks.append(
            Check(
                not learners,
                "There is no other learner"
                if not learners
                else f"{learners[0].label} is a learner already; most clusters take one at a time",
                is_required=False,
            )
        )
        points.append(
            "As a learner it receives the data and does not vote: nothing can get worse. Promote "
            "it when it has caught up."
        )
    points += _size_advice(before.voters + 1)
    return Plan(before, after, tuple(checks), tuple(points))


def plan_promote(health: Health, row: Row) -> Plan:
    before = quorum_of(health.rows)
    is_up = row.member.status is not None
    after = Quorum(before.voters + 1, before.up + is_up)
    share = _synced_percent(health, row)
    checks = (
        *_leadership(health),
        Check(row.member.is_learner, f"{row.member.label} is a learner"),
        Check(
            is_up, f"{row.member.label} answers" if is_up else f"{row.member.label} is {row.state}"
        ),
        Check(
            share >= IN_SYNC_PERCENT,
            f"It has {share} % of the leader's log; {IN_SYNC_PERCENT} % are needed",
        ),
        Check(after.survives >= 0, "There is a quorum with it"),
    )
    points = ["From then on it votes, and every write needs the quorum it is part of."]
    points += _size_advice(after.voters)
    return Plan(before, after, checks, tuple(points))


def plan_remove(health: Health, row: Row) -> Plan:
    member = row.member
    before = quorum_of(health.rows)
    is_up = member.status is not None
    after = before if member.is_learner else Quorum(max(0, before.voters - 1), before.up - is_up)
    others_down = [
        other.member.label
        for other in health.rows
        if other.member.id != member.id and not other.member.is_learner and not other.member.status
    ]
    checks = [
        *_leadership(health),
        Check(
            before.survives >= 0,
            "A quorum of the voters answers" if before.survives >= 0 else _short(before),
        ),
        Check(
            after.voters > 0,
            "It is not the last voter" if after.voters else "It is the last voter: nobody is left",
        ),
    ]
    if not member.is_learner and after.voters:
        checks.append(
            Check(
                after.survives >= 0,
                "The voters that stay have a quorum"
                if after.survives >= 0
                else "The voters that stay would have no quorum: writes would stop for good",
            )
        )
    if is_up and others_down and not member.is_learner:
        checks.append(
            Check(
                False,
                f"{', '.join(others_down)} does not answer: remove what is dead first, this member "
                "still helps",
            )
        )
    if row.is_leader and is_up and len(health.rows) > 1:
        checks.append(
            Check(
                False,
                f"{member.label} leads: move the leadership first, and no election is waited for",
                is_required=False,
                remedy="move_leader",
            )
        )
    points = [
        "It stops for good: a removed member never comes back under its id. Its data directory is "
        "of no use to the cluster any more.",
        "Clients that know only its address lose the cluster.",
    ]
    if not is_up:
        points.append("It does not answer: nothing is taken from the cluster that it still has.")
    return Plan(before, after, tuple(checks), tuple(points))


def plan_update(health: Health, row: Row, members: Sequence[Member], urls: Sequence[str]) -> Plan:
    before = quorum_of(health.rows)
    taken = {url: m.label for m in members if m.id != row.member.id for url in m.peer_urls}
    used = [f"{url} is {taken[url]}'s" for url in urls if url in taken]
    checks = (
        *_leadership(health),
        Check(not used, "The addresses are nobody else's" if not used else "; ".join(used)),
    )
    points = (
        "The other members dial it there from now on; a wrong address cuts it off.",
        "The member itself keeps what it was started with: restart it with the same addresses.",
    )
    return Plan(before, before, checks, points)


def plan_move(health: Health, row: Row) -> Plan:
    before = quorum_of(health.rows)
    member = row.member
    leader = health.leader
    checks = (
        *_leadership(health),
        Check(not row.is_leader, f"{member.label} does not lead yet"),
        Check(not member.is_learner, f"{member.label} is a voter"),
        Check(
            member.status is not None,
            f"{member.label} answers" if member.status else f"{member.label} is {row.state}",
        ),
        Check(row.state != "behind", f"{member.label} has caught up"),
    )
    points = (
        f"{leader.label if leader else 'The leader'} hands over; writes wait for well under a "
        "second and none is lost.",
        "Leases start their time anew at the new leader.",
    )
    return Plan(before, before, checks, points)


def _leadership(health: Health) -> list[Check]:
    """What is sent to a leader that has just died is lost, and the others name it until they have
    elected another one. That the console cannot reach it need not mean that they cannot."""
    leader = health.leader
    checks = [Check(leader is not None, "There is a leader")]
    if leader is not None and leader.status is None:
        words = (
            f"{leader.label} leads and does not answer: if it has died, the others elect another "
            "within seconds, and what is sent before may be lost"
        )
        checks.append(Check(False, words, is_required=False))
    return checks


def _short(quorum: Quorum) -> str:
    return f"{quorum.up} of the {quorum.needed} voters a quorum needs answer"


def _synced_percent(health: Health, row: Row) -> int:
    head = max((r.member.status.raft_index for r in health.rows if r.member.status), default=0)
    if row.member.status is None or not head:
        return 0
    return 100 * row.member.status.raft_index // head


def _size_advice(voters: int) -> list[str]:
    if voters % 2 == 0:
        return [
            f"{voters} voters survive as many failures as {voters - 1} do, and wait for one more "
            "at every write."
        ]
    if voters > VOTERS_USUAL_MAX:
        return [
            f"{voters} voters are more than most clusters gain from: every write waits for more."
        ]
    return []
