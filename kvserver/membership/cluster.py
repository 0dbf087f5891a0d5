"""The membership state machine: conf changes, attributes, the cluster version.

Owner: the loop, through apply. Every member judges a conf change alike, in the order of
spec/raft-wire.md §4: removed id; promote: unknown, not a learner; add: exists, URL in use, too
many learners; remove and update: unknown; update: another member's URL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from kvserver import errors
from kvserver.membership.codec import decode_member, encode_member
from kvserver.membership.ids import format_id
from kvserver.membership.types import Member

ADD_VOTER, REMOVE, UPDATE, ADD_LEARNER = range(4)
"""raftpb.ConfChangeType, by number."""


class Tables(Protocol):
    """The part of the backend that membership writes to."""

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...

    def get_from(self, table: str, key: bytes) -> bytes | None: ...

    def items(self, table: str) -> list[tuple[bytes, bytes]]: ...


class Membership:
    """Members by id, removed ids, and the cluster version."""

    def __init__(self, tables: Tables, learners_max: int = 1) -> None:
        self._tables = tables
        self._learners_max = learners_max
        self._members: dict[int, Member] = {}
        self._removed: set[int] = set()
        self.version: str | None = None
        self.downgrade_target = ""
        """The version that the cluster is being taken down to, or "" (spec/cluster.md §6.4)."""

    def restore(self) -> None:
        """Read everything back from the backend."""
        self._members = {}
        for _, record in self._tables.items("members"):
            member = decode_member(record)
            self._members[member.id] = member
        self._removed = {int(key, 16) for key, _ in self._tables.items("members_removed")}
        version = self._tables.get_from("cluster", b"clusterVersion")
        self.version = version.decode() if version else None
        downgrade = json.loads(self._tables.get_from("cluster", b"downgrade") or b"{}")
        is_enabled = bool(downgrade.get("enabled"))
        self.downgrade_target = str(downgrade.get("target-version", "")) if is_enabled else ""

    # -- reading

    def members(self) -> list[Member]:
        """All members in ascending id order."""
        return [self._members[number] for number in sorted(self._members)]

    def get(self, number: int) -> Member | None:
        return self._members.get(number)

    def is_removed(self, number: int) -> bool:
        return number in self._removed

    def removed(self) -> list[int]:
        return sorted(self._removed)

    def voters(self) -> list[Member]:
        return [member for member in self.members() if not member.is_learner]

    # -- judging a change, before it is proposed and again when it is applied

    def check_change(self, kind: int, member: Member, *, is_promote: bool = False) -> None:
        """Raise the error that this change deserves now (spec/raft-wire.md §4)."""
        if member.id in self._removed:
            raise errors.MemberNotFound
        known = self._members.get(member.id)
        if kind in (ADD_VOTER, ADD_LEARNER):
            if is_promote:
                self._check_promote(known)
            else:
                self._check_add(known, member)
        elif known is None:
            raise errors.MemberNotFound
        elif kind == UPDATE:
            self._check_urls(member)

    def _check_promote(self, known: Member | None) -> None:
        if known is None:
            raise errors.MemberNotFound
        if not known.is_learner:
            raise errors.MemberNotLearner

    def _check_add(self, known: Member | None, member: Member) -> None:
        if known is not None:
            raise errors.MemberExist
        self._check_urls(member)
        if member.is_learner:
            learners = sum(1 for other in self._members.values() if other.is_learner)
            if learners >= self._learners_max:
                raise errors.TooManyLearners

    def _check_urls(self, member: Member) -> None:
        wanted = set(member.peer_urls)
        for other in self._members.values():
            if other.id != member.id and wanted & set(other.peer_urls):
                raise errors.PeerURLExist

    # -- changing

    def apply_change(self, kind: int, member: Member, *, is_promote: bool = False) -> None:
        """Carry out a change that `check_change` has passed."""
        if kind == REMOVE:
            self._remove(member.id)
        elif is_promote:
            self._save(replace(self._members[member.id], is_learner=False))
        elif kind == UPDATE:
            self._save(replace(self._members[member.id], peer_urls=member.peer_urls))
        else:
            self._save(member)

    def set_attributes(self, number: int, name: str, client_urls: Iterable[str]) -> bool:
        """Publish a member's name and client URLs; False when it is not a member (any more)."""
        member = self._members.get(number)
        if member is None:
            return False
        self._save(replace(member, name=name, client_urls=tuple(client_urls)))
        return True

    def set_version(self, version: str) -> None:
        self.version = version
        self._tables.put("cluster", b"clusterVersion", version.encode())

    def set_downgrade(self, target: str) -> None:
        """Begin to take the cluster down to `target`, as "3.6.0"; "" ends that."""
        self.downgrade_target = target
        # In the words of etcd's own record (spec/bbolt.md §3.2).
        fields = {"target-version": target, "enabled": True} if target else {"enabled": False}
        record = json.dumps(fields, separators=(",", ":")).encode()
        self._tables.put("cluster", b"downgrade", record)

    def _save(self, member: Member) -> None:
        self._members[member.id] = member
        self._tables.put("members", format_id(member.id).encode(), encode_member(member))

    def _remove(self, number: int) -> None:
        self._members.pop(number, None)
        self._removed.add(number)
        self._tables.delete("members", format_id(number).encode())
        self._tables.put("members_removed", format_id(number).encode(), b"removed")
