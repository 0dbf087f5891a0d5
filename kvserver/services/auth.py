"""The Auth service (spec/auth.md §3, §4, §7).

Changes go through the log. Passwords are hashed by this member before anything is proposed, so
that neither the log nor any table ever holds one; a login is checked here too, and the log only
says for whom a token is.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import string
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from google.protobuf.message import Message

from kvserver import errors
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth.identity import NOBODY, Identity
from kvserver.auth.passwords import hash_password, password_matches
from kvserver.auth.store import NoPasswordUser
from kvserver.proto import auth_pb2, internal_pb2, rpc_pb2
from kvserver.runtime.hashing import HashWorker
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.access import Access
from kvserver.services.gate import Gate, parse
from kvserver.transport import Call, Method

PREFIX = "/etcdserverpb.Auth/"
TOKEN_LETTERS = 16

WRITES: dict[str, tuple[Kind, type[Message]]] = {
    "AuthEnable": (Kind.AUTH_ENABLE, rpc_pb2.AuthEnableRequest),
    "AuthDisable": (Kind.AUTH_DISABLE, rpc_pb2.AuthDisableRequest),
    "UserDelete": (Kind.AUTH_USER_DELETE, rpc_pb2.AuthUserDeleteRequest),
    "UserGrantRole": (Kind.AUTH_USER_GRANT_ROLE, rpc_pb2.AuthUserGrantRoleRequest),
    "UserRevokeRole": (Kind.AUTH_USER_REVOKE_ROLE, rpc_pb2.AuthUserRevokeRoleRequest),
    "RoleAdd": (Kind.AUTH_ROLE_ADD, rpc_pb2.AuthRoleAddRequest),
    "RoleDelete": (Kind.AUTH_ROLE_DELETE, rpc_pb2.AuthRoleDeleteRequest),
    "RoleGrantPermission": (
        Kind.AUTH_ROLE_GRANT_PERMISSION,
        rpc_pb2.AuthRoleGrantPermissionRequest,
    ),
    "RoleRevokePermission": (
        Kind.AUTH_ROLE_REVOKE_PERMISSION,
        rpc_pb2.AuthRoleRevokePermissionRequest,
    ),
}
READS: dict[str, tuple[Kind, type[Message]]] = {
    "AuthStatus": (Kind.AUTH_STATUS, rpc_pb2.AuthStatusRequest),
    "UserGet": (Kind.AUTH_USER_GET, rpc_pb2.AuthUserGetRequest),
    "UserList": (Kind.AUTH_USER_LIST, rpc_pb2.AuthUserListRequest),
    "RoleGet": (Kind.AUTH_ROLE_GET, rpc_pb2.AuthRoleGetRequest),
    "RoleList": (Kind.AUTH_ROLE_LIST, rpc_pb2.AuthRoleListRequest),
}
Handler = Callable[[Call, bytes], bytes | None]
Work = Callable[..., Coroutine[Any, Any, None]]
"""Takes the call first."""


class AuthService:
    """Handlers of `etcdserverpb.Auth`."""

    def __init__(
        self,
        member: MemberLoop,
        applier: AuthApplier,
        access: Access,
        gate: Gate,
        hashing: HashWorker,
        bcrypt_cost: int,
        choose: Callable[[str], str] = secrets.choice,
    ) -> None:
        """`choose` picks one letter, as nobody can guess."""
        self._member = member
        self._applier = applier
        self._store = applier.store
        self._access = access
        self._gate = gate
        self._hashing = hashing
        self._bcrypt_cost = bcrypt_cost
        self._choose = choose
        self._decoy: bytes | None = None

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary: dict[str, Handler] = {
            "Authenticate": self.authenticate,
            "UserAdd": self.user_add,
            "UserChangePassword": self.user_change_password,
        }
        unary |= {name: self._write(*what) for name, what in WRITES.items()}
        unary |= {name: self._read(*what) for name, what in READS.items()}
        for name, handler in unary.items():
            yield Method(PREFIX + name, "unary", self._gate.unary(handler), request_bytes_max)

    def _write(self, kind: Kind, message: type[Message]) -> Handler:
        def handler(call: Call, body: bytes) -> None:
            request = parse(message, body)
            if isinstance(request, rpc_pb2.AuthRoleGrantPermissionRequest) and (
                not request.HasField("perm")
            ):
                raise errors.PermissionNotGiven  # old releases die of such an entry (§4)
            self._member.propose(kind, request, body, call, self._access.identity(call))

        return handler

    def _read(self, kind: Kind, message: type[Message]) -> Handler:
        """By ReadIndex instead of an entry (spec/raft-wire.md W3)."""

        def handler(call: Call, body: bytes) -> bytes | None:
            request = parse(message, body)

            def answer() -> bytes:
                open_to_all = kind is Kind.AUTH_STATUS
                identity = NOBODY if open_to_all else self._access.identity(call)
                reply = self._applier.answer(kind, request, identity)
                return self._member.header(self._member.store.revision) + reply

            return self._member.read(call, answer)

        return handler

    # -- passwords

    def user_add(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.AuthUserAddRequest, body)
        identity = self._access.identity(call)
        if request.options.no_password:
            request.password = request.hashedPassword = ""
            self._propose(Kind.AUTH_USER_ADD, request, call, identity)
        else:
            self._start(call, self._hash_and_propose, Kind.AUTH_USER_ADD, request, identity)

    def user_change_password(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.AuthUserChangePasswordRequest, body)
        identity = self._access.identity(call)
        kind = Kind.AUTH_USER_CHANGE_PASSWORD
        if request.password:
            self._start(call, self._hash_and_propose, kind, request, identity)
        else:  # an empty hash: this user cannot log in any more (§1)
            request.hashedPassword = ""
            self._propose(kind, request, call, identity)

    async def _hash_and_propose(
        self, call: Call, kind: Kind, request: Any, identity: Identity
    ) -> None:
        await self._member.readable()
        # Judged at apply; asked here too, so that strangers cannot keep the hashers busy.
        self._access.checker.permit_admin(identity)
        hashed = await self._hashing.run(hash_password, request.password, self._bcrypt_cost)
        request.password = ""
        request.hashedPassword = base64.b64encode(hashed).decode()
        self._propose(kind, request, call, identity)

    def _propose(self, kind: Kind, request: Message, call: Call, identity: Identity) -> None:
        self._member.propose(kind, request, request.SerializeToString(), call, identity)

    # -- logging in

    def authenticate(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.AuthenticateRequest, body)
        if not self._store.is_enabled:
            raise errors.AuthNotEnabled
        self._start(call, self._authenticate, request)

    async def _authenticate(self, call: Call, request: rpc_pb2.AuthenticateRequest) -> None:
        """All over again whenever users or roles changed meanwhile (§7.1)."""
        store = self._store
        while True:
            await self._member.readable()
            revision = store.revision
            await self._check_password(store.user(request.name), request.password)
            entry = internal_pb2.InternalAuthenticateRequest(
                name=request.name, simple_token=self._letters()
            )
            outcome = Outcome(self._member.loop.create_future())
            self._member.propose(
                Kind.AUTHENTICATE, entry, entry.SerializeToString(), outcome, NOBODY
            )
            reply = await outcome.future
            if store.revision == revision:
                break
        signed = await self._hashing.run(store.tokens.sign, request.name, revision)
        if signed is not None:
            reply += rpc_pb2.AuthenticateResponse(token=signed).SerializeToString()
        call.reply(reply)

    async def _check_password(self, user: auth_pb2.User | None, password: str) -> None:
        """Unknown users take as long as wrong passwords, and are told the same."""
        if not self._store.is_enabled:
            raise errors.AuthNotEnabled
        if user is None:
            if self._decoy is None:
                decoy = self._letters()
                self._decoy = await self._hashing.run(hash_password, decoy, self._bcrypt_cost)
            await self._hashing.run(password_matches, password, self._decoy)
            raise errors.AuthFailed
        if user.options.no_password:
            raise NoPasswordUser
        if not await self._hashing.run(password_matches, password, user.password):
            raise errors.AuthFailed

    def _letters(self) -> str:
        return "".join(self._choose(string.ascii_letters) for _ in range(TOKEN_LETTERS))

    def _start(self, call: Call, work: Work, *arguments: Any) -> None:
        """Answer the call from a task, which ends when the caller goes."""
        task = self._member.loop.create_task(_answered(call, work, *arguments))
        call.on_cancel = lambda: _cancel(task)


async def _answered(call: Call, work: Work, *arguments: Any) -> None:
    try:
        await work(call, *arguments)
    except errors.RequestError as error:
        call.fail(error.code, error.message)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


class Outcome:
    """A waiter whose reply is awaited."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future

    def reply(self, body: bytes) -> None:
        if not self.future.done():
            self.future.set_result(body)

    def fail(self, code: int, message: str) -> None:
        if not self.future.done():
            self.future.set_exception(errors.RequestError(message, errors.Code(code)))
