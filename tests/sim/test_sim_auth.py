"""Users, rights and tokens in the simulated cluster (spec/auth.md; users.py says who calls)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvserver import errors
from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.cluster import Cluster
from tests.support.sim.faults import focused, profile_of
from tests.support.sim.machine import Settings
from tests.support.sim.scripted import Scripted

SECONDS = 60.0
PUT = rpc.PutRequest(key=b"a/1", value=b"1")


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    made = Scripted(snapshot_entries=10, catch_up_entries=1)
    permission = auth_pb2.Permission(
        permType=auth_pb2.Permission.READWRITE, key=b"a/", range_end=b"a0"
    )
    for request in (
        rpc.AuthUserAddRequest(name="root", password="root"),
        rpc.AuthUserGrantRoleRequest(user="root", role="root"),
        rpc.AuthRoleAddRequest(name="ra"),
        rpc.AuthRoleGrantPermissionRequest(name="ra", perm=permission),
        rpc.AuthUserAddRequest(name="alice", password="old"),
        rpc.AuthUserGrantRoleRequest(user="alice", role="ra"),
        rpc.AuthEnableRequest(),
    ):
        assert not isinstance(made.ask(made.leader.name, request), Exception)
    yield made
    made.close()


def message_of(answer: object) -> str:
    return answer.message if isinstance(answer, errors.RequestError) else "ok"


def test_a_token_does_not_outlive_its_password_on_a_member_that_lagged(scripted: Scripted) -> None:
    """It hears of the change by a snapshot only, never by its entry (spec/auth.md §7.1)."""
    leader, lagging = scripted.leader.name, scripted.followers[0]
    login = rpc.AuthenticateRequest(name="alice", password="old")
    scripted.client.token = scripted.ask(leader, login).token
    assert message_of(scripted.ask(lagging.name, PUT)) == "ok"
    token, scripted.client.token = scripted.client.token, None
    scripted.isolate(lagging.name)
    change = rpc.AuthUserChangePasswordRequest(name="alice", password="new")
    scripted.ask(leader, change)
    for _ in range(30):
        scripted.ask(leader, rpc.PutRequest(key=b"k"))
    scripted.heal()
    applied = scripted.leader.core.member.applied_index
    scripted.until(lambda: lagging.core.member.applied_index >= applied)
    assert lagging.applied_from > 20, "it was sent a snapshot"
    scripted.client.token = token
    for name in (leader, lagging.name):
        assert message_of(scripted.ask(name, PUT)) == errors.InvalidAuthToken.message


def test_a_right_that_was_taken_away_is_gone_at_a_member_that_does_not_know_yet(
    scripted: Scripted,
) -> None:
    """A linearizable read is judged by what was acknowledged before it (spec/auth.md §3)."""
    leader, lagging = scripted.leader.name, scripted.followers[0]
    login = rpc.AuthenticateRequest(name="alice", password="old")
    token = scripted.ask(leader, login).token
    scripted.client.token = token
    read = rpc.RangeRequest(key=b"a/1")
    assert message_of(scripted.ask(lagging.name, read)) == "ok"
    scripted.client.token = None
    scripted.fabric.slow[leader, lagging.name] = 0.4
    revocation = rpc.AuthUserRevokeRoleRequest(name="alice", role="ra")
    assert message_of(scripted.ask(leader, revocation)) == "ok"
    assert lagging.core.state.auth.has_role("alice", "ra"), "it does not know yet"
    scripted.client.token = token
    local = rpc.RangeRequest(key=b"a/1", serializable=True)
    assert message_of(scripted.ask(lagging.name, local)) == "ok"  # which asks nobody else
    denials = {errors.PermissionDenied.message, errors.AuthOldRevision.message}
    assert message_of(scripted.ask(lagging.name, read)) in denials
    assert message_of(scripted.ask(lagging.name, PUT)) in denials


def test_a_run_with_auth_has_something_in_it() -> None:
    """Log-ins, refusals and changes of rights while members come, go and lag."""
    settings = Settings(snapshot_entries=10, catch_up_entries=1)
    profile = focused(4, "membership", settings=settings, has_auth=True)
    cluster = Cluster(4, seconds=SECONDS, profile=profile)
    cluster.run()
    assert len(cluster.machines) > len(cluster.founders)
    accounts = cluster.accounts
    assert accounts.logins >= 5
    assert accounts.allowed > 20
    assert accounts.denied > 20
    assert cluster.operators[0].changes > 5
    assert cluster.witness.auth.writes > 20


def test_a_share_of_the_seeds_has_auth() -> None:
    """Also of those that every run of the tests goes through (test_sim_seeds.py)."""
    assert 2 <= sum(profile_of(seed).has_auth for seed in range(1, 25)) <= 12
