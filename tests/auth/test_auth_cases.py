"""The example cases of spec/auth.md §10 on a running member, by their numbers."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from typing import Any

import grpc
import pytest

from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.auth_session import SHORT, AuthSession, Caller, Refusal
from tests.support.servers_proc import ServerProcess, wait_until

pytestmark = pytest.mark.e2e

READ, WRITE = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE
EMPTY, DENIED = "user name is empty", "permission denied"
FAILED = "authentication failed, invalid user ID or password"
BAD_TOKEN = "invalid auth token"
INVALID_ARGUMENT, UNKNOWN, DENIED_CODE, PRECONDITION, UNAUTHENTICATED = 3, 2, 7, 9, 16


def code_of(caller: Caller, name: str, /, **fields: Any) -> int:
    with pytest.raises(Refusal) as refused:
        caller(name, **fields)
    return refused.value.code


def revision(session: AuthSession) -> int:
    return int(session.nobody("Auth/AuthStatus").authRevision)


def test_case_1_enabling(session: AuthSession) -> None:
    nobody = session.nobody
    nobody("Auth/UserDelete", name="root")
    assert nobody.outcome("Auth/AuthEnable") == "root user does not exist"
    assert code_of(nobody, "Auth/AuthEnable") == PRECONDITION
    nobody("Auth/UserAdd", name="root", password="rp")
    assert nobody.outcome("Auth/AuthEnable") == "root user does not have root role"
    nobody("Auth/UserGrantRole", user="root", role="root")
    assert nobody.outcome("Auth/AuthEnable") == "ok"
    assert nobody("Auth/AuthStatus").enabled


def test_case_2_and_3_logging_in(session: AuthSession) -> None:
    nobody = session.nobody
    off = nobody.outcome("Auth/Authenticate", name="u", password="up")
    assert off == "authentication is not enabled"
    session.enable()
    for name, password in (("u", "wrong"), ("u", ""), ("ghost", "up"), ("", ""), ("u", "x" * 80)):
        assert nobody.outcome("Auth/Authenticate", name=name, password=password) == FAILED
        code = code_of(nobody, "Auth/Authenticate", name=name, password=password)
        assert code == INVALID_ARGUMENT


def test_case_4_the_form_of_a_token(session: AuthSession) -> None:
    session.enable()
    reply = session.nobody("Auth/Authenticate", name="u", password="up")
    assert re.fullmatch(r"[a-zA-Z]{16}\.\d+", reply.token)
    assert reply.header.cluster_id and reply.header.member_id and reply.header.raft_term
    assert reply.header.revision == session.nobody("Auth/AuthStatus").header.revision


def test_case_5_keys(session: AuthSession) -> None:
    _root, u = session.enable()
    assert u.outcome("KV/Put", key=b"a1", value=b"v") == "ok"
    assert u.outcome("KV/Put", key=b"c1") == DENIED
    assert code_of(u, "KV/Put", key=b"c1") == DENIED_CODE
    assert u.outcome("KV/Range", key=b"c1") == "ok"
    assert u.outcome("KV/Range", key=b"zz") == DENIED
    assert session.nobody.outcome("KV/Put", key=b"a1") == EMPTY
    assert code_of(session.nobody, "KV/Put", key=b"a1") == INVALID_ARGUMENT


def test_validation_and_revisions_beside_permissions(session: AuthSession) -> None:
    """spec/kv.md §4: static validation first, permission before a bad revision."""
    _root, u = session.enable()
    assert session.nobody.outcome("KV/Put", key=b"") == "key is not provided"
    assert session.with_token("x.1").outcome("KV/Put", key=b"") == "key is not provided"
    assert u.outcome("KV/Range", key=b"zz", revision=10**6) == DENIED
    future = u.outcome("KV/Range", key=b"a", revision=10**6)
    assert future == "mvcc: required revision is a future revision"
    assert u.outcome("KV/Put", key=b"zz", lease=999) == DENIED
    assert u.outcome("KV/Put", key=b"a", lease=999) == "requested lease not found"


def test_long_ranges_are_judged_too(session: AuthSession) -> None:
    for number in range(3000):
        if number % 1000 == 0:
            ops = [
                rpc.RequestOp(request_put=rpc.PutRequest(key=b"a%06d" % (number + i)))
                for i in range(100)
            ]
            session.nobody("KV/Txn", success=ops)
    _root, u = session.enable()
    assert u("KV/Range", key=b"a", range_end=b"b").count == 300
    assert u.outcome("KV/Range", key=b"a", range_end=b"c") == DENIED
    assert u.outcome("KV/RangeStream", key=b"a", range_end=b"b") == "ok"
    assert u.outcome("KV/RangeStream", key=b"a", range_end=b"c") == DENIED


def test_case_6_and_7_ranges_and_writes(session: AuthSession) -> None:
    session.nobody("Auth/RoleRevokePermission", role="r", key=b"a", range_end=b"b")
    session.nobody("Auth/RoleRevokePermission", role="r", key=b"c", range_end=b"d")
    session.grant("r", READ, b"a", b"c")
    session.grant("r", READ, b"c", b"e")
    session.grant("r", WRITE, b"k")
    _root, u = session.enable()
    assert u.outcome("KV/Range", key=b"a", range_end=b"e") == "ok"
    assert u.outcome("KV/Range", key=b"a", range_end=b"f") == DENIED
    assert u.outcome("KV/Put", key=b"k") == "ok"
    assert u.outcome("KV/Range", key=b"k") == DENIED
    assert u.outcome("KV/Put", key=b"k", prev_kv=True) == DENIED
    assert u.outcome("KV/DeleteRange", key=b"k", prev_kv=True) == DENIED
    assert u.outcome("KV/DeleteRange", key=b"k") == "ok"


def put_op(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key))


def test_case_8_and_9_transactions(session: AuthSession) -> None:
    _root, u = session.enable()
    unreadable = rpc.Compare(key=b"zz")
    assert u.outcome("KV/Txn", compare=[unreadable]) == DENIED
    assert u.outcome("KV/Txn", compare=[unreadable], success=[put_op(b"a")]) == DENIED
    true = rpc.Compare(key=b"a", target=rpc.Compare.VERSION)
    good, foreign = [put_op(b"a")], [put_op(b"zz")]
    assert u.outcome("KV/Txn", compare=[true], success=good, failure=foreign) == DENIED
    nested = rpc.RequestOp(request_txn=rpc.TxnRequest(failure=foreign))
    assert u.outcome("KV/Txn", success=[nested]) == DENIED
    nested = rpc.RequestOp(request_txn=rpc.TxnRequest(success=good))
    assert u.outcome("KV/Txn", success=[nested]) == "ok"
    read = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"zz"))
    assert u.outcome("KV/Txn", success=[read]) == DENIED
    assert session.nobody.outcome("KV/Txn", success=[read]) == EMPTY


def test_case_10_and_11_leases(session: AuthSession) -> None:
    root, u = session.enable()
    root("Lease/LeaseGrant", ID=7, TTL=600)
    root("KV/Put", key=b"zz", lease=7)
    assert u.outcome("KV/Put", key=b"a1", lease=7) == DENIED
    assert u.outcome("Lease/LeaseRevoke", ID=7) == DENIED
    assert root("KV/Range", key=b"zz").count == 1
    assert u.outcome("Lease/LeaseTimeToLive", ID=7, keys=True) == DENIED
    assert u.outcome("Lease/LeaseTimeToLive", ID=7) == "ok"
    assert u.outcome("Lease/LeaseLeases") == DENIED
    assert root("Lease/LeaseLeases").leases[0].ID == 7
    assert u.outcome("Lease/LeaseKeepAlive", ID=7) == DENIED
    assert root("Lease/LeaseKeepAlive", ID=7).TTL == 600
    assert root.outcome("Lease/LeaseRevoke", ID=7) == "ok"
    assert u.outcome("Lease/LeaseLeases") == "ok"


def test_leases_expire_whoevers_they_are(session: AuthSession, member: ServerProcess) -> None:
    """spec/auth.md §3, "Internal root"."""
    root, _u = session.enable()
    root("Lease/LeaseGrant", ID=8, TTL=1)
    put = root("KV/Put", key=b"zz", lease=8)
    watch = WatchCall(root)
    create = rpc.WatchCreateRequest(key=b"zz", start_revision=put.header.revision)
    for response in watch.ask(create):
        if any(event.type == 1 for event in response.events):
            break
    watch.close()
    assert root("KV/Range", key=b"zz").count == 0


class WatchCall:
    """One watch stream of a caller."""

    def __init__(self, caller: Caller) -> None:
        self._go_on = threading.Semaphore(0)
        self._requests: list[rpc.WatchRequest] = []
        stream = caller.channel.stream_stream(
            SHORT["Watch/Watch"],
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )
        self.call = stream(self._outgoing(), metadata=tuple(caller.metadata.items()), timeout=60)

    def _outgoing(self) -> Any:
        while True:
            self._go_on.acquire()
            if not self._requests:
                return
            yield self._requests.pop(0)

    def ask(self, create: rpc.WatchCreateRequest) -> Any:
        """Sends the request; the stream's responses from here on."""
        self._requests.append(rpc.WatchRequest(create_request=create))
        self._go_on.release()
        return self.call

    def close(self) -> None:
        self._go_on.release()
        self.call.cancel()


def refusal(caller: Caller, key: bytes, end: bytes = b"") -> str:
    watch = WatchCall(caller)
    response = next(watch.ask(rpc.WatchCreateRequest(key=key, range_end=end)))
    watch.close()
    if not response.canceled:
        return "ok"
    assert response.created and response.watch_id == -1
    return str(response.cancel_reason)


def test_case_12_watches(session: AuthSession) -> None:
    """spec/watch.md A1, example 32."""
    _root, u = session.enable()
    denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    assert refusal(u, b"zz") == denied
    assert refusal(u, b"a", b"c") == denied
    assert refusal(u, b"a1", b"\0") == denied
    empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
    assert refusal(session.nobody, b"a") == empty
    bad = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    assert refusal(session.with_token("x.1"), b"a") == bad
    watch = WatchCall(u)
    responses = watch.ask(rpc.WatchCreateRequest(key=b"zz"))
    assert next(responses).canceled
    watch.ask(rpc.WatchCreateRequest(key=b"a", range_end=b"b"))
    created = next(responses)
    assert (created.created, created.canceled, created.watch_id) == (True, False, 0)
    u("KV/Put", key=b"a1", value=b"seen")
    assert next(responses).events[0].kv.value == b"seen"
    watch.close()


def test_watches_outlive_what_allowed_them(session: AuthSession) -> None:
    """spec/watch.md A3, example 33: opened before AuthEnable, and by a user deleted since."""
    early = WatchCall(session.nobody)
    events = early.ask(rpc.WatchCreateRequest(key=b"zz"))
    assert next(events).created
    root, u = session.enable()
    own = WatchCall(u)
    own_events = own.ask(rpc.WatchCreateRequest(key=b"a1"))
    assert next(own_events).created
    root("Auth/UserDelete", name="u")
    for key in (b"zz", b"a1"):
        root("KV/Put", key=key)
    assert next(events).events[0].kv.key == b"zz"
    assert next(own_events).events[0].kv.key == b"a1"
    early.close()
    own.close()


def test_case_13_what_a_user_may_ask(session: AuthSession) -> None:
    root, u = session.enable()
    assert list(u("Auth/UserGet", name="u").roles) == ["r"]
    assert [p.key for p in u("Auth/RoleGet", role="r").perm] == [b"a", b"c"]
    for name in ("root", "nobody"):
        assert u.outcome("Auth/UserGet", name=name) == DENIED
    assert root.outcome("Auth/UserGet", name="nobody") == "user name not found"
    assert u.outcome("Auth/RoleGet", role="other") == DENIED
    assert root.outcome("Auth/RoleGet", role="other") == "role name not found"
    assert list(root("Auth/UserList").users) == ["root", "u"]
    assert list(root("Auth/RoleList").roles) == ["r"]


def test_case_14_root_stays(session: AuthSession) -> None:
    root, _u = session.enable()
    root("Auth/RoleAdd", name="root")
    for name, fields in (
        ("Auth/UserDelete", {"name": "root"}),
        ("Auth/RoleDelete", {"role": "root"}),
        ("Auth/UserRevokeRole", {"name": "root", "role": "root"}),
    ):
        assert root.outcome(name, **fields) == "invalid auth management"
        assert code_of(root, name, **fields) == INVALID_ARGUMENT


def test_case_15_a_new_password(session: AuthSession) -> None:
    root, u = session.enable()
    root("Auth/UserChangePassword", name="u", password="np")
    assert u.outcome("KV/Range", key=b"a") == BAD_TOKEN
    assert code_of(u, "KV/Range", key=b"a") == UNAUTHENTICATED
    assert session.nobody.outcome("Auth/Authenticate", name="u", password="up") == FAILED
    assert session.log_in("u", "np").outcome("KV/Range", key=b"a") == "ok"
    assert root.outcome("KV/Range", key=b"a") == "ok"
    root("Auth/UserChangePassword", name="u", password="")
    assert session.nobody.outcome("Auth/Authenticate", name="u", password="") == FAILED


def test_case_16_and_17_taking_away(session: AuthSession) -> None:
    root, u = session.enable()
    root("Auth/UserRevokeRole", name="u", role="r")
    assert u.outcome("KV/Put", key=b"a1") == DENIED
    root("Auth/UserGrantRole", user="u", role="r")
    assert u.outcome("KV/Put", key=b"a1") == "ok"
    root("Auth/RoleDelete", role="r")
    assert list(u("Auth/UserGet", name="u").roles) == []
    assert u.outcome("KV/Put", key=b"a1") == DENIED
    root("Auth/UserDelete", name="u")
    assert u.outcome("KV/Put", key=b"a1") == BAD_TOKEN
    assert code_of(u, "KV/Put", key=b"a1") == UNAUTHENTICATED


def test_case_18_users_without_a_password(session: AuthSession) -> None:
    session.nobody("Auth/UserAdd", name="cert", password="cp", options={"no_password": True})
    session.nobody("Auth/UserAdd", name="blank", password="")
    root, _u = session.enable()
    text = "auth: authentication failed, password was given for no password user"
    for _ in range(2):
        for password in ("", "cp"):
            fields = {"name": "cert", "password": password}
            assert session.nobody.outcome("Auth/Authenticate", **fields) == text
            assert code_of(session.nobody, "Auth/Authenticate", **fields) == UNKNOWN
        root("Auth/UserChangePassword", name="cert", password="cp")
    assert session.log_in("blank", "").outcome("Maintenance/Status") == "ok"


def test_case_19_tokens_end_with_auth(session: AuthSession) -> None:
    root, u = session.enable()
    root("Auth/AuthDisable")
    assert u.outcome("KV/Put", key=b"zz") == "ok"  # tokens are not looked at
    assert session.nobody.outcome("Auth/AuthDisable") == "ok"
    session.nobody("Auth/AuthEnable")
    for caller in (u, root):
        assert caller.outcome("KV/Put", key=b"a1") == BAD_TOKEN


def test_case_20_the_revision_as_told(session: AuthSession) -> None:
    before = revision(session)
    root, _u = session.enable()
    assert revision(session) == before
    root("Auth/AuthEnable")
    root("Auth/UserGrantRole", user="u", role="r")
    assert revision(session) == before
    root("Auth/RoleAdd", name="new")
    assert revision(session) == before + 1


def test_case_23_and_24_permissions_that_cannot_be(session: AuthSession) -> None:
    root, _u = session.enable()
    assert root.outcome("Auth/RoleGrantPermission", name="r") == "permission not given"
    assert code_of(root, "Auth/RoleGrantPermission", name="r") == INVALID_ARGUMENT
    for key, end in ((b"", b""), (b"b", b"a"), (b"", b"\0")):
        permission = auth_pb2.Permission(key=key, range_end=end)
        outcome = root.outcome("Auth/RoleGrantPermission", name="r", perm=permission)
        assert outcome == "invalid auth management"
    half = root.outcome("Auth/RoleRevokePermission", role="r", key=b"a")
    assert half == "permission is not granted to the role"
    assert root.outcome("KV/Range", key=b"x") == "ok"  # alive


def test_case_28_bearer(session: AuthSession) -> None:
    _root, u = session.enable()
    token = u.metadata["token"]
    for key in ("authorization", "token"):
        for text in (token, f"Bearer {token}"):
            assert session.with_token(text, key).outcome("KV/Put", key=b"a1") == "ok"
    both = Caller(u.channel, {"token": "x.1", "authorization": token})
    assert both.outcome("KV/Put", key=b"a1") == BAD_TOKEN
    assert session.with_token("").outcome("KV/Put", key=b"a1") == BAD_TOKEN


def test_case_30_locks(session: AuthSession) -> None:
    _root, u = session.enable()
    assert u.outcome("Lock/Lock", name=b"zz") == DENIED
    assert code_of(u, "Lock/Lock", name=b"zz") == UNKNOWN
    locked = u("Lock/Lock", name=b"a-lock")
    assert u.outcome("Lock/Unlock", key=locked.key) == "ok"


def test_tokens_of_entries_to_come_are_refused(session: AuthSession) -> None:
    """§7.1: an absurd index. Everything committed is applied, so nobody has made that token."""
    session.enable()
    future = session.with_token("QwErTyUiOpAsDfGh.999999999")
    for name in ("KV/Put", "KV/Range", "KV/RangeStream"):
        assert future.outcome(name, key=b"a1") == BAD_TOKEN
    assert future.outcome("Maintenance/Status") == BAD_TOKEN
    assert future.outcome("Auth/UserList") == BAD_TOKEN
    assert future.outcome("Lease/LeaseKeepAlive", ID=1) == BAD_TOKEN
    assert refusal(future, b"a").endswith(BAD_TOKEN)


def test_a_long_password_is_refused_in_bcrypts_words(session: AuthSession) -> None:
    text = "bcrypt: password length exceeds 72 bytes"
    outcome = session.nobody.outcome("Auth/UserAdd", name="long", password="x" * 73)
    assert outcome == text
    assert code_of(session.nobody, "Auth/UserAdd", name="long", password="x" * 73) == UNKNOWN
    assert session.nobody.outcome("Auth/UserGet", name="long") == "user name not found"


def test_long_names(session: AuthSession, member: ServerProcess) -> None:
    """etcd takes 32768 bytes and dies of more; ours outlives both, and keeps what it takes."""
    do, name = session.nobody, "n" * 32_768
    do("Auth/UserAdd", name=name, password="p")
    do("Auth/RoleAdd", name=name)
    do("Auth/UserGrantRole", user=name, role=name)
    for method in ("Auth/UserAdd", "Auth/RoleAdd"):
        assert do.outcome(method, name=name + "n") == "auth: a name has at most 32768 bytes"
        assert code_of(do, method, name=name + "n") == INVALID_ARGUMENT
    do("Maintenance/Defragment")  # all of it is on the disk
    member.terminate()
    member.start()
    assert list(session.nobody("Auth/UserGet", name=name).roles) == [name]
    assert do.outcome("Maintenance/Snapshot") == "ok"
    do("Auth/UserDelete", name=name)
    do("Maintenance/Defragment")


def test_health_and_metrics_ask_for_nobody(session: AuthSession, member: ServerProcess) -> None:
    """spec/observability.md, example 24."""
    session.enable()
    assert '"health":"true"' in member.http_get("/health")
    assert f"etcd_debugging_auth_revision {revision(session)}\n" in member.http_get("/metrics")
    assert member.http_get("/readyz").endswith("ok\n")


def test_many_log_in_at_once(session: AuthSession) -> None:
    session.enable()
    authenticate = session.nobody.channel.unary_unary(SHORT["Auth/Authenticate"])
    body = rpc.AuthenticateRequest(name="u", password="up").SerializeToString()
    calls = [authenticate.future(body, timeout=60) for _ in range(40)]
    tokens = [rpc.AuthenticateResponse.FromString(call.result()).token for call in calls]
    assert len(set(tokens)) == 40
    for token in tokens:
        assert session.with_token(token).outcome("KV/Put", key=b"a1") == "ok"


def test_a_login_given_up_harms_nobody(session: AuthSession) -> None:
    session.enable()
    authenticate = session.nobody.channel.unary_unary(SHORT["Auth/Authenticate"])
    body = rpc.AuthenticateRequest(name="u", password="up").SerializeToString()
    given_up = 0

    def gives_up() -> bool:
        """Unless the answer was quicker."""
        nonlocal given_up
        call = authenticate.future(body, timeout=60)
        call.cancel()
        with suppress(grpc.FutureCancelledError):
            call.result()
        given_up += call.cancelled()
        return given_up == 5

    wait_until(gives_up, 60, "five logins are given up")
    assert session.log_in("u", "up").outcome("KV/Put", key=b"a1") == "ok"
