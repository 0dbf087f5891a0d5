"""A leader's news of a commit, held back for a moment so that it goes with the next entries.

Raft tells followers of every commit at once, in an append without entries that each of them
answers. With one writer after the other that is half of all messages, and of what they cost on
both sides; the next put's append says the same a fraction of a millisecond later. So the news
waits, unless somebody waits for it: a member that has passed on a client's write or read needs the
commit to answer, and a member that is being removed may never hear of another.

What is held may as well have been lost on the way: raft allows for both. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from kvserver.limits import COMMIT_EAGER_SECONDS, COMMIT_HELD_SECONDS
from kvserver.raft import RawNode

_HELD_SECONDS = COMMIT_HELD_SECONDS * 0.9
"""A timer may come a little early."""


class HeldCommits:
    """Says when raft tells which commit: its config has `tells_commits=False`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, node: RawNode, wake: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._node = node
        self._wake = wake
        self._committed = node.committed
        self._held: deque[tuple[int, float]] = deque()
        """Commit indexes that somebody may not know of, and since when."""
        self._eager_until: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Raft has taken something in, which may have committed something."""
        # Hot: once per turn of the loop.
        node = self._node
        committed = node.committed
        if committed == self._committed:
            return
        self._committed = committed
        if not node.is_leader or node.is_alone:
            return
        if node.has_pending_conf_change:
            node.tell_commit()
            return
        now = self._loop.time()
        if self._eager_until:
            self._tell_eager(now)
        self._held.append((committed, now))
        if self._timer is None:
            self._timer = self._loop.call_later(COMMIT_HELD_SECONDS, self._tell_late)

    def _tell_eager(self, now: float) -> None:
        for member, until in list(self._eager_until.items()):
            if until > now:
                self._node.tell_commit(member)
            else:
                del self._eager_until[member]

    def expect(self, member: int) -> None:
        """The member has clients that wait for what is committed."""
        self._eager_until[member] = self._loop.time() + COMMIT_EAGER_SECONDS
        if self._held:
            self._node.tell_commit(member)

    def _tell_late(self) -> None:
        """What no entries have told meanwhile."""
        self._timer = None
        node, held, now = self._node, self._held, self._loop.time()
        if not node.is_leader:
            held.clear()
            return
        late = 0
        while held and held[0][1] <= now - _HELD_SECONDS:
            late = held.popleft()[0]
        known = node.commit_known()
        if known < late:
            node.tell_commit(lacking=late)
            self._wake()
            known = node.commit_known()
        while held and held[0][0] <= known:
            held.popleft()
        if held:
            due = held[0][1] + COMMIT_HELD_SECONDS
            self._timer = self._loop.call_later(due - now, self._tell_late)

    def stop(self) -> None:
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
