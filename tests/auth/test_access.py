"""Whose call it is (spec/auth.md §6), without a server."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kvserver import errors
from kvserver.auth import NOBODY, Identity
from kvserver.services.access import GATEWAY_REFUSAL, Access
from kvserver.transport import Peer
from tests.auth.rig import Rig

MEMBER_LIST = "/etcdserverpb.Cluster/MemberList"


class FakeMember:
    """Applied up to an index; a linearizable read brings it to another."""

    def __init__(self, applied: int, committed: int) -> None:
        self.applied_index = applied
        self.committed = committed
        self.loop = None
        self.reads = 0

    async def readable(self) -> None:
        self.reads += 1
        self.applied_index = self.committed


class FakeCall:
    def __init__(self, metadata: dict[str, str], peer: Peer, path: str) -> None:
        self.metadata = metadata
        self.peer = peer
        self.method = SimpleNamespace(path=path)
        self.on_cancel = None
        self.answers: list[Any] = []

    def reply(self, body: bytes) -> None:
        self.answers.append(body)

    def fail(self, code: int, message: str) -> None:
        self.answers.append(message)


def call_of(common_name: str | None = None, path: str = MEMBER_LIST, **metadata: str) -> Any:
    fields = {name.replace("_", "-"): value for name, value in metadata.items()}
    return FakeCall(fields, Peer("127.0.0.1:1", True, common_name), path)


def make_access(
    client_cert_auth: bool = True, member: Any = None, rig: Rig | None = None
) -> Access:
    found = rig or Rig()
    return Access(found.checker, member or FakeMember(9, 9), client_cert_auth, None)


def test_a_certificate_is_an_identity_only_when_demanded_and_direct() -> None:
    rig = Rig()
    access = make_access(rig=rig)
    assert access.identity(call_of("alice")) == rig.who("alice")
    assert access.identity(call_of("alice", grpcgateway_accept="*/*")) == NOBODY
    assert access.identity(call_of("")) == access.identity(call_of(None)) == NOBODY
    assert make_access(client_cert_auth=False).identity(call_of("root")) == NOBODY


def test_a_token_counts_before_a_certificate_and_is_not_forgiven() -> None:
    rig = Rig()
    access = make_access(rig=rig)
    token = rig.store.authenticate("u", "x", 3)
    for metadata in (
        {"token": token},
        {"token": f"Bearer {token}"},
        {"authorization": token},
        {"authorization": f"Bearer {token}"},
        {"token": token, "authorization": "y.1"},
    ):
        assert access.identity(call_of("root", **metadata)) == rig.who("u")
    for metadata in ({"token": "y.1"}, {"token": ""}, {"token": "y.1", "authorization": token}):
        with pytest.raises(errors.InvalidAuthToken):
            access.identity(call_of("root", **metadata))
    assert access.identity(call_of(None)) == NOBODY


def test_while_auth_is_off_tokens_are_not_looked_at() -> None:
    rig = Rig()
    access = make_access(rig=rig)
    rig.store.disable()
    assert access.identity(call_of("root", token="nonsense")) == NOBODY
    access.permit(call_of(), object())
    access.permit_admin(call_of())
    access.permit_lease_keys(call_of(), "write", [b"zz"])
    assert access.gateway_refusal("alice") is None


def test_the_gateway_takes_no_certificates_that_name_somebody() -> None:
    """§6.4."""
    access = make_access()
    assert access.gateway_refusal("alice") == GATEWAY_REFUSAL
    assert access.gateway_refusal("") is None and access.gateway_refusal(None) is None


def test_rules_that_ask_for_the_caller_alone() -> None:
    rig = Rig()
    access = make_access(rig=rig)
    admin = "/etcdserverpb.Maintenance/Hash"
    access.admit(call_of("u"))
    access.admit(call_of("root", admin))
    access.admit(call_of(None, "/etcdserverpb.KV/Put"))  # asked at apply
    with pytest.raises(errors.UserEmpty):
        access.admit(call_of(None))
    with pytest.raises(errors.PermissionDenied):
        access.admit(call_of("u", admin))
    with pytest.raises(errors.PermissionDenied):
        access.admit(call_of("root", "/etcdserverpb.KV/Peek"))  # no rule: no way


async def answered(member: FakeMember, rig: Rig, call: Any) -> list[Any]:
    member.loop = asyncio.get_running_loop()  # type: ignore[assignment]
    access = make_access(member=member, rig=rig)

    def handler(call: Any, body: bytes) -> bytes:
        return access.identity(call).username.encode()

    reply = access.run(handler, call, b"")
    if reply is not None:
        call.reply(reply)
    while not call.answers:  # noqa: ASYNC110 - the answer is no event of ours
        await asyncio.sleep(0)
    return list(call.answers)


async def test_a_lagging_member_waits_for_the_tokens_entry() -> None:
    """Trap 7, case 26: a fresh token works at once on every member."""
    rig, member = Rig(), FakeMember(applied=5, committed=7)
    token = rig.store.authenticate("u", "x", 7)
    rig.store.tokens.clear()
    call = call_of(None, token=token)

    async def readable() -> None:
        member.applied_index = 7
        rig.store.tokens.assign("u", "x", 7)

    member.readable = readable  # type: ignore[method-assign]
    assert await answered(member, rig, call) == [b"u"]


async def test_a_token_that_nobody_made_is_refused_once_that_is_known() -> None:
    for token in ("x.7", "x.999999"):
        member = FakeMember(applied=5, committed=7)
        answers = await answered(member, Rig(), call_of(None, token=token))
        assert answers == ["etcdserver: invalid auth token"]
        assert member.reads == 1


async def test_a_member_without_a_leader_refuses_what_it_cannot_know() -> None:
    member = FakeMember(applied=5, committed=5)

    async def readable() -> None:
        raise errors.Timeout

    member.readable = readable  # type: ignore[method-assign]
    answers = await answered(member, Rig(), call_of(None, token="x.9"))
    assert answers == ["etcdserver: invalid auth token"]


async def test_streams_settle_before_they_are_judged() -> None:
    rig, member = Rig(), FakeMember(applied=5, committed=7)
    access = make_access(member=member, rig=rig)
    await access.settle(call_of(None))
    await access.settle(call_of(None, token="x.1"))  # bad is bad: said where it is used
    assert member.reads == 0
    await access.settle(call_of(None, token="x.7"))
    assert member.reads == 1 and member.applied_index == 7
    with pytest.raises(errors.InvalidAuthToken):
        access.permit_watch(call_of(None, token="x.7"), b"a", b"")


def test_lease_keys_ask_for_a_user_even_without_keys() -> None:
    access = make_access()
    with pytest.raises(errors.UserEmpty):
        access.permit_lease_keys(call_of(None), "write", [])
    access.permit_lease_keys(call_of("u"), "write", [b"a1"])
    access.permit_lease_keys(call_of("u"), "read", [b"a1", b"c1"])
    with pytest.raises(errors.PermissionDenied):
        access.permit_lease_keys(call_of("u"), "write", [b"a1", b"c1"])
    access.permit_lease_keys(call_of("root"), "write", [b"zz"])


def test_identities_are_as_of_now() -> None:
    rig = Rig()
    access = make_access(rig=rig)
    token = rig.store.authenticate("u", "x", 3)
    rig.store.add_role("new")
    assert access.identity(call_of(None, token=token)) == Identity("u", rig.store.revision)


async def test_a_stream_does_not_end_because_its_token_cannot_be_known() -> None:
    """spec/watch.md A1: the refusal is in the answer."""
    member = FakeMember(applied=5, committed=5)

    async def readable() -> None:
        raise errors.Timeout

    member.readable = readable  # type: ignore[method-assign]
    access = make_access(member=member)
    await access.settle(call_of(None, token="x.9"))
    with pytest.raises(errors.InvalidAuthToken):
        access.permit_watch(call_of(None, token="x.9"), b"a", b"")
