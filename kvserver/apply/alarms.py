"""Alarms: pairs of member and type, replicated and persisted (spec/maintenance.md §2)."""

from __future__ import annotations

from kvserver.membership.cluster import Tables
from kvserver.proto import rpc_pb2

NONE, NOSPACE, CORRUPT = 0, 1, 2


class Alarms:
    """The alarm state machine. Owner: the loop, through apply."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._pairs: dict[tuple[int, int], None] = {}
        self.has_nospace = False
        self.has_corrupt = False

    def restore(self) -> None:
        self._pairs = {}
        for key, _ in self._tables.items("alarm"):
            member = rpc_pb2.AlarmMember.FromString(key)
            self._pairs[member.memberID, member.alarm] = None
        self._refresh()

    def pairs(self, kind: int = NONE) -> list[tuple[int, int]]:
        """All pairs, or those of one type (A2)."""
        return [pair for pair in self._pairs if kind in (NONE, pair[1])]

    def activate(self, member: int, kind: int) -> list[tuple[int, int]]:
        """Add a pair; a pair that exists answers alike, and NONE is ignored (A3)."""
        if kind == NONE:
            return []
        pair = (member, kind)
        if pair not in self._pairs:
            self._pairs[pair] = None
            self._tables.put("alarm", _record(pair), b"")
            self._refresh()
        return [pair]

    def deactivate(self, member: int, kind: int) -> list[tuple[int, int]]:
        """Remove exactly this pair; no wildcards (A4)."""
        pair = (member, kind)
        if pair not in self._pairs:
            return []
        del self._pairs[pair]
        self._tables.delete("alarm", _record(pair))
        self._refresh()
        return [pair]

    def _refresh(self) -> None:
        kinds = {kind for _, kind in self._pairs}
        self.has_nospace = NOSPACE in kinds
        self.has_corrupt = CORRUPT in kinds


def _record(pair: tuple[int, int]) -> bytes:
    return rpc_pb2.AlarmMember(memberID=pair[0], alarm=pair[1]).SerializeToString()  # type: ignore[arg-type]
