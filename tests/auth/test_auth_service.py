"""The Auth service between its callers and the log: what is proposed, and when (spec/auth.md §1,
§7.1), on a member that applies what is proposed in the next turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kvserver import errors
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth import Identity
from kvserver.auth.passwords import hash_password, password_matches
from kvserver.proto import rpc_pb2 as rpc
from kvserver.runtime.hashing import HashWorker
from kvserver.services.access import Access
from kvserver.services.auth import AuthService
from kvserver.services.gate import Gate
from tests.auth.rig import Rig
from tests.auth.test_access import call_of

COST = 4


class FakeMember:
    def __init__(self, applier: AuthApplier) -> None:
        self.loop = asyncio.get_running_loop()
        self.applier = applier
        self.applied_index = 10
        self.is_learner = False
        self.has_leader = True
        self.proposed: list[tuple[Kind, Any, Identity]] = []
        self.before_apply: Callable[[], None] = lambda: None

    async def readable(self) -> None:
        await asyncio.sleep(0)

    def propose(
        self, kind: Kind, request: Any, body: bytes, waiter: Any, identity: Identity
    ) -> None:
        assert type(request).FromString(body) == request
        self.proposed.append((kind, request, identity))
        self.loop.call_soon(self._apply, kind, request, waiter, identity)

    def _apply(self, kind: Kind, request: Any, waiter: Any, identity: Identity) -> None:
        self.before_apply()
        self.applied_index += 1
        try:
            if self.applier.store.is_enabled:
                self.applier.judge(kind, request, identity)
            waiter.reply(self.applier.apply(kind, request, self.applied_index))
        except errors.RequestError as error:
            waiter.fail(error.code, error.message)


class Served:
    def __init__(self) -> None:
        self.rig = Rig()
        self.store = self.rig.store
        for name in ("root", "u"):
            self.store.change_password(name, hash_password(name + " password", COST))
        self.applier = AuthApplier(self.store, self.rig.checker)
        self.member: Any = FakeMember(self.applier)
        self.access = Access(self.rig.checker, self.member, False, None)
        gate = Gate(self.member, self.access)
        self.hashing = HashWorker(self.member.loop)
        self.service = AuthService(self.member, self.applier, self.access, gate, self.hashing, COST)
        self.methods = {m.path.rpartition("/")[2]: m for m in self.service.methods(1 << 20)}

    def begin(self, name: str, request: Any, token: str = "") -> Any:
        method = self.methods[name]
        call = call_of(None, method.path, **({"token": token} if token else {}))
        try:
            reply = method.handler(call, request.SerializeToString())
        except errors.RequestError as error:
            call.fail(error.code, error.message)
        else:
            if reply is not None:
                call.reply(reply)
        return call

    async def ask(self, name: str, request: Any, token: str = "") -> Any:
        call = self.begin(name, request, token)
        async with asyncio.timeout(60):
            while not call.answers:  # noqa: ASYNC110 - the answer is no event of ours
                await asyncio.sleep(0)
        (answer,) = call.answers
        return answer

    async def token(self, name: str) -> str:
        reply = await self.ask("Authenticate", login(name))
        return rpc.AuthenticateResponse.FromString(reply).token


@pytest.fixture
async def served() -> Any:
    made = Served()
    yield made
    made.hashing.stop()


def login(name: str) -> rpc.AuthenticateRequest:
    return rpc.AuthenticateRequest(name=name, password=name + " password")


async def test_a_password_is_hashed_before_anything_is_proposed(served: Served) -> None:
    token = await served.token("root")
    add = rpc.AuthUserAddRequest(name="new", password="secret one")
    assert await served.ask("UserAdd", add, token) == b""
    change = rpc.AuthUserChangePasswordRequest(name="new", password="secret two")
    assert await served.ask("UserChangePassword", change, token) == b""
    for kind, request, identity in served.member.proposed:
        assert b"secret" not in request.SerializeToString(), kind
        assert identity.username == ("" if kind is Kind.AUTHENTICATE else "root")
    user = served.store.user("new")
    assert user is not None and password_matches("secret two", user.password)


async def test_an_entry_that_makes_a_token_knows_no_password(served: Served) -> None:
    await served.token("u")
    ((kind, request, identity),) = served.member.proposed
    assert (kind, request.name, request.password) == (Kind.AUTHENTICATE, "u", "")
    assert len(request.simple_token) == 16 and request.simple_token.isalpha()
    assert identity.username == ""


async def test_a_login_starts_over_when_users_change_meanwhile(served: Served) -> None:
    """§7.1: the password was checked against what is no longer true."""
    changes = [lambda: served.store.add_role("one"), lambda: served.store.add_role("two")]

    def change() -> None:
        if changes:
            changes.pop()()

    served.member.before_apply = change
    token = await served.token("u")
    assert len(served.member.proposed) == 3
    assert token.endswith(f".{served.member.applied_index}")


async def test_a_password_changed_during_the_login_counts(served: Served) -> None:
    def change() -> None:
        served.member.before_apply = lambda: None
        served.store.change_password("u", hash_password("another", COST))

    served.member.before_apply = change
    assert await served.ask("Authenticate", login("u")) == errors.AuthFailed.message


async def test_auth_disabled_during_the_login(served: Served) -> None:
    served.member.before_apply = served.store.disable
    assert await served.ask("Authenticate", login("u")) == errors.AuthNotEnabled.message
    assert await served.ask("Authenticate", login("u")) == errors.AuthNotEnabled.message


async def test_unknown_users_cost_as_much_as_wrong_passwords(served: Served) -> None:
    """One comparison each, so that time tells nobody who exists."""
    compared: list[bytes] = []
    run = served.hashing.run

    async def counted(work: Any, *arguments: Any) -> Any:
        if work is password_matches:
            compared.append(arguments[1])
        return await run(work, *arguments)

    served.hashing.run = counted  # type: ignore[method-assign]
    for name in ("u", "ghost", "ghost"):
        request = rpc.AuthenticateRequest(name=name, password="wrong")
        assert await served.ask("Authenticate", request) == errors.AuthFailed.message
    assert len(compared) == 3
    assert all(hashed.startswith(b"$2a$04$") for hashed in compared)


async def test_strangers_do_not_keep_the_hashers_busy(served: Served) -> None:
    hashed = 0
    run = served.hashing.run

    async def counted(work: Any, *arguments: Any) -> Any:
        nonlocal hashed
        hashed += work is hash_password
        return await run(work, *arguments)

    served.hashing.run = counted  # type: ignore[method-assign]
    user = await served.token("u")
    for token, text in (("", errors.UserEmpty), (user, errors.PermissionDenied)):
        add = rpc.AuthUserAddRequest(name="new", password="p")
        assert await served.ask("UserAdd", add, token) == text.message
        change = rpc.AuthUserChangePasswordRequest(name="u", password="p")
        assert await served.ask("UserChangePassword", change, token) == text.message
    assert hashed == 0


@pytest.mark.parametrize("is_hashing", [False, True])
async def test_a_caller_who_goes_proposes_nothing(served: Served, is_hashing: bool) -> None:
    token = await served.token("root")
    before = len(served.member.proposed)
    run, begun = served.hashing.run, asyncio.Event()

    async def held(work: Any, *arguments: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    served.hashing.run = held  # type: ignore[method-assign]
    call = served.begin("UserAdd", rpc.AuthUserAddRequest(name="new", password="p"), token)
    if is_hashing:
        async with asyncio.timeout(60):
            await begun.wait()
    call.on_cancel()
    served.hashing.run = run  # type: ignore[method-assign]
    await served.token("root")
    kinds = [kind for kind, _, _ in served.member.proposed[before:]]
    assert kinds == [Kind.AUTHENTICATE] and not served.store.has_user("new")


async def test_a_flood_of_logins_is_bounded(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvserver.runtime.hashing.HASHES_PENDING_MAX", 3)
    calls = [served.begin("Authenticate", login("u")) for _ in range(10)]
    async with asyncio.timeout(60):
        while not all(call.answers for call in calls):  # noqa: ASYNC110
            await asyncio.sleep(0)
    answers = [call.answers[0] for call in calls]
    assert answers.count(errors.RequestTooManyRequests.message) == 7
    assert sum(isinstance(answer, bytes) for answer in answers) == 3


async def test_a_missing_permission_never_reaches_the_log(served: Served) -> None:
    """§4: releases before 3.4.25 die of such an entry, at every start again."""
    token = await served.token("root")
    before = len(served.member.proposed)
    request = rpc.AuthRoleGrantPermissionRequest(name="r")
    answer = await served.ask("RoleGrantPermission", request, token)
    assert answer == errors.PermissionNotGiven.message
    assert len(served.member.proposed) == before
