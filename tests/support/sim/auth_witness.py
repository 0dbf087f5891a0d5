"""What the witness knows of auth: after the same entry every member has the same users and roles
and says the same of the same requests; nobody's write has an effect that his rights of that moment
do not cover, by a reading of them that is as plain as can be; and a token whose log-in was
acknowledged is known to every member that has applied it (spec/auth.md §2, §3, §7)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kvserver import errors
from kvserver.auth import AuthStore, Identity
from kvserver.mvcc.event import Event
from kvserver.proto import auth_pb2, kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.sim.world import Violation, World

if TYPE_CHECKING:
    from tests.support.sim.machine import Process

ASKERS = ("root", "alice", "bob", "nobody")


def _ops(*requests: rpc.RangeRequest) -> list[rpc.RequestOp]:
    return [rpc.RequestOp(request_range=request) for request in requests]


PROBES: tuple[Any, ...] = (
    rpc.PutRequest(key=b"a/1"),
    rpc.PutRequest(key=b"b/1", prev_kv=True),
    rpc.RangeRequest(key=b"a/", range_end=b"b0"),
    rpc.TxnRequest(success=_ops(rpc.RangeRequest(key=b"a/0"), rpc.RangeRequest(key=b"b/0"))),
    rpc.DeleteRangeRequest(key=b"z/"),
)


class AuthWitness:
    """Owner: the run's witness."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users: frozenset[str] = frozenset()
        """Whose writes are watched: their values begin with the name and a dot."""
        self.tokens: dict[str, tuple[str, float]] = {}
        """Of acknowledged log-ins: whose, and when they were asked for."""
        self.writes = 0
        self._dropped: dict[tuple[str, int], float] = {}
        """When the tokens of a user first were dropped at an auth revision, on any member."""
        self._states: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._faults: list[str] = []

    def watch(self, process: Process) -> None:
        store: AuthStore = process.core.state.auth
        tokens: Any = store.tokens
        drop_user, resolve = tokens.drop_user, tokens.resolve

        def watched_drop(username: str) -> None:
            self._dropped.setdefault((username, store.revision), self.world.now)
            drop_user(username)

        def watched_resolve(token: str, revision: int, applied_index: int) -> Identity:
            try:
                identity: Identity = resolve(token, revision, applied_index)
            except errors.InvalidAuthToken:
                if self._is_due(process, token, applied_index):
                    self._faults.append(f"{process.life}, at {applied_index}, refuses {token}")
                raise
            return identity

        tokens.drop_user, tokens.resolve = watched_drop, watched_resolve

    def _is_due(self, process: Process, token: str, applied_index: int) -> bool:
        """Whether this process applied the entry of an acknowledged log-in, and no reason is known
        why it should have forgotten its token."""
        if token not in self.tokens:
            return False
        user, asked = self.tokens[token]
        if not process.applied_from < int(token.rpartition(".")[2]) <= applied_index:
            return False
        return not any(name == user and at >= asked for (name, _), at in self._dropped.items())

    def applied(self, process: Process, index: int) -> None:
        if self._faults:
            raise Violation("\n".join(self._faults))
        store = process.core.state.auth
        if not self.users:
            return
        known = self._states.get(index)
        here = state_of(store), verdicts_of(process.core.checker)
        self._compare_with_the_plain_reading(process, here[1])
        if known is None:
            self._states[index] = here
        elif known[0] != here[0]:
            raise Violation(f"users and roles of {process.name} after entry {index} are others")
        elif known[1] != here[1]:
            raise Violation(
                f"{process.name} says {here[1]} after entry {index}, others say {known[1]}"
            )

    def _compare_with_the_plain_reading(self, process: Process, verdicts: tuple[str, ...]) -> None:
        store, put = process.core.state.auth, PROBES[0]
        for said in verdicts if store.is_enabled else ():
            name, _, letters = said.partition(" ")
            if name in self.users and (letters[0] == "y") != may_write(store, name, put.key):
                raise Violation(f"{process.name} says {said}: not what is granted")

    def changed(self, process: Process, revision: int, events: Sequence[Event]) -> None:
        """By the entry that is being applied right now."""
        if not self.users:
            return
        for event in events:
            value = kv_pb2.KeyValue.FromString(event.kv).value
            writer = value.partition(b".")[0].decode("utf-8", "replace")
            if event.is_delete or writer not in self.users:
                continue
            self.writes += 1
            if not may_write(process.core.state.auth, writer, event.key):
                raise Violation(
                    f"{process.name}: revision {revision} writes {event.key!r} as {writer}, "
                    "who may not"
                )


def state_of(store: AuthStore) -> str:
    """A digest of what the log has made of auth."""
    digest = hashlib.sha256(b"%d %d" % (store.is_enabled, store.revision))
    messages = [store.user(name) for name in store.user_names()]
    roles = [
        auth_pb2.Role(name=name.encode(), keyPermission=store.permissions_of(name))
        for name in store.role_names()
    ]
    for message in (*messages, *roles):
        assert message is not None
        digest.update(message.SerializeToString(deterministic=True) + b"\n")
    return digest.hexdigest()


def verdicts_of(checker: Any) -> tuple[str, ...]:
    """For each of the askers, one letter for each probe: y(es), n(o)."""
    return tuple(f"{name} {''.join(_verdicts(checker, name))}" for name in ASKERS)


def _verdicts(checker: Any, name: str) -> list[str]:
    identity = Identity(name, checker.store.revision)
    said = []
    for request in PROBES:
        try:
            checker.permit(identity, request)
        except errors.RequestError:
            said.append("n")
        else:
            said.append("y")
    return said


def may_write(store: AuthStore, name: str, key: bytes) -> bool:
    """One permission after the other, none combined and none remembered."""
    user = store.user(name)
    if user is None:
        return False
    names = store.role_names()
    return any(
        permission.permType != auth_pb2.Permission.READ and _covers(permission, key)
        for role in user.roles
        if role in names
        for permission in store.permissions_of(role)
    )


def _covers(permission: auth_pb2.Permission, key: bytes) -> bool:
    if not permission.range_end:
        return key == permission.key
    return permission.key <= key and (permission.range_end == b"\x00" or key < permission.range_end)
