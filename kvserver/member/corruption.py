"""Who is corrupt, judged from the hashes that members have told (spec/maintenance.md §9).

Pure: asking them is `services/corruption.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

NOBODY_KNOWN = 0
"""The member id of an alarm when nobody can say who is wrong (C3)."""


class ToldHash(NamedTuple):
    """A member's HashKV."""

    hash: int
    compact_revision: int
    current_revision: int
    """Of the member at that moment, not the one that is hashed."""


def differing(own: ToldHash, peers: Mapping[int, ToldHash]) -> list[int]:
    """Members whose hash contradicts ours (C1): those that compacted elsewhere prove nothing."""
    return [
        number
        for number, told in peers.items()
        if told.compact_revision == own.compact_revision and told.hash != own.hash
    ]


def periodic_culprit(
    leader: int, first: ToldHash, second: ToldHash, peers: Mapping[int, ToldHash]
) -> int | None:
    """Whom the leader accuses after one run (C2). `first` was taken before the peers were asked,
    `second` after a linearizable read that followed them."""
    if (
        second.hash != first.hash
        and second.current_revision == first.current_revision
        and second.compact_revision == first.compact_revision
    ):
        return leader
    for number, told in peers.items():
        if (
            told.current_revision > second.current_revision
            or told.compact_revision > second.compact_revision
            or (told.compact_revision == first.compact_revision and told.hash != first.hash)
        ):
            return number
    return None


class CompactVerdict(NamedTuple):
    """What the hashes of one compaction show."""

    accused: tuple[int, ...]
    is_whole: bool
    """All members were compared."""

    @property
    def is_settled(self) -> bool:
        """No older compaction need be looked at."""
        return bool(self.accused) or self.is_whole


def compact_verdict(
    leader: int, own: ToldHash, peers: Mapping[int, ToldHash | None]
) -> CompactVerdict:
    """Compare the hashes of one compaction (C3). None: the peer did not answer."""
    groups: dict[int, list[int]] = {own.hash: [leader]}
    compared = 0
    for number, told in peers.items():
        if told is not None and told.compact_revision == own.compact_revision:
            groups.setdefault(told.hash, []).append(number)
            compared += 1
    if len(groups) == 1:
        return CompactVerdict((), compared == len(peers))
    quorum = (len(peers) + 1) // 2 + 1
    right = [value for value, members in groups.items() if len(members) >= quorum]
    if not right:
        return CompactVerdict((NOBODY_KNOWN,), compared == len(peers))
    wrong: Sequence[int] = [
        number for value, members in groups.items() if value != right[0] for number in members
    ]
    return CompactVerdict(tuple(sorted(wrong)), compared == len(peers))
