"""Conf changes at apply: judged by the membership, carried out by raft and membership together
(spec/raft-wire.md §4).

A change that is invalid by the time it is applied goes to raft with node id 0, which changes
nothing; its proposer hears why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvserver import errors, failpoints
from kvserver.errors import FatalError
from kvserver.member.proposal import Waiter
from kvserver.membership.cluster import REMOVE, Membership
from kvserver.membership.codec import decode_conf_context
from kvserver.membership.types import Member
from kvserver.raft import ConfChange, ConfState, Entry, RawNode
from kvserver.raft.codec import decode_conf_change


class ConfChanges:
    """Applies conf-change entries. Owner: the loop."""

    def __init__(
        self, membership: Membership, on_conf_state: Callable[[ConfState, int], None]
    ) -> None:
        self._membership = membership
        self._on_conf_state = on_conf_state

    def apply(
        self, entry: Entry, node: RawNode, take_waiter: Callable[[int], Waiter | None]
    ) -> None:
        """`take_waiter(id)`: who proposed the change with this id here, if anybody did."""
        failpoints.hit("beforeApplyOneConfChange")
        change = decode_conf_change(entry)
        if not isinstance(change, ConfChange):
            raise FatalError(
                f"log entry {entry.index} is a joint configuration change, which no etcd release "
                "proposes; start a release that knows it"
            )
        waiter = take_waiter(change.id) if change.id else None
        refusal = None
        try:
            self._apply_to_membership(change, entry.index)
        except errors.RequestError as error:
            change = replace(change, node_id=0)
            refusal = error
        self._on_conf_state(node.apply_conf_change(change), entry.index)
        if waiter is not None:
            if refusal is not None:
                waiter.fail(refusal.code, refusal.message)
            else:
                waiter.reply(b"")

    def _apply_to_membership(self, change: ConfChange, index: int) -> None:
        kind = int(change.type)
        if kind == REMOVE:
            member, is_promote = Member(change.node_id), False
        else:
            member, is_promote = self._decode(change, index)
        self._membership.check_change(kind, member, is_promote=is_promote)
        self._membership.apply_change(kind, member, is_promote=is_promote)

    def _decode(self, change: ConfChange, index: int) -> tuple[Member, bool]:
        try:
            member, is_promote = decode_conf_context(change.context)
        except (ValueError, KeyError) as error:
            raise FatalError(
                f"the conf change in log entry {index} is unreadable: {error}"
            ) from None
        if member.id != change.node_id:
            raise FatalError(
                f"the conf change in log entry {index} names member {member.id:x} "
                f"but changes {change.node_id:x}"
            )
        return member, is_promote
