"""A leader's news of a commit, held back for a moment so that it goes with the next entries.

Raft tells followers of every commit at once, in an append without entries that each of them
answers. With one writer after the other that is half of all messages, and of what they cost on
both sides; the next put's append says the same a fraction of a millisecond later. So such a message
waits, unless somebody waits for it: a member that has passed on a client's write or read needs the
commit to answer, and a member that is being removed may never get another.

What is held may as well have been lost on the way: raft allows for both. Owner: the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvserver.limits import COMMIT_EAGER_SECONDS, COMMIT_HELD_SECONDS
from kvserver.raft import Message, MessageType, RawNode

_HELD_SECONDS = COMMIT_HELD_SECONDS * 0.9
"""A timer may come a little early."""


class HeldCommits:
    """Between raft's messages and the network."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        node: RawNode,
        send: Callable[[Sequence[Message]], None],
    ) -> None:
        self._loop = loop
        self._node = node
        self._send = send
        self._held: dict[int, tuple[float, Message]] = {}
        """The newest one by member, and since when it lacks one."""
        self._eager_until: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def pass_on(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those of a leader's messages that go at once."""
        # Hot: once per batch of a leader with followers.
        held = self._held
        going = []
        for message in messages:
            if message.type is MessageType.APPEND:
                if message.entries:
                    if held:
                        held.pop(message.to, None)
                elif self._may_wait(message.to):
                    older = held.get(message.to)
                    held[message.to] = older[0] if older else self._loop.time(), message
                    continue
            going.append(message)
        if held and self._timer is None:
            self._timer = self._loop.call_later(COMMIT_HELD_SECONDS, self._flush)
        return going

    def _may_wait(self, member: int) -> bool:
        until = self._eager_until.get(member)
        if until is not None:
            if until > self._loop.time():
                return False
            del self._eager_until[member]
        return not self._node.has_pending_conf_change

    def expect(self, member: int) -> None:
        """The member has clients that wait for what is committed."""
        self._eager_until[member] = self._loop.time() + COMMIT_EAGER_SECONDS
        held = self._held.pop(member, None)
        if held is not None:
            self._send((held[1],))

    def _flush(self) -> None:
        """What has waited long enough goes; the rest is likely to go with entries yet."""
        self._timer = None
        held, term, now = self._held, self._node.term, self._loop.time()
        late = [member for member, (since, _) in held.items() if since <= now - _HELD_SECONDS]
        messages = [held.pop(member)[1] for member in late]
        if held:
            first = min(since for since, _ in held.values())
            self._timer = self._loop.call_later(first + COMMIT_HELD_SECONDS - now, self._flush)
        current = [message for message in messages if message.term == term]
        if current and self._node.is_leader:
            self._send(current)

    def stop(self) -> None:
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
