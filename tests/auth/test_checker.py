"""The order of checks, and the verdict on every kind of request (spec/auth.md §3, §4, §9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver import errors
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth import NOBODY, Identity
from kvserver.auth.demands import Demand, demands
from kvserver.proto import rpc_pb2
from tests.auth.rig import Rig, permission

READ, WRITE, READWRITE = 0, 1, 2
Put, Range, Delete = rpc_pb2.PutRequest, rpc_pb2.RangeRequest, rpc_pb2.DeleteRangeRequest
OPS = {Put: "request_put", Range: "request_range", Delete: "request_delete_range"}
OPS[rpc_pb2.TxnRequest] = "request_txn"


def op(request: Any) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(**{OPS[type(request)]: request})


def txn(*success: Any, failure: tuple[Any, ...] = (), compare: bytes = b"") -> rpc_pb2.TxnRequest:
    request = rpc_pb2.TxnRequest(success=map(op, success), failure=map(op, failure))
    if compare:
        request.compare.add(key=compare)
    return request


def allows(rig: Rig, request: Any, name: str = "u") -> bool:
    try:
        rig.checker.permit(rig.who(name), request)
    except errors.PermissionDenied:
        return False
    return True


# The order of checks


def test_while_auth_is_off_everything_is_allowed() -> None:
    rig = Rig()
    rig.store.disable()
    for check in (rig.checker.permit_admin, rig.checker.permit_user):
        check(NOBODY)
    rig.checker.permit(NOBODY, Put(key=b"zz"))
    rig.checker.permit_keys(NOBODY, True, [b"zz"])


def test_data_checks_come_in_order() -> None:
    rig = Rig()
    store = rig.store
    put = Put(key=b"zz")
    for nobody in (NOBODY, Identity("", store.revision), Identity("u", 0)):
        with pytest.raises(errors.UserEmpty):
            rig.checker.permit(nobody, put)
    with pytest.raises(errors.AuthOldRevision):
        rig.checker.permit(Identity("ghost", store.revision - 1), put)
    with pytest.raises(errors.AuthOldRevision):  # root is no exception
        rig.checker.permit(Identity("root", store.revision - 1), put)
    with pytest.raises(errors.PermissionDenied):
        rig.checker.permit(rig.who("ghost"), put)
    rig.checker.permit(rig.who("root"), put)
    with pytest.raises(errors.PermissionDenied):
        rig.checker.permit(rig.who("u"), put)
    rig.checker.permit(Identity("u", store.revision + 1), Put(key=b"a1"))  # a lagging member


def test_admin_checks_come_in_order() -> None:
    rig = Rig()
    with pytest.raises(errors.UserEmpty):
        rig.checker.permit_admin(NOBODY)
    with pytest.raises(errors.UserNotFound):
        rig.checker.permit_admin(rig.who("ghost"))
    with pytest.raises(errors.PermissionDenied):
        rig.checker.permit_admin(rig.who("u"))
    rig.checker.permit_admin(Identity("root", 1))


def test_any_user_is_a_user_of_now() -> None:
    rig = Rig()
    with pytest.raises(errors.UserEmpty):
        rig.checker.permit_user(NOBODY)
    with pytest.raises(errors.AuthOldRevision):
        rig.checker.permit_user(Identity("u", 1))
    with pytest.raises(errors.PermissionDenied):
        rig.checker.permit_user(rig.who("ghost"))
    rig.checker.permit_user(rig.who("u"))


def test_a_user_made_anew_inherits_nothing() -> None:
    """Trap 6: proposed by u, who was deleted and added again before the entry was applied."""
    rig = Rig()
    before = rig.who("u")
    rig.store.delete_user("u")
    rig.store.add_user("u", b"", False)
    rig.store.grant_role("u", "r")
    with pytest.raises(errors.AuthOldRevision):
        rig.checker.permit(before, Put(key=b"a1"))


def test_rights_follow_every_change() -> None:
    """Case 16: revoked is revoked at once, whatever was derived before."""
    rig = Rig()
    assert allows(rig, Put(key=b"a1"))
    rig.store.revoke_permission("r", b"a", b"b")
    assert not allows(rig, Put(key=b"a1"))
    rig.store.grant_permission("r", permission(WRITE, b"a1"))
    assert allows(rig, Put(key=b"a1")) and not allows(rig, Range(key=b"a1"))
    rig.store.revoke_role("u", "r")
    assert not allows(rig, Put(key=b"a1"))


# Requests


def test_case_5_reading_and_writing() -> None:
    rig = Rig()
    assert allows(rig, Put(key=b"a1")) and not allows(rig, Put(key=b"c1"))
    assert allows(rig, Range(key=b"c1")) and not allows(rig, Range(key=b"zz"))


def test_case_6_neighbouring_grants_are_one_also_across_roles() -> None:
    rig = Rig([permission(READ, b"a", b"c")])
    rig.store.add_role("s")
    rig.store.grant_role("u", "s")
    rig.store.grant_permission("s", permission(READ, b"c", b"e"))
    assert allows(rig, Range(key=b"a", range_end=b"e"))
    rig.store.revoke_permission("s", b"c", b"e")
    rig.store.grant_permission("s", permission(READ, b"d", b"e"))
    assert not allows(rig, Range(key=b"a", range_end=b"e"))


def test_case_7_write_is_not_read() -> None:
    rig = Rig([permission(WRITE, b"k")])
    assert allows(rig, Put(key=b"k")) and allows(rig, Delete(key=b"k"))
    assert not allows(rig, Range(key=b"k"))
    assert not allows(rig, Put(key=b"k", prev_kv=True))
    assert not allows(rig, Delete(key=b"k", prev_kv=True))


def test_case_8_compares_and_both_branches() -> None:
    rig = Rig()
    assert allows(rig, txn(Put(key=b"a1"), compare=b"c1"))
    assert not allows(rig, txn(Put(key=b"a1"), compare=b"zz"))
    assert not allows(rig, txn(Put(key=b"a1"), failure=(Put(key=b"zz"),)))
    assert not allows(rig, txn(Put(key=b"zz"), failure=(Put(key=b"a1"),)))
    ranged = rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=b"c", range_end=b"d")])
    assert allows(rig, ranged)
    ranged.compare[0].range_end = b"e"
    assert not allows(rig, ranged)


def test_case_9_nested_transactions() -> None:
    rig = Rig([permission(WRITE, b"w"), permission(READWRITE, b"a")])
    assert allows(rig, txn(txn(Put(key=b"a", prev_kv=True), failure=(Put(key=b"w"),))))
    assert not allows(rig, txn(txn(Put(key=b"zz"))))
    assert not allows(rig, txn(failure=(txn(failure=(Put(key=b"zz"),)),)))
    assert not allows(rig, txn(txn(Put(key=b"w", prev_kv=True))))
    assert not allows(rig, txn(txn(compare=b"w")))


def test_case_10_a_lease_is_protected_by_its_keys() -> None:
    rig = Rig()
    rig.leases = {7: [b"a1", b"zz"], 8: [b"a1"], 9: []}
    revoke = rpc_pb2.LeaseRevokeRequest
    assert not allows(rig, Put(key=b"a2", lease=7)) and not allows(rig, revoke(ID=7))
    assert not allows(rig, txn(txn(Put(key=b"a2", lease=7))))
    assert allows(rig, Put(key=b"a2", lease=8)) and allows(rig, revoke(ID=8))
    assert allows(rig, Put(key=b"a2", lease=9)) and allows(rig, revoke(ID=9))
    assert allows(rig, Put(key=b"a2", lease=7), "root") and allows(rig, revoke(ID=7), "root")


def test_case_11_asking_for_a_leases_keys() -> None:
    rig = Rig()
    rig.leases = {7: [b"c1", b"zz"], 8: [b"c1"]}
    ask = rpc_pb2.LeaseTimeToLiveRequest
    assert not allows(rig, ask(ID=7, keys=True))
    assert allows(rig, ask(ID=7)) and allows(rig, ask(ID=8, keys=True))
    keep = rpc_pb2.LeaseKeepAliveRequest
    assert not allows(rig, keep(ID=8)) and allows(rig, keep(ID=5))


def test_revocations_at_apply_are_judged_as_etcd_judges_them() -> None:
    """An expired lease's revoke carries root's name; the revision may have moved since."""
    rig = Rig()
    rig.leases = {7: [b"zz"]}
    before = rig.store.internal_root
    rig.store.add_role("later")
    rig.checker.permit(before, rpc_pb2.LeaseRevokeRequest(ID=7))
    rig.checker.permit(NOBODY, rpc_pb2.LeaseRevokeRequest(ID=8))
    with pytest.raises(errors.UserEmpty):
        rig.checker.permit(NOBODY, rpc_pb2.LeaseRevokeRequest(ID=7))


def test_the_internal_root_is_nobody_while_auth_is_off() -> None:
    """Entries of a cluster without auth carry no name (spec/raft-wire.md §3)."""
    rig = Rig()
    assert rig.store.internal_root == rig.who("root")
    rig.store.disable()
    assert rig.store.internal_root == NOBODY


def test_an_empty_transaction_asks_only_for_credentials() -> None:
    rig = Rig()
    assert allows(rig, txn()) and allows(rig, txn(txn()))
    with pytest.raises(errors.UserEmpty):
        rig.checker.permit(NOBODY, txn())
    with pytest.raises(errors.AuthOldRevision):
        rig.checker.permit(Identity("u", 1), txn())


def test_a_right_on_one_key_opens_no_watch_from_there_on() -> None:
    rig = Rig([permission(READ, b"k")])
    watch = rpc_pb2.WatchCreateRequest
    assert allows(rig, watch(key=b"k"))
    assert not allows(rig, watch(key=b"k", range_end=b"\x00"))
    assert not allows(rig, watch(key=b"k", range_end=b"l"))


def test_what_nobody_has_thought_of_is_not_allowed() -> None:
    with pytest.raises(TypeError, match="demands"):
        Rig().checker.permit(Rig().who("u"), rpc_pb2.MemberAddRequest())


# Everything at once: random transactions against the list of their leaves

keys = st.sampled_from([b"a", b"b", b"c", b"d"])
ends = st.sampled_from([b"", b"\x00", b"e"])
leaves = st.one_of(
    st.builds(Put, key=keys, prev_kv=st.booleans(), lease=st.integers(0, 2)),
    st.builds(Range, key=keys, range_end=ends),
    st.builds(Delete, key=keys, range_end=ends, prev_kv=st.booleans()),
)
compares = st.builds(rpc_pb2.Compare, key=keys, range_end=ends)
LEASES = {1: [b"a", b"d"], 2: []}


def _txns(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    branch = st.lists(children.map(op), max_size=3)
    return st.builds(
        rpc_pb2.TxnRequest, compare=st.lists(compares, max_size=2), success=branch, failure=branch
    )


txns = st.recursive(leaves, _txns, max_leaves=8)


def leaf_demands(request: Any) -> Iterator[Demand]:
    """The oracle: spec/auth.md §3's table, by an explicit stack instead of recursion."""
    stack = [request]
    while stack:
        one = stack.pop()
        if isinstance(one, rpc_pb2.TxnRequest):
            stack += [getattr(o, o.WhichOneof("request")) for o in one.success]
            stack += [getattr(o, o.WhichOneof("request")) for o in one.failure]
            for compare in one.compare:
                yield False, compare.key, compare.range_end
            continue
        end = b"" if isinstance(one, Put) else one.range_end
        if not isinstance(one, Range):
            yield True, one.key, end
        if isinstance(one, Range) or one.prev_kv:
            yield False, one.key, end
        if isinstance(one, Put) and one.lease:
            for key in LEASES[one.lease]:
                yield True, key, b""


@given(txns, st.lists(st.tuples(st.integers(0, 2), keys, ends), max_size=4))
def test_a_transaction_is_allowed_exactly_when_all_its_leaves_are(
    request: Any, grants: list[tuple[int, bytes, bytes]]
) -> None:
    rig = Rig([permission(READ, b"unused")])
    rig.leases = LEASES
    for kind, key, end in grants:
        rig.store.grant_permission("r", permission(kind, key, end))
    asked = set(leaf_demands(request))
    assert set(demands(request, LEASES.__getitem__)) == asked
    rights = rig.store.rights(rig.who("u"))
    assert allows(rig, request) is all(rights.allow(*demand) for demand in asked)
    assert allows(rig, request, "root")


# At apply


def test_every_operation_of_the_log_is_judged_or_named_as_judged_before() -> None:
    """Default deny in the log too: a new kind must be put into one of these classes."""
    rig = Rig()
    applier = AuthApplier(rig.store, rig.checker)
    before_proposing = {
        Kind.COMPACTION,
        Kind.LEASE_GRANT,
        Kind.ALARM,
    }
    internal = {
        Kind.LEGACY,
        Kind.RANGE,  # has no effect (spec/raft-wire.md §3)
        Kind.LEASE_CHECKPOINT,
        Kind.AUTHENTICATE,
        Kind.AUTH_STATUS,
        Kind.CLUSTER_VERSION_SET,
        Kind.CLUSTER_MEMBER_ATTR_SET,
        Kind.DOWNGRADE_INFO_SET,
        Kind.DOWNGRADE_VERSION_TEST,
    }
    rig.leases = {7: [b"zz"]}
    requests = {
        Kind.PUT: Put(key=b"zz"),
        Kind.DELETE_RANGE: Delete(key=b"zz"),
        Kind.TXN: txn(Put(key=b"zz")),
        Kind.LEASE_REVOKE: rpc_pb2.LeaseRevokeRequest(ID=7),
        Kind.AUTH_USER_GET: rpc_pb2.AuthUserGetRequest(name="root"),
        Kind.AUTH_ROLE_GET: rpc_pb2.AuthRoleGetRequest(role="root"),
    }
    for kind in set(Kind) - before_proposing - internal:
        with pytest.raises(errors.PermissionDenied):
            applier.judge(kind, requests.get(kind), rig.who("u"))
        with pytest.raises(errors.UserEmpty):
            applier.judge(kind, requests.get(kind), NOBODY)
        applier.judge(kind, requests.get(kind), rig.who("root"))


def test_case_13_asking_about_users_and_roles() -> None:
    """Trap 8: no existence oracle."""
    rig = Rig()
    checker, u = rig.checker, rig.who("u")
    checker.permit_user_get(u, "u")
    checker.permit_role_get(u, "r")
    for name in ("root", "nobody", ""):
        with pytest.raises(errors.PermissionDenied):
            checker.permit_user_get(u, name)
        with pytest.raises(errors.PermissionDenied):
            checker.permit_role_get(u, name)
        with pytest.raises(errors.UserEmpty):
            checker.permit_user_get(NOBODY, name)
        with pytest.raises(errors.UserEmpty):
            checker.permit_role_get(NOBODY, name)


def test_old_entries_bring_passwords_to_be_hashed() -> None:
    """§1: such entries hold `password` and no `hashedPassword`; others bring the hash."""
    rig = Rig()
    applier = AuthApplier(rig.store, rig.checker)

    def stored(name: str, **fields: Any) -> bytes:
        request = rpc_pb2.AuthUserAddRequest(name=name, **fields)
        applier.apply(Kind.AUTH_USER_ADD, request, 5)
        user = rig.store.user(name)
        assert user is not None
        return user.password

    assert stored("old", password="pw") == b"hashed at apply: pw"
    assert stored("new", hashedPassword="aGFzaA==") == b"hash"
    assert stored("empty") == b""
    assert stored("broken", hashedPassword="a") == b""
    options = {"no_password": True}
    assert stored("cert", password="pw", hashedPassword="aGFzaA==", options=options) == b""
