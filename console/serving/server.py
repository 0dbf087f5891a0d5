"""daphne, with three things it lacks: it waits for slow readers, breaks off what failed, and holds
no body in memory (bodies.py).

Without the first a response is buffered whole for whoever reads slowly: a snapshot of gigabytes
would be in memory. Without the second a response whose view failed half-way is never ended, and
the browser waits for the rest. Importing this installs daphne's reactor.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from daphne.http_protocol import HTTPFactory
from daphne.server import Server
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from console.serving.bodies import BodyFactory
from console.serving.handler import SCOPE_KEY


@implementer(IPushProducer)
class Gate:
    """Shut while the transport has more to send than it likes."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pauseProducing(self) -> None:
        self._open.clear()

    def resumeProducing(self) -> None:
        self._open.set()

    def stopProducing(self) -> None:
        """The connection is gone: nobody is kept waiting for it."""
        self._open.set()

    async def passed(self) -> None:
        await self._open.wait()


class ConsoleServer(Server):
    @property
    def http_factory(self) -> BodyFactory:
        return self._http_factory

    @http_factory.setter
    def http_factory(self, made: HTTPFactory) -> None:
        """daphne makes one while it starts; ours takes its place."""
        self._http_factory = BodyFactory(self)

    def create_application(self, protocol: Any, scope: Any) -> Any:
        if scope["type"] == "http":
            scope[SCOPE_KEY] = protocol.kept_body
        queue = super().create_application(protocol, scope)
        task = self.connections.get(protocol, {}).get("application_instance")
        if task is not None and scope["type"] == "http":
            task.add_done_callback(partial(_break_off, protocol))
        return queue

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.body":
            await super().handle_reply(protocol, message)
            return
        details = self.connections.get(protocol, {})
        has_more = message.get("more_body", False)
        if has_more and "gate" not in details and protocol.channel is not None:
            details["gate"] = Gate()
            protocol.registerProducer(details["gate"], True)
        if not has_more and details.pop("gate", None) and protocol.channel is not None:
            protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        if has_more and "gate" in details:
            await details["gate"].passed()


def _break_off(protocol: Any, task: asyncio.Future[Any]) -> None:
    """A response that failed after it had begun ends with its connection."""
    if task.cancelled() or task.exception() is None:
        return
    if protocol._response_started and not protocol.finished and protocol.channel is not None:
        protocol.channel.transport.abortConnection()
