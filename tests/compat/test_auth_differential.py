"""The same users, roles and refusals on a real etcd and on Keydeck, by random operations.

Every answer is compared: code, text, and the reply without what names a member or a token; now and
then the auth revision; at the end the keys by HashKV. Where releases differ (spec/auth.md, and
spec/wire-api.md §1.2) a rule says since when; what would part the two states for good, because the
old release lets it through, is not asked of it: it is in tests/auth.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvserver.proto import auth_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.compat.conftest import StartMember
from tests.compat.differences import Version, has, parse_version
from tests.support.auth_session import AuthSession, Caller, Refusal
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import ServerProcess

pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]

SEEDS = (1, 2)
OPERATIONS = int(os.environ.get("KEYDECK_AUTH_DIFFERENTIAL_OPERATIONS", "2500"))
FLAGS = ["--bcrypt-cost=4"]
NOBODY, STRANGER = "nobody", "stranger"
PASSWORDS = ("p", "q")
USERS, ROLES = ("root", "u", "v", "w"), ("root", "r", "s", "t")
KEYS = (b"a", b"b", b"c", b"d", b"e")
LEASES = (71, 72, 73)
Outcome = tuple[int, str, str]


@dataclass(frozen=True)
class Operation:
    """A call in somebody's name: `caller` is NOBODY, STRANGER or a user's latest token."""

    caller: str
    name: str
    fields: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.caller}: {self.name} {self.fields}"


# Where releases differ


@dataclass(frozen=True)
class Rule:
    name: str
    since: tuple[Version, ...]
    explains: Callable[[Operation, Outcome, Outcome], bool]


ASKED_OF_NOBODY = {(3, "user name is empty"), (16, "invalid auth token")}
REFUSED = ASKED_OF_NOBODY | {(7, "permission denied")}


def now_refused(*names: str, by: set[tuple[int, str]] = ASKED_OF_NOBODY) -> Any:
    """Read-only methods that were open to everybody."""

    def explains(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
        return operation.name in names and not reference[0] and subject[:2] in by

    return explains


def raw_texts(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
    """Root-only Maintenance calls said `auth: …` with code Unknown."""
    return (
        operation.name.startswith("Maintenance/")
        and reference[:2] == (2, f"auth: {subject[1]}")
        and subject[:2] in REFUSED
    )


def tokens_ignored_while_off(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
    refused = {(16, "invalid auth token"), (2, "auth: invalid auth token")}
    return reference[:2] in refused and subject[0] in (0, 9)


def role_root_has_all(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
    return operation.name == "Auth/RoleGet" and operation.fields == {"role": "root"}


def watch_reasons(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
    refusal = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    return operation.name == "Watch/Watch" and refusal in reference[2] and "cancel" in subject[2]


def open_watches(operation: Operation, reference: Outcome, subject: Outcome) -> bool:
    """A right on the first key opened a watch from there on."""
    create = operation.fields.get("create_request")
    opened = create is not None and create.range_end == b"\0" and "cancel" not in reference[2]
    return opened and "permission denied" in subject[2]


RULES = (
    Rule(
        "spec/wire-api.md §1.2: any user",
        ((3, 4, 43), (3, 5, 32), (3, 6, 12)),
        now_refused("Cluster/MemberList", "Maintenance/Status", "Lease/LeaseTimeToLive"),
    ),
    Rule(
        "spec/wire-api.md §1.2: attached keys",
        ((3, 4, 42), (3, 5, 28), (3, 6, 9)),
        now_refused("Lease/LeaseLeases", "Lease/LeaseTimeToLive", by=REFUSED),
    ),
    Rule("spec/wire-api.md §5.2", ((3, 6, 0),), raw_texts),
    Rule("spec/auth.md §3", ((3, 4, 28), (3, 5, 10), (3, 6, 0)), tokens_ignored_while_off),
    Rule("spec/auth.md §3: role root", ((3, 6, 0),), role_root_has_all),
    Rule("spec/watch.md A2", ((3, 5, 33), (3, 6, 14), (3, 7, 1)), open_watches),
    Rule("spec/wire-api.md §5.4", ((3, 4, 22), (3, 5, 6), (3, 6, 0)), watch_reasons),
)


# What is asked


class Generator:
    """One seed is one sequence. Root keeps its password, and its role while auth is on."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.enabled = False
        self.next_up: list[Operation] = []
        self.ends: dict[tuple[str, bytes], bytes] = {}
        self._makers: dict[Callable[[], Operation], float] = {
            self.manage_user: 10,
            self.manage_role: 8,
            self.grant_permission: 8,
            self.log_in: 8,
            self.switch: 1.5,
            self.put: 14,
            self.read: 14,
            self.delete: 6,
            self.txn: 12,
            self.lease: 8,
            self.watch: 3,
            self.maintenance: 4,
            self.ask: 6,
        }

    def operations(self) -> Iterator[Operation]:
        yield from self.founding()
        while True:
            if self.next_up:
                yield self.next_up.pop(0)
                continue
            makers, weights = list(self._makers), list(self._makers.values())
            yield self.dice.choices(makers, weights)[0]()

    def founding(self) -> Iterator[Operation]:
        yield Operation(NOBODY, "Auth/AuthEnable", {})
        yield Operation(NOBODY, "Auth/UserAdd", {"name": "root", "password": "p"})
        yield Operation(NOBODY, "Auth/AuthEnable", {})
        yield Operation(NOBODY, "Auth/UserGrantRole", {"user": "root", "role": "root"})
        for user, role in zip(USERS[1:], ROLES[1:], strict=True):
            yield Operation(NOBODY, "Auth/UserAdd", {"name": user, "password": "p"})
            yield Operation(NOBODY, "Auth/RoleAdd", {"name": role})
            yield Operation(NOBODY, "Auth/UserGrantRole", {"user": user, "role": role})

    def pick(self, *choices: Any) -> Any:
        return self.dice.choice(choices)

    def admin(self) -> str:
        """Mostly somebody who may."""
        if not self.enabled:
            return NOBODY
        return str(self.pick(*("root",) * 12, "u", "v", NOBODY, STRANGER))

    def anybody(self) -> str:
        if not self.enabled:
            return NOBODY
        return str(self.pick("root", *("u", "v", "w") * 4, NOBODY, STRANGER))

    def reader(self) -> str:
        """Old releases refuse tokens that are not good while auth is off, so none writes then."""
        if not self.enabled:
            return str(self.pick(*(NOBODY,) * 8, "root", "u"))
        return self.anybody()

    def range_end(self, key: bytes) -> bytes:
        later = [other for other in KEYS if other > key]
        return bytes(self.pick(b"", b"", b"\0", *later))

    # users, roles, tokens

    def manage_user(self) -> Operation:
        name = self.pick(*USERS, "u", "v", "", "gone")
        mutable = name if name != "root" or self.enabled else "u"
        role = self.pick(*ROLES, "r", "s")
        if name == "root":
            role = "root" if self.enabled else "r"
        method, fields = self.pick(
            ("UserAdd", {"name": name, "password": self.pick(*PASSWORDS)}),
            ("UserAdd", {"name": name, "password": self.pick(*PASSWORDS)}),
            ("UserAdd", {"name": "cert", "options": {"no_password": True}}),
            ("UserDelete", {"name": self.pick(mutable, "cert", "gone")}),
            ("UserGrantRole", {"user": name, "role": role}),
            ("UserGrantRole", {"user": name, "role": role}),
            ("UserGrantRole", {"user": name, "role": role}),
            ("UserRevokeRole", {"name": mutable, "role": role}),
            ("UserChangePassword", self._password_of(name)),
        )
        if self.enabled and fields.get("password") and name != "root":
            login = {"name": fields["name"], "password": fields["password"]}
            self.next_up.append(Operation(NOBODY, "Auth/Authenticate", login))
        return Operation(self.admin(), f"Auth/{method}", fields)

    def _password_of(self, name: str) -> dict[str, str]:
        return {"name": "u" if name == "root" else name, "password": self.pick(*PASSWORDS)}

    def _granted(self, role: str) -> dict[str, bytes]:
        """A key and its range end in a role, always the same one: of several ranges with one first
        key old releases lose track (spec/auth.md §4 has them replaced)."""
        key = self.pick(*KEYS)
        return {"key": key, "range_end": self.ends.setdefault((role, key), self.range_end(key))}

    def manage_role(self) -> Operation:
        name = self.pick(*ROLES, "r", "", "gone")
        method, fields = self.pick(
            ("RoleAdd", {"name": name}),
            ("RoleAdd", {"name": name}),
            ("RoleDelete", {"role": self.pick(name, "gone", "gone")}),
            ("RoleRevokePermission", {"role": name, **self._granted(name)}),
        )
        return Operation(self.admin(), f"Auth/{method}", fields)

    def grant_permission(self) -> Operation:
        role = self.pick("r", "s", "t", "gone")
        permission = auth_pb2.Permission(permType=self.pick(0, 1, 2), **self._granted(role))
        fields = {"name": role, "perm": permission}
        return Operation(self.admin(), "Auth/RoleGrantPermission", fields)

    def log_in(self) -> Operation:
        name = self.pick(*USERS, "u", "v", "w", "cert", "gone")
        password = "p" if name == "root" else self.pick(*PASSWORDS)
        return Operation(NOBODY, "Auth/Authenticate", {"name": name, "password": password})

    def switch(self) -> Operation:
        """On for most of the time; a new start needs new tokens."""
        if self.enabled and self.dice.random() < 0.7:
            return Operation(self.admin(), "Auth/AuthEnable", {})
        self.enabled = not self.enabled
        if not self.enabled:
            return Operation("root", "Auth/AuthDisable", {})
        for name in USERS:
            for password in PASSWORDS:
                fields = {"name": name, "password": password}
                self.next_up.append(Operation(NOBODY, "Auth/Authenticate", fields))
        self.next_up.insert(0, Operation(NOBODY, "Auth/AuthEnable", {}))
        return Operation(NOBODY, "Auth/UserGrantRole", {"user": "root", "role": "root"})

    def ask(self) -> Operation:
        caller = self.reader()
        method, fields = self.pick(
            ("UserGet", {"name": self.pick(*USERS, "gone")}),
            ("RoleGet", {"role": self.pick(*ROLES, "gone")}),
            ("UserList", {}),
            ("RoleList", {}),
        )
        return Operation(caller, f"Auth/{method}", fields)

    # keys and leases

    def _put_fields(self, caller: str) -> dict[str, Any]:
        return {
            "key": self.pick(*KEYS),
            "value": self.pick(b"1", b"2"),
            "prev_kv": self.dice.random() < 0.3,
            "lease": self.pick(0, 0, 0, *LEASES),
        }

    def put(self) -> Operation:
        caller = self.anybody()
        return Operation(caller, "KV/Put", self._put_fields(caller))

    def _range_fields(self) -> dict[str, Any]:
        """Never inverted: whether those are allowed depends on the shape of etcd's tree."""
        key = self.pick(*KEYS)
        return {"key": key, "range_end": self.range_end(key)}

    def read(self) -> Operation:
        fields = self._range_fields() | {"serializable": self.dice.random() < 0.2}
        return Operation(self.reader(), "KV/Range", fields)

    def delete(self) -> Operation:
        fields = self._range_fields() | {"prev_kv": self.dice.random() < 0.3}
        return Operation(self.anybody(), "KV/DeleteRange", fields)

    def txn(self) -> Operation:
        """Old releases look neither into nested transactions nor at the options of a put in one
        (spec/kv.md T14): only root sends those. An empty one has nothing to be refused for."""
        caller = self.anybody()
        compare = [
            rpc.Compare(key=self.pick(*KEYS), target=rpc.Compare.VERSION)
            for _ in range(self.pick(0, 0, 1, 1, 2))
        ]
        success = self._branch(caller, 2) or [rpc.RequestOp(request_range={"key": b"a"})]
        failure = self._branch(caller, 2)
        fields = {"compare": compare, "success": success, "failure": failure}
        return Operation(caller, "KV/Txn", fields)

    def _branch(self, caller: str, depth: int) -> list[rpc.RequestOp]:
        """Keys of a branch differ, so that nothing is put twice."""
        ops = []
        for key in self.dice.sample(KEYS, self.pick(0, 1, 1, 2)):
            kind = self.pick("put", "put", "range", "delete", "txn")
            if kind == "put":
                fields = self._put_fields(caller) | {"key": key}
                if caller != "root":
                    fields |= {"prev_kv": False, "lease": 0}
                ops.append(rpc.RequestOp(request_put=rpc.PutRequest(**fields)))
            elif kind == "range":
                ops.append(rpc.RequestOp(request_range=self._range_fields()))
            elif kind == "delete":
                request = rpc.DeleteRangeRequest(key=key, prev_kv=self.dice.random() < 0.3)
                ops.append(rpc.RequestOp(request_delete_range=request))
            elif caller == "root" and depth:
                nested = rpc.TxnRequest(success=self._branch(caller, depth - 1))
                ops.append(rpc.RequestOp(request_txn=nested))
        return ops

    def lease(self) -> Operation:
        """Old releases granted and revoked for nobody too: only users do here."""
        user = "root" if self.enabled else NOBODY
        lease = self.pick(*LEASES)
        name, fields = self.pick(
            ("LeaseGrant", {"ID": lease, "TTL": 3600}),
            ("LeaseRevoke", {"ID": lease}),
            ("LeaseTimeToLive", {"ID": lease, "keys": self.pick(True, False)}),
            ("LeaseLeases", {}),
        )
        if name in ("LeaseTimeToLive", "LeaseLeases"):
            user = self.reader()
        return Operation(user, f"Lease/{name}", fields)

    def watch(self) -> Operation:
        create = rpc.WatchCreateRequest(**self._range_fields())
        return Operation(self.anybody(), "Watch/Watch", {"create_request": create})

    def maintenance(self) -> Operation:
        name = self.pick("Maintenance/Status", "Maintenance/HashKV", "Cluster/MemberList")
        return Operation(self.reader(), name, {})


# The two sides


@dataclass
class Side:
    """One member and the latest token of each user on it."""

    member: ServerProcess
    session: AuthSession = field(init=False)
    callers: dict[str, Caller] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.session = AuthSession(self.member.endpoint)
        self.callers[NOBODY] = self.session.nobody
        self.callers[STRANGER] = self.session.with_token("QwErTyUiOpAsDfGh.1")
        for name in USERS:
            self.callers[name] = self.session.with_token("QwErTyUiOpAsDfGh.2")

    def do(self, operation: Operation) -> Outcome:
        try:
            reply = self.callers[operation.caller](operation.name, **operation.fields)
        except Refusal as refusal:
            return refusal.code, refusal.text.removeprefix("etcdserver: "), ""
        if operation.name == "Auth/Authenticate":
            self.callers[operation.fields["name"]] = self.session.with_token(reply.token)
        return 0, "", level(operation.name, reply)

    def auth_revision(self) -> int:
        found = re.search(r"\netcd_debugging_auth_revision (\S+)", self.member.http_get("/metrics"))
        assert found
        return int(float(found[1]))


def level(name: str, reply: Any) -> str:
    """The reply without what names a member, a token or a moment."""
    if name in ("Maintenance/Status", "Cluster/MemberList", "Maintenance/HashKV"):
        return "ok"  # compared by tests/compat/test_differential.py
    header = reply.header
    for field_name in ("cluster_id", "member_id", "raft_term"):
        setattr(header, field_name, 1 if getattr(header, field_name) else 0)
    if name == "Auth/Authenticate":
        reply.token = re.sub(r"^[A-Za-z]{16}\.\d+$", "a token", reply.token)
    elif name == "Lease/LeaseTimeToLive":
        reply.TTL = min(reply.TTL, 1)
        reply.keys[:] = sorted(reply.keys)
    elif name == "Lease/LeaseLeases":
        ids = sorted(lease.ID for lease in reply.leases)
        del reply.leases[:]
        reply.leases.extend(rpc.LeaseStatus(ID=lease) for lease in ids)
    return str(reply).replace("\n", " ")


@pytest.mark.parametrize("seed", SEEDS)
def test_every_verdict_equals_etcds(
    release: EtcdRelease, start_etcd: StartMember, start_subject: StartMember, seed: int
) -> None:
    reference, subject = Side(start_etcd(release, flags=FLAGS)), Side(start_subject(flags=FLAGS))
    versions = [
        parse_version(side.session.nobody("Maintenance/Status").version)
        for side in (reference, subject)
    ]
    rules = [r for r in RULES if has(versions[1], r.since) and not has(versions[0], r.since)]
    seen: dict[str, int] = {}
    history: list[str] = []
    for number, operation in zip(range(OPERATIONS), Generator(seed).operations(), strict=False):
        one, other = reference.do(operation), subject.do(operation)
        history.append(f"{operation} -> {one[:2]}")
        seen[one[1] or "ok"] = seen.get(one[1] or "ok", 0) + 1
        if one != other and not any(rule.explains(operation, one, other) for rule in rules):
            told = "\n".join(history[-15:])
            pytest.fail(f"at {number}, {operation}\n  {one}\n  {other}\nafter\n{told}")
        if number % 250 == 0:
            assert reference.auth_revision() == subject.auth_revision(), number
    assert reference.auth_revision() == subject.auth_revision()
    hashes = {kept_hash(side) for side in (reference, subject)}
    assert len(hashes) == 1
    # The sequence met what it was made for.
    assert seen["ok"] > OPERATIONS // 4 and seen["permission denied"] > OPERATIONS // 20
    assert seen["invalid auth token"] and seen["user name is empty"]


def kept_hash(side: Side) -> tuple[int, int]:
    root = side.session.nobody
    if side.do(Operation(NOBODY, "Auth/Authenticate", {"name": "root", "password": "p"}))[0] == 0:
        root = side.callers["root"]
    reply = root("Maintenance/HashKV")
    return reply.hash, reply.header.revision
