"""A read in slices is dropped when rights change before it ends (spec/auth.md §2)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kvserver import errors
from kvserver.proto import rpc_pb2
from kvserver.services.kv import KVService
from tests.auth.rig import Rig
from tests.auth.test_access import call_of, make_access


class TwoSteps:
    """A cursor that is not done at once."""

    def step(self) -> bool:
        return False

    def result(self) -> tuple[int, bytes]:
        return 7, b"secret"


def begin(rig: Rig) -> Callable[[], bytes]:
    """A range begun by u; its answer, to be asked for later."""
    answers: list[Callable[[], bytes]] = []
    background: Any = SimpleNamespace(run=lambda job, call, reply: answers.append(reply))
    store = SimpleNamespace(range_cursor=lambda request: TwoSteps())
    member: Any = SimpleNamespace(
        store=store,
        header=lambda revision: b"header ",
        applier=None,
        is_learner=False,
        reads_at_once=True,
    )
    gate: Any = None
    service = KVService(member, background, gate, make_access(rig=rig), 128)
    call = call_of(None, token=rig.store.tokens.assign("u", "x", 1))
    request = rpc_pb2.RangeRequest(key=b"a", range_end=b"b", serializable=True)
    assert service.range_(call, request.SerializeToString()) is None
    (answer,) = answers
    return answer


def test_what_was_allowed_is_answered() -> None:
    assert begin(Rig())() == b"header secret"


def test_rights_that_changed_meanwhile_drop_the_answer() -> None:
    rig = Rig()
    answer = begin(rig)
    rig.store.revoke_role("u", "r")
    with pytest.raises(errors.AuthOldRevision):
        answer()


def test_auth_disabled_meanwhile_asks_no_more() -> None:
    rig = Rig()
    answer = begin(rig)
    rig.store.disable()
    assert answer() == b"header secret"
