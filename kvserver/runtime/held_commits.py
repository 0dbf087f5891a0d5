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
from collections.abc import Callable, Sequence

from kvserver.limits import COMMIT_EAGER_SECONDS, COMMIT_HELD_SECONDS
from kvserver.raft import Message, RawNode

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
        self._trusting: set[int] = set()
        """Those of them that take promises (raft/commits.py)."""
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
            node.tell_commits()
            return
        now = self._loop.time()
        for member in self._expecting(now):
            node.tell_commit(member)
        self._held.append((committed, now))
        if self._timer is None:
            self._timer = self._loop.call_later(COMMIT_HELD_SECONDS, self._tell_late)

    def promises(self) -> Sequence[Message]:
        """Our disk has more of the log: who takes promises need not wait for the commit."""
        if not self._trusting:
            return ()
        expecting = self._expecting(self._loop.time())
        promise = self._node.promise
        found = [promise(member) for member in expecting if member in self._trusting]
        return [message for message in found if message is not None]

    def _expecting(self, now: float) -> list[int]:
        """Members whose clients wait for something."""
        expecting = self._eager_until
        if not expecting:
            return []
        for member in [member for member, until in expecting.items() if until <= now]:
            del expecting[member]
            self._trusting.discard(member)
        return list(expecting)

    def expect(self, member: int, *, takes_promises: bool = False) -> None:
        """The member has clients that wait for what is committed."""
        self._eager_until[member] = self._loop.time() + COMMIT_EAGER_SECONDS
        if takes_promises:
            self._trusting.add(member)
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
            node.tell_commits(lacking=late)
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
