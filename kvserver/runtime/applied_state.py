"""The applied state as it is sent to a member that lags: position, configuration, membership and
data of one moment, between two slices of applying. Owner: the loop."""

from __future__ import annotations

from typing import Any

from kvserver.membership.legacy_image import encode_legacy_image
from kvserver.raft import Snapshot
from kvserver.runtime.member_loop import MemberLoop
from kvserver.runtime.storage_duty import StorageDuty


class AppliedState:
    """What the sender of snapshots asks of a member."""

    def __init__(self, member: MemberLoop, storage: StorageDuty) -> None:
        self._member = member
        self._storage = storage

    def snapshot(self) -> Snapshot:
        member = self._member
        term = member.node.term_at(member.applied_index)
        assert term is not None, "the last applied entry is in the log, or right before it"
        image = encode_legacy_image(member.membership)
        return Snapshot(member.applied_index, term, member.node.conf_state, image)

    def open_view(self) -> Any:
        """To be called at the same moment as `snapshot`: nothing is awaited in between."""
        return self._storage.backend.open_snapshot()

    def hold_log(self) -> None:
        self._storage.hold_log()

    def release_log(self) -> None:
        self._storage.release_log()

    def report_snapshot(self, member: int, is_success: bool) -> None:
        self._member.mailbox.report_snapshot(member, is_success)

    def report_unreachable(self, member: int) -> None:
        self._member.mailbox.report_unreachable(member)
