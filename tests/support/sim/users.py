"""Users under auth: an operator who changes rights, passwords and users all the time, and clients
that log in wherever they are and try what they may and what they may not (spec/auth.md).

All others show root's certificate. `Z` is granted to nobody, ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kvserver import errors
from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.auth_witness import AuthWitness
from tests.support.sim.clients import Caller, History
from tests.support.sim.loop import SimLoop
from tests.support.sim.network import Fabric
from tests.support.sim.world import Violation, World

USERS = ("alice", "bob")
ROLES = {"ra": (b"a/", b"a0"), "rb": (b"b/", b"b0")}
Z = b"z/"
KEYS = (b"a/0", b"a/1", b"b/0", b"b/1")
TOKENS_KEPT = 3
READWRITE = auth_pb2.Permission.READWRITE


@dataclass
class Accounts:
    """What the operator has asked for, and what he was told."""

    given: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in USERS})
    """Passwords that a user may have had."""
    replaced: dict[str, float] = field(default_factory=dict)
    """Passwords that are good no more, and since when that is certain."""
    dropped: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {name: [] for name in USERS}
    )
    """When the end of all tokens of a user was asked for, and when it was acknowledged."""
    logins: int = 0
    allowed: int = 0
    denied: int = 0
    _certain: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in USERS})

    def note(self, user: str, password: str, asked: float, now: float, *, is_first: bool) -> None:
        """Acknowledged: a change of password, or without one the user's deletion. What was asked
        for more than once may happen again at any time."""
        for old in self._certain[user]:
            self.replaced.setdefault(old, now)
        self._certain[user] = [password] if password and is_first else []
        self.dropped[user].append((asked, now))

    def is_over(self, user: str, token_since: float, asked: float) -> bool:
        """Whether a token from `token_since` can be good for nothing that is asked at `asked`."""
        return any(token_since < begin and end < asked for begin, end in self.dropped[user])


class Operator(Caller):
    """Enables auth, and then changes one thing after the other."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        history: History,
        targets: Callable[[], list[str]],
        accounts: Accounts,
    ) -> None:
        super().__init__(world, fabric, loop, name, history)
        self._targets = targets
        self._accounts = accounts
        self._passwords = 0
        self.changes = 0

    async def run(self) -> None:
        for role in ROLES:
            await self._make_role(role)
        await self._settle(rpc.AuthUserAddRequest(name="root", password="root"))
        await self._settle(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        for user, role in zip(USERS, ROLES, strict=True):
            await self._make_user(user, role)
        await self._settle(rpc.AuthEnableRequest())
        while not self.is_stopped:
            await asyncio.sleep(self.rng.expovariate(1 / 1.5))
            await self._change()
            self.changes += 1

    async def _settle(self, request: Any) -> int:
        """Ask until somebody says that it is so; the number of times, 0 if it never came to it."""
        count = 0
        while not self.is_stopped:
            count += 1
            answer = await self.ask(self.rng.choice(self._targets()), request)
            if not isinstance(answer, Exception):
                return count
            code = getattr(answer, "code", None)
            if code in (errors.Code.FAILED_PRECONDITION, errors.Code.INVALID_ARGUMENT):
                return 0  # there already, or gone already
            await asyncio.sleep(self.rng.uniform(0.05, 0.4))
        return 0

    async def _make_role(self, role: str) -> None:
        await self._settle(rpc.AuthRoleAddRequest(name=role))
        await self._settle(_grant(role, *ROLES[role]))

    async def _make_user(self, user: str, role: str) -> None:
        password = self._password(user)
        asked = self.world.now
        times = await self._settle(rpc.AuthUserAddRequest(name=user, password=password))
        if times:
            self._accounts.note(user, password, asked, self.world.now, is_first=times == 1)
        await self._settle(rpc.AuthUserGrantRoleRequest(user=user, role=role))

    def _password(self, user: str) -> str:
        self._passwords += 1
        password = f"{user}-{self._passwords}"
        self._accounts.given[user].append(password)
        return password

    async def _change(self) -> None:
        rng = self.rng
        user, role = rng.choice(USERS), rng.choice(list(ROLES))
        pick = rng.random()
        if pick < 0.2:
            password = self._password(user)
            asked = self.world.now
            change = rpc.AuthUserChangePasswordRequest(name=user, password=password)
            times = await self._settle(change)
            if times:
                self._accounts.note(user, password, asked, self.world.now, is_first=times == 1)
        elif pick < 0.35:
            asked = self.world.now
            if await self._settle(rpc.AuthUserDeleteRequest(name=user)):
                self._accounts.note(user, "", asked, self.world.now, is_first=False)
            await asyncio.sleep(rng.uniform(0, 1))
            await self._make_user(user, role)
        elif pick < 0.5:
            await self._settle(rpc.AuthUserGrantRoleRequest(user=user, role=role))
        elif pick < 0.65:
            await self._settle(rpc.AuthUserRevokeRoleRequest(name=user, role=role))
        elif pick < 0.75:
            await self._settle(_grant(role, rng.choice(KEYS)))
        elif pick < 0.85:
            await self._settle(rpc.AuthRoleRevokePermissionRequest(role=role, key=rng.choice(KEYS)))
        elif pick < 0.92:
            await self._settle(_grant(role, *ROLES[role]))
        else:
            await self._settle(rpc.AuthRoleDeleteRequest(role=role))
            await self._make_role(role)
            await self._settle(rpc.AuthUserGrantRoleRequest(user=user, role=role))


def _grant(role: str, key: bytes, range_end: bytes = b"") -> rpc.AuthRoleGrantPermissionRequest:
    permission = auth_pb2.Permission(permType=READWRITE, key=key, range_end=range_end)
    return rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission)


class User(Caller):
    """Logs in and works with the newest token, or an older one, at any member."""

    def __init__(
        self,
        world: World,
        fabric: Fabric,
        loop: SimLoop,
        name: str,
        history: History,
        targets: Callable[[], list[str]],
        user: str,
        accounts: Accounts,
        witness: AuthWitness,
    ) -> None:
        super().__init__(world, fabric, loop, name, history)
        self._targets = targets
        self._user = user
        self._accounts = accounts
        self._witness = witness
        self._tokens: list[tuple[str, float, int]] = []
        """The newest last, each with the time of its log-in's answer and the revision in it."""
        self._is_logged_in = False
        self._count = 0

    async def run(self) -> None:
        while not self.is_stopped:
            await asyncio.sleep(self.rng.expovariate(1 / 0.3))
            if not self._is_logged_in:
                await self._log_in()
            if self._tokens:
                await self._work()

    async def _log_in(self) -> None:
        given = self._accounts.given[self._user]
        if not given:
            return
        pick = self.rng.random()
        password = given[-1] if pick < 0.7 else self.rng.choice(given)
        if pick > 0.95:
            password = "never given"
        self.token = ""
        asked = self.world.now
        request = rpc.AuthenticateRequest(name=self._user, password=password)
        answer = await self.ask(self.rng.choice(self._targets()), request)
        if not isinstance(answer, rpc.AuthenticateResponse):
            return
        if password not in given or self._accounts.replaced.get(password, asked) < asked:
            raise Violation(f"{self.name} logs in as {self._user} with password {password!r}")
        self._accounts.logins += 1
        self._witness.tokens[answer.token] = self._user, asked
        made = answer.token, self.world.now, answer.header.revision
        self._tokens = [*self._tokens, made][-TOKENS_KEPT:]
        self._is_logged_in = True

    async def _work(self) -> None:
        is_newest = self.rng.random() < 0.75
        used = self._tokens[-1] if is_newest else self.rng.choice(self._tokens)
        self.token, since, revision = used
        asked = self.world.now
        request, is_forbidden = self._request()
        answer = await self.ask(self.rng.choice(self._targets()), request)
        if isinstance(answer, errors.RequestError):
            self._accounts.denied += answer.message == errors.PermissionDenied.message
            if answer.message == errors.InvalidAuthToken.message:
                self._is_logged_in &= used != self._tokens[-1]
        if isinstance(answer, Exception):
            return
        self._accounts.allowed += 1
        is_local = isinstance(request, rpc.RangeRequest) and request.serializable
        # A member that lags may not have heard yet that there is authentication: a serializable
        # read is judged by its own state, as in etcd. Beyond the log-in's revision it has.
        if is_forbidden and not (is_local and answer.header.revision <= revision):
            raise Violation(f"{self.name} as {self._user} is allowed {request}")
        if not is_local and self._accounts.is_over(self._user, since, asked):
            raise Violation(f"{self.name}: {self.token}, dropped, is good for {request}")

    def _request(self) -> tuple[Any, bool]:
        """Something to ask, and whether it is forbidden whatever the operator does."""
        rng = self.rng
        key = Z + b"0" if rng.random() < 0.15 else rng.choice(KEYS)
        pick = rng.random()
        if pick < 0.45:
            return self._put(key), key.startswith(Z)
        if pick < 0.7:
            request = rpc.RangeRequest(key=key, serializable=rng.random() < 0.4)
            return request, key.startswith(Z)
        if pick < 0.8:
            return rpc.RangeRequest(key=b"a/", range_end=rng.choice((b"a0", b"b0", Z))), False
        other = Z + b"1" if rng.random() < 0.15 else rng.choice(KEYS)
        ops = [rpc.RequestOp(request_put=self._put(key))]
        if other != key:
            ops.append(rpc.RequestOp(request_range=rpc.RangeRequest(key=other)))
        compare = rpc.Compare(key=key, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER)
        request = rpc.TxnRequest(compare=[compare], success=ops, failure=ops[:1])
        return request, any(name.startswith(Z) for name in (key, other))

    def _put(self, key: bytes) -> rpc.PutRequest:
        self._count += 1
        value = f"{self._user}.{self.name}.{self._count}".encode()
        return rpc.PutRequest(key=key, value=value)
