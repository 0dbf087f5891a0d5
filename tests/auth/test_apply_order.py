"""Permission among the checks at apply (spec/kv.md §4 step 9): CORRUPT, NOSPACE, permission, then
what the state says; and no put passes unjudged from the entry on that enables auth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kvserver import errors
from kvserver.apply.alarms import CORRUPT, NOSPACE, Alarms
from kvserver.apply.applier import Applier
from kvserver.apply.auth import AuthApplier
from kvserver.apply.command import Kind
from kvserver.auth import NOBODY
from kvserver.lease import Lessor
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.mvcc.store import Store
from kvserver.proto import rpc_pb2 as rpc
from tests.auth.rig import DictTables, Rig

QUOTA_BYTES = 1 << 40


class Member:
    """A real applier on a store in memory, with Setup A."""

    def __init__(self) -> None:
        self.rig = Rig()
        lessor = Lessor(ttl_min=1)
        backend: Any = MemoryBackend()
        self.store = Store(backend, lessor)
        self.store.restore()
        self.alarms = Alarms(DictTables())
        membership: Any = SimpleNamespace()
        space: Any = SimpleNamespace(
            size_bytes=0, pending_bytes=0, put=lambda *row: None, delete=lambda *row: None
        )
        self.applier = Applier(
            store=self.store,
            lessor=lessor,
            alarms=self.alarms,
            membership=membership,
            auth=AuthApplier(self.rig.store, self.rig.checker),
            space=space,
            quota_bytes=QUOTA_BYTES,
            on_compaction=lambda job: None,
        )
        self.applier.note_space()

    def refused(self, kind: Kind, request: Any, name: str = "") -> type[errors.RequestError] | None:
        identity = self.rig.who(name) if name else NOBODY
        try:
            self.applier.apply(kind, request, 0.0, identity, 9)
        except errors.RequestError as error:
            return type(error)
        return None


PUT, DELETE = rpc.PutRequest(key=b"zz"), rpc.DeleteRangeRequest(key=b"zz")
MINE = rpc.PutRequest(key=b"a1")
PUTTING = rpc.TxnRequest(success=[rpc.RequestOp(request_put=PUT)])
DELETING = rpc.TxnRequest(success=[rpc.RequestOp(request_delete_range=DELETE)])


def test_alarms_come_before_permission_and_permission_before_state() -> None:
    member = Member()
    denied, empty = errors.PermissionDenied, errors.UserEmpty
    assert member.refused(Kind.PUT, PUT) is empty
    assert member.refused(Kind.PUT, rpc.PutRequest(key=b"zz", lease=99), "u") is denied
    assert member.refused(Kind.PUT, rpc.PutRequest(key=b"a", lease=99), "u") is errors.LeaseNotFound
    member.alarms.activate(1, NOSPACE)
    for kind, request in ((Kind.PUT, PUT), (Kind.PUT, MINE), (Kind.TXN, PUTTING)):
        assert member.refused(kind, request, "u") is errors.NoSpace
    for kind, request in ((Kind.DELETE_RANGE, DELETE), (Kind.TXN, DELETING)):
        assert member.refused(kind, request, "u") is denied
    member.alarms.activate(1, CORRUPT)
    for kind, request in ((Kind.PUT, PUT), (Kind.DELETE_RANGE, DELETE), (Kind.TXN, DELETING)):
        assert member.refused(kind, request) is errors.Corrupt


def test_from_the_entry_on_that_enables_auth_every_put_is_judged() -> None:
    member = Member()
    member.rig.store.disable()
    assert member.refused(Kind.PUT, PUT) is None
    member.refused(Kind.ALARM, rpc.AlarmRequest())
    assert member.applier.takes_any_put
    assert member.refused(Kind.AUTH_ENABLE, rpc.AuthEnableRequest()) is None
    assert not member.applier.takes_any_put
    assert member.refused(Kind.PUT, PUT) is errors.UserEmpty
    assert member.refused(Kind.PUT, MINE, "u") is None
    assert not member.applier.takes_any_put
    assert member.refused(Kind.AUTH_DISABLE, rpc.AuthDisableRequest(), "u") is (
        errors.PermissionDenied
    )
    assert not member.applier.takes_any_put
    assert member.refused(Kind.AUTH_DISABLE, rpc.AuthDisableRequest(), "root") is None
    assert member.applier.takes_any_put


@pytest.mark.parametrize("name", ["", "u"])
def test_a_refusal_changes_no_key(name: str) -> None:
    member = Member()
    for kind, request in ((Kind.PUT, PUT), (Kind.TXN, PUTTING), (Kind.DELETE_RANGE, DELETE)):
        assert member.refused(kind, request, name)
    assert member.store.revision == 1 and member.store.take_events() == []
