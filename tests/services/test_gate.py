"""What a call's metadata and the member's state say before any handler does (spec/wire-api.md §3.1,
§3.4)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kvserver import errors
from kvserver.services.gate import Gate


def member(*, has_leader: bool = True, is_learner: bool = False) -> Any:
    return SimpleNamespace(has_leader=has_leader, is_learner=is_learner)


def answer(gate: Gate, *, learner_ok: bool = False, **metadata: str) -> bytes | None:
    fields = {name.replace("_", "-"): value for name, value in metadata.items()}
    call: Any = SimpleNamespace(metadata=fields)
    return gate.unary(lambda call, body: b"ok", learner_ok=learner_ok)(call, b"")


def test_only_those_who_ask_for_a_leader_are_refused_without_one() -> None:
    gate = Gate(member(has_leader=False))
    with pytest.raises(errors.NoLeader):
        answer(gate, hasleader="true")
    for value in ("True", "1", "false", ""):
        assert answer(gate, hasleader=value) == b"ok"
    assert answer(Gate(member()), hasleader="true") == b"ok"


def test_versions_of_clients_are_counted_and_decide_nothing() -> None:
    gate = Gate(member())
    for version in ("3.6", "3.6", "9.9", "nonsense"):
        assert answer(gate, client_api_version=version) == b"ok"
    assert answer(gate) == b"ok"
    assert set(gate.client_requests()) == {
        ("unary", "3.6", 2),
        ("unary", "9.9", 1),
        ("unary", "nonsense", 1),
        ("unary", "unknown", 1),
    }
    with pytest.raises(errors.InvalidClientAPIVersion):
        answer(gate, client_api_version="\udcff")  # as the transport keeps what is no UTF-8


def test_a_learner_answers_what_it_may() -> None:
    gate = Gate(member(is_learner=True))
    with pytest.raises(errors.NotSupportedForLearner):
        answer(gate)
    assert answer(gate, learner_ok=True) == b"ok"
