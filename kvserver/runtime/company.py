"""Who would notice that the loop stands still while the disk takes a short append.

The way to the append thread and back costs a lone write more than a quick disk does: two threads
are woken, each with the GIL in between. So a member writes such an append on the loop itself, but
only while everybody who talks to it waits for that disk anyway: no read, watch or lease is to wait
for a disk that stalls.
"""

from __future__ import annotations

from collections.abc import Callable

from kvserver.limits import APPEND_HERE_BYTES_MAX, COMPANY_SECONDS
from kvserver.member.reads import ReadQueue
from kvserver.runtime.mailbox import Mailbox
from kvserver.runtime.propose_duty import ProposeDuty
from kvserver.runtime.storage_duty import StorageDuty
from kvserver.watch.hub import Hub


class Company:
    """Owner: the loop."""

    def __init__(
        self,
        proposals: ProposeDuty,
        reads: ReadQueue,
        hub: Hub,
        mailbox: Mailbox,
        storage: StorageDuty,
    ) -> None:
        self._proposals = proposals
        self._reads = reads
        self._hub = hub
        self._mailbox = mailbox
        self._storage = storage
        self.count_messages: Callable[[], int] = int
        """What clients have sent so far, writes too."""
        self._others = 0
        self._until = 0.0

    def look(self, now: float) -> None:
        """At each tick: whoever has come since the last one stays for a while."""
        # A write waits for the disk anyway. The server's own writes make the number smaller.
        others = self.count_messages() - self._proposals.taken + self._mailbox.reads_asked
        if others > self._others:
            self._until = now + COMPANY_SECONDS
        self._others = others

    def is_none(self, entries: int, append_bytes: int, *, leads: bool) -> bool:
        """Whether nobody would notice an append of so many entries and bytes.

        A leader of many writes, and a follower that has passed on one of its clients' writes, are
        quicker with the thread: their loops go on meanwhile.
        """
        proposals = self._proposals
        if leads and (entries > 1 or len(proposals.waiting) > 1):
            return False
        return not (
            append_bytes > APPEND_HERE_BYTES_MAX
            or proposals.new
            or proposals.forwarded.by_data
            or self._reads.has_readers
            or self._hub.streams
            or self._storage.is_moving
            or proposals.now < self._until
        )
