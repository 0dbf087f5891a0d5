"""Whose call it is, and whether it may pass: the serving member's side of spec/auth.md §3, §6.

A call's identity comes from its token or from the certificate of its own connection, never from
both. Rules that need nothing but the caller are enforced here, before the handler; those that
depend on the request are asked by the handler, at the place that spec/kv.md §4 gives them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from kvserver import errors
from kvserver.auth import NOBODY, RULES, AuthStore, Checker, Identity, Rule, TokenAhead
from kvserver.logs import Logger
from kvserver.proto import rpc_pb2
from kvserver.transport import Call, Method, Stream

BEARER = "Bearer "
ASKED_LATER = frozenset({Rule.REQUEST, Rule.APPLY, Rule.INNER})
"""Rules that ask nothing before the handler."""
GATEWAY_REFUSAL = (
    "CommonName of client sending a request against gateway will be ignored and not used as "
    "expected"
)
"""HTTP 400 for a gateway request over TLS whose certificate names somebody (spec/auth.md §6)."""


class AppliedState(Protocol):
    """What is asked of the member."""

    @property
    def applied_index(self) -> int: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    async def readable(self) -> None: ...


class Access:
    """Owner: the loop."""

    def __init__(
        self, checker: Checker, member: AppliedState, client_cert_auth: bool, log: Logger | None
    ) -> None:
        self.store: AuthStore = checker.store
        self.checker = checker
        self._member = member
        self._client_cert_auth = client_cert_auth
        self._log = log

    # -- who

    def identity(self, call: Call | Stream) -> Identity:
        """Raises `InvalidAuthToken`; a token is never forgiven because there is a certificate."""
        if not self.store.is_enabled:
            return NOBODY
        metadata = call.metadata
        token = metadata.get("token")
        if token is None:
            token = metadata.get("authorization")
        if token is not None:
            return self._resolve(str(token).removeprefix(BEARER))
        if self._client_cert_auth and "grpcgateway-accept" not in metadata:
            name = call.peer.common_name
            if name:
                return Identity(name, self.store.revision)
        return NOBODY

    def _resolve(self, token: str) -> Identity:
        store = self.store
        try:
            return store.tokens.resolve(token, store.revision, self._member.applied_index)
        except TokenAhead:
            raise
        except errors.InvalidAuthToken:
            if self._log is not None:
                digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
                self._log.warn("invalid auth token", token_fingerprint=digest[:16])
            raise

    # -- the rules of methods

    def require_rules(self, methods: Iterable[Method]) -> None:
        """Default deny: a method without a declared rule cannot be registered."""
        missing = [method.path for method in methods if method.path not in RULES]
        if missing:
            raise errors.FatalError(f"methods without an auth rule: {', '.join(missing)}")

    def admit(self, call: Call | Stream) -> None:
        """Enforce what the method's rule asks of the caller alone. A call that the server makes in
        somebody's name has no method: the handler it goes to asks."""
        method = call.method
        if method is None:
            return
        rule = RULES.get(method.path)
        if rule in ASKED_LATER:  # hot
            return
        if rule is Rule.USER:
            self.checker.permit_user(self.identity(call))
        elif rule is Rule.ADMIN:
            self.checker.permit_admin(self.identity(call))
        elif rule is None:
            raise errors.PermissionDenied

    def run(
        self, handler: Callable[[Call, bytes], bytes | None], call: Call, body: bytes
    ) -> bytes | None:
        """A unary call while auth is enabled. One whose token comes from an entry that is not
        applied here yet waits until it is (trap 7): no handler has an effect before it asks who
        the caller is."""
        try:
            self.admit(call)
            return handler(call, body)
        except TokenAhead:
            task = self._member.loop.create_task(self._run_later(handler, call, body))
            call.on_cancel = lambda: _cancel(task)
            return None

    async def _run_later(
        self, handler: Callable[[Call, bytes], bytes | None], call: Call, body: bytes
    ) -> None:
        try:
            await self._member.readable()
            call.on_cancel = None
            self.admit(call)
            reply = handler(call, body)
        except (TokenAhead, errors.Timeout):
            call.fail(errors.InvalidAuthToken.code, errors.InvalidAuthToken.message)
        except errors.RequestError as error:
            call.fail(error.code, error.message)
        else:
            if reply is not None:
                call.reply(reply)

    async def settle(self, stream: Stream) -> None:
        """Return when the stream's token, if it is a good one, is known here."""
        if not self.store.is_enabled:
            return
        try:
            self.identity(stream)
        except TokenAhead:
            with suppress(errors.RequestError):  # what stays unknown is refused where it is used
                await self._member.readable()
        except errors.InvalidAuthToken:
            return

    # -- what handlers ask

    def permit(self, call: Call | Stream, request: Any) -> None:
        if self.store.is_enabled:
            self.checker.permit(self.identity(call), request)

    def permit_admin(self, call: Call | Stream) -> None:
        if self.store.is_enabled:
            self.checker.permit_admin(self.identity(call))

    def permit_watch(self, stream: Stream, key: bytes, range_end: bytes) -> None:
        """The watch service's question (spec/watch.md A1)."""
        self.permit(stream, rpc_pb2.WatchCreateRequest(key=key, range_end=range_end))

    def permit_lease_keys(self, call: Call | Stream, access: str, keys: Iterable[bytes]) -> None:
        """The lease service's question: a known caller, and these keys of the lease."""
        if self.store.is_enabled:
            self.checker.permit_keys(self.identity(call), access == "write", keys)

    def gateway_refusal(self, common_name: str | None) -> str | None:
        """Why a gateway request over TLS must be refused, or None."""
        return GATEWAY_REFUSAL if self.store.is_enabled and common_name else None


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
