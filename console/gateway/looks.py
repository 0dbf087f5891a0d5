"""Every member asked for its Status at once, and nobody kept waiting by one that says nothing.

A member that let a look run into its deadline costs the caller that whole time once. From then on
it is asked all the same and waited for no longer than SILENT_SECONDS, until it has answered,
however late: so its row says that it is silent, and says otherwise soon after it is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillSilent
from weakref import WeakKeyDictionary

from console.gateway.wire import STATUS_SECONDS
from kvserver.client import Answer, CallFailed, Client, Endpoint
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

SILENT_SECONDS = 0.3
LOOKS_AT_ONCE = 32
"""Silent members asked beside one another, of all connections; a further one waits its turn."""


class Looks:
    """Thread-safe. What is known of a client's members goes with the client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="silent")
        self._silent: WeakKeyDictionary[Client, dict[Endpoint, Future[Answer] | None]] = (
            WeakKeyDictionary()
        )
        """Endpoints that are silent, each with the look that may end it."""

    def status(self, client: Client, endpoints: Sequence[Endpoint]) -> list[Answer]:
        """In their order."""
        began_at = time.monotonic()
        beside = self._begin(client, endpoints)
        others = [endpoint for endpoint in endpoints if endpoint not in beside]
        found = {answer.endpoint: answer for answer in _ask(client, others)}
        for endpoint, answer in found.items():
            self._note(client, endpoint, answer)
        for endpoint, look in beside.items():
            left = SILENT_SECONDS - (time.monotonic() - began_at)
            try:
                found[endpoint] = look.result(max(left, 0))
            except StillSilent:
                found[endpoint] = _still_silent(endpoint)
        return [found[endpoint] for endpoint in endpoints]

    def are_silent(self, client: Client, endpoints: Sequence[Endpoint]) -> bool:
        """Whether all of them were, the last time they were asked."""
        with self._lock:
            return self._silent.get(client, {}).keys() >= set(endpoints)

    def note_silent(self, client: Client, endpoints: Sequence[Endpoint]) -> None:
        with self._lock:
            known = self._silent.setdefault(client, {})
            for endpoint in endpoints:
                known.setdefault(endpoint, None)

    def _begin(self, client: Client, endpoints: Sequence[Endpoint]) -> dict[Endpoint, Future]:
        """Looks at the silent ones among them: of each at most one at a time."""
        begun: dict[Endpoint, Future] = {}
        with self._lock:
            known = self._silent.get(client, {})
            for endpoint in (one for one in endpoints if one in known):
                look = known[endpoint]
                if look is None or look.done():
                    look = known[endpoint] = self._pool.submit(self._look, client, endpoint)
                begun[endpoint] = look
        return begun

    def _look(self, client: Client, endpoint: Endpoint) -> Answer:
        [answer] = _ask(client, [endpoint])
        self._note(client, endpoint, answer)
        return answer

    def _note(self, client: Client, endpoint: Endpoint, answer: Answer) -> None:
        """A refused connection is an answer in that nobody waits for it; it changes nothing."""
        code = answer.failure.code if answer.failure else None
        if code is Code.DEADLINE_EXCEEDED:
            self.note_silent(client, [endpoint])
        elif code is not Code.UNAVAILABLE:
            with self._lock:
                self._silent.get(client, {}).pop(endpoint, None)


def _ask(client: Client, endpoints: Sequence[Endpoint]) -> list[Answer]:
    if not endpoints:
        return []
    return client.fan_out(
        endpoints, lambda stubs: stubs.maintenance.Status, rpc_pb2.StatusRequest(), STATUS_SECONDS
    )


def _still_silent(endpoint: Endpoint) -> Answer:
    failure = CallFailed(Code.DEADLINE_EXCEEDED, "still silent", str(endpoint), was_sent=True)
    return Answer(endpoint, None, failure, SILENT_SECONDS)


looks = Looks()
