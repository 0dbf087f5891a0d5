"""The explainer against servers: random users, roles, ranges and verbs, each answered by the
server to a user who really signed in. What the console says and what the server does are the
same, thousands of times (spec/auth.md §3, §4)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from console.clusters import secrets
from console.gateway import Reader, auth, clients
from console.models import Cluster
from console.users.demands import Demand, checks_whole_watch, demands_of, demands_of_txn, judge
from console.users.spans import Span, span_of
from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.errors import Code
from kvserver.proto import auth_pb2, rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX
from tests.support.servers import Server, running, with_etcd35

CHECKS = 3000
USERS, ROLES, LEASES = 10, 12, 6
BYTES = [b"a", b"b", b"/", b"\x00", b"\xff"]
VERBS = ("read", "put", "delete", "watch", "attach", "txn")


@pytest.fixture(scope="module", params=with_etcd35())
def guarded(request, tmp_path_factory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("oracle")
    with running(request.param, directory, flags=["--bcrypt-cost=4"]) as [server]:
        yield server
        clients.close()


@pytest.fixture
def reader(guarded: Server, tmp_path, settings) -> Iterator[Reader]:
    """The console's own way to the cluster, as root."""
    settings.ENCRYPTION_KEY_FILE = tmp_path / "key"
    secrets._box.cache_clear()
    yield Reader(
        Cluster(
            pk=-1,
            endpoints=guarded.client_url,
            etcd_user="root",
            etcd_password_encrypted=secrets.encrypt("root's"),
        )
    )
    secrets._box.cache_clear()


@dataclass(slots=True)
class World:
    """What was made at random: bounds to ask around, leases with their keys."""

    dice: random.Random
    bounds: list[bytes]
    leases: dict[int, list[bytes]]
    watches_whole: bool

    def key(self) -> bytes:
        return random_key(self.dice, self.bounds)

    def wire(self) -> tuple[bytes, bytes]:
        return random_wire(self.dice, self.bounds)


def random_key(dice: random.Random, bounds: list[bytes]) -> bytes:
    """Any short key, mostly one near where a grant begins or ends."""
    if bounds and dice.random() < 0.7:
        near = dice.choice(bounds)
        return dice.choice([near, near + dice.choice(BYTES), near[:-1] or near])
    return b"".join(dice.choices(BYTES, k=dice.randint(1, 3)))


def random_wire(dice: random.Random, bounds: list[bytes]) -> tuple[bytes, bytes]:
    key = random_key(dice, bounds)
    if dice.random() < 0.4:
        return key, b""
    if dice.random() < 0.15:
        return key, b"\x00"
    later = [bound for bound in bounds if bound > key and bound != b"\x00"]
    return key, min(later) if later and dice.random() < 0.5 else key + dice.choice([b"b", b"\xff"])


def populate(root: Client, dice: random.Random) -> World:
    """Users and roles through a client without a name: authentication is off until the end."""

    def do(pick, request):
        return root.write(pick, request, 10)

    bounds: list[bytes] = []
    for number in range(ROLES):
        do(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name=f"r{number}"))
        for _ in range(dice.randint(1, 5)):
            key, end = random_wire(dice, bounds)
            bounds += [key, *([end] if end not in (b"", b"\x00") else [])]
            perm = auth_pb2.Permission(permType=dice.randrange(3), key=key, range_end=end)
            request = rpc_pb2.AuthRoleGrantPermissionRequest(name=f"r{number}", perm=perm)
            do(lambda s: s.auth.RoleGrantPermission, request)
    for number in range(USERS):
        name = f"u{number}"
        do(lambda s: s.auth.UserAdd, rpc_pb2.AuthUserAddRequest(name=name, password="pw"))
        for role in dice.sample(range(ROLES), dice.randint(0, 5)):
            request = rpc_pb2.AuthUserGrantRoleRequest(user=name, role=f"r{role}")
            do(lambda s: s.auth.UserGrantRole, request)
    leases = {}
    for number in range(1, LEASES + 1):
        do(lambda s: s.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(ID=number, TTL=3000))
        leases[number] = sorted({random_key(dice, bounds) for _ in range(number // 3)})
        for key in leases[number]:
            do(lambda s: s.kv.Put, rpc_pb2.PutRequest(key=key, lease=number))
    do(lambda s: s.auth.UserAdd, rpc_pb2.AuthUserAddRequest(name="root", password="root's"))
    do(lambda s: s.auth.RoleAdd, rpc_pb2.AuthRoleAddRequest(name="root"))
    for name in ("root", "u0"):
        request = rpc_pb2.AuthUserGrantRoleRequest(user=name, role="root")
        do(lambda s: s.auth.UserGrantRole, request)
    version = root.read(
        lambda s: s.maintenance.Status, rpc_pb2.StatusRequest(), CALL_SECONDS_MAX
    ).version
    do(lambda s: s.auth.AuthEnable, rpc_pb2.AuthEnableRequest())
    return World(dice, bounds, leases, checks_whole_watch(version))


def is_allowed(call) -> bool:
    """What the server says; anything but yes and permission denied is a fault of this test."""
    try:
        call()
    except CallFailed as error:
        assert error.code is Code.PERMISSION_DENIED, error
        return False
    return True


def watch(client: Client, key: bytes, end: bytes) -> bool:
    endpoint = client.config.endpoints[0]
    create = rpc_pb2.WatchCreateRequest(key=key, range_end=end)
    requests = iter([rpc_pb2.WatchRequest(create_request=create)])
    stream = client.stream(endpoint, lambda s: s.watch.Watch, requests, 10)
    first = next(stream)
    stream.cancel()
    assert first.created
    assert not first.canceled or "permission denied" in first.cancel_reason
    return not first.canceled


class Asking:
    """One random question: what the console demands, and the server's answer."""

    def __init__(self, world: World, client: Client) -> None:
        self.world = world
        self.client = client
        self.dice = world.dice

    def ask(self, verb: str) -> tuple[list[Demand], bool]:
        return getattr(self, verb)()

    def read(self) -> tuple[list[Demand], bool]:
        key, end = self.world.wire()
        request = rpc_pb2.RangeRequest(key=key, range_end=end, limit=1)
        said = is_allowed(lambda: self.client.read(lambda s: s.kv.Range, request, 10))
        return demands_of("read", span_of(key, end)), said

    def put(self, lease: int = 0) -> tuple[list[Demand], bool]:
        key, sees = self.world.key(), self.dice.random() < 0.3
        request = rpc_pb2.PutRequest(key=key, prev_kv=sees, lease=lease)
        said = is_allowed(lambda: self.client.write(lambda s: s.kv.Put, request, 10))
        attached = self.world.leases.get(lease, [])
        verb = "attach" if lease else "put"
        wanted = demands_of(verb, span_of(key, b""), sees_previous=sees, lease_keys=attached)
        if said:
            self._moved(key, lease)
        return wanted, said

    def attach(self) -> tuple[list[Demand], bool]:
        return self.put(self.dice.choice(sorted(self.world.leases)))

    def _moved(self, key: bytes, lease: int = 0) -> None:
        """A key that was put or deleted hangs on the lease it was put with, and no other."""
        for number, attached in self.world.leases.items():
            if key in attached and number != lease:
                attached.remove(key)
            if key not in attached and number == lease:
                attached.append(key)

    def delete(self) -> tuple[list[Demand], bool]:
        (key, end), sees = self.world.wire(), self.dice.random() < 0.3
        request = rpc_pb2.DeleteRangeRequest(key=key, range_end=end, prev_kv=sees)
        said = is_allowed(lambda: self.client.write(lambda s: s.kv.DeleteRange, request, 10))
        span = span_of(key, end)
        if said:
            self._deleted(span)
        return demands_of("delete", span, sees_previous=sees), said

    def _deleted(self, span: Span) -> None:
        for attached in self.world.leases.values():
            attached[:] = [key for key in attached if key not in span]

    def watch(self) -> tuple[list[Demand], bool]:
        key, end = self.world.wire()
        span, whole = span_of(key, end), self.world.watches_whole
        return demands_of("watch", span, watches_whole=whole), watch(self.client, key, end)

    def txn(self) -> tuple[list[Demand], bool]:
        """A compare that fails, so that the write in the success branch is checked and never
        run; reads in both branches. Keys are written as byte text, as somebody types them."""
        never = b"a\x00never"
        request = rpc_pb2.TxnRequest()
        request.compare.add(key=never, target="VERSION", result="GREATER", version=10**9)
        lines = [f"compare {typed(never)}"]
        for verb in self.dice.sample(
            ["compare", "get", "get", self.dice.choice(["put", "del"])], 2
        ):
            key, end = self.world.wire() if verb != "put" else (self.world.key(), b"")
            lines.append(" ".join([verb, *(typed(part) for part in (key, end) if part)]))
            if verb == "compare":
                request.compare.add(key=key, range_end=end, target="VERSION", version=99)
            elif verb == "put":
                request.success.add(request_put={"key": key})
            elif verb == "del":
                request.success.add(request_delete_range={"key": key, "range_end": end})
            else:
                branch = self.dice.choice([request.success, request.failure])
                branch.add(request_range={"key": key, "range_end": end, "limit": 1})
        said = is_allowed(lambda: self.client.write(lambda s: s.kv.Txn, request, 10))
        return demands_of_txn("\n".join(lines)), said


def typed(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def test_the_explainer_says_what_the_server_does(guarded: Server, reader: Reader) -> None:
    dice = random.Random(20_25)
    bare = guarded.client()
    world = populate(bare, dice)
    bare.close()
    names = auth.user_names(reader)
    assert names == sorted([*(f"u{i}" for i in range(USERS)), "root"])
    people = {
        name: Client(ClientConfig((guarded.endpoint,), user=name, password="pw"))
        for name in names
        if name != "root"
    }
    held = {name: auth.roles(reader, auth.user(reader, name).roles) for name in people}
    seen: Counter[tuple[str, bool]] = Counter()
    for _ in range(CHECKS):
        name, verb = dice.choice(sorted(people)), dice.choice(VERBS)
        demands, said = Asking(world, people[name]).ask(verb)
        answer = judge(held[name], demands)
        assert answer.is_allowed == said, (name, verb, demands, held[name])
        seen[verb, said] += 1
    for client in people.values():
        client.close()
    for verb in VERBS:  # a question that always has the same answer asks nothing
        assert min(seen[verb, True], seen[verb, False]) > 20, seen
