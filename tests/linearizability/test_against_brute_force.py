"""On histories of a few calls, true or spoilt, the verdict is that of trying every order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability.brute_force import is_explained, run
from tests.linearizability.calls import delete, get, local, put, swap
from tests.support.linearizability import Operation, check
from tests.support.model import Model

KEYS = st.sampled_from([b"a", b"b"])
VALUES = st.sampled_from([b"1", b"2"])
REQUESTS = st.one_of(
    st.builds(put, KEYS, VALUES),
    st.builds(put, KEYS, VALUES),
    st.builds(delete, KEYS),
    st.builds(swap, KEYS, st.integers(0, 3), VALUES),
    st.builds(get, KEYS),
    st.just(get(b"a", b"c")),
    st.builds(local, KEYS),
)
CALLS_MAX = 6


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Calls that took effect one by one somewhere between sending and answer; some are spoilt."""
    model = Model()
    history = []
    for moment in range(draw(st.integers(2, CALLS_MAX))):
        request = draw(REQUESTS)
        invoked = moment - draw(st.integers(0, 4)) - 0.25
        completed = moment + draw(st.integers(0, 4)) + 0.25
        member = draw(st.sampled_from(["m0", "m1"]))
        fate = draw(st.sampled_from(["told", "told", "told", "done", "lost", "refused"]))
        if fate in ("lost", "refused"):
            is_refused = fate == "refused" and draw(st.booleans())
            history.append(_of(request, member, invoked, is_refused=is_refused))
            continue
        answer = run(model, request)
        answer.header.revision = model.revision
        if fate == "done":
            history.append(_of(request, member, invoked))
            continue
        if draw(st.integers(0, 5)) == 0:
            _spoil(draw, answer)
        history.append(_of(request, member, invoked, completed, answer))
    return history


def _of(
    request: Any,
    member: str,
    invoked: float,
    completed: float | None = None,
    answer: Any = None,
    is_refused: bool = False,
) -> Operation:
    return Operation("c", member, request, invoked, completed, answer, is_refused)


def _spoil(draw: st.DrawFn, answer: Any) -> None:
    kvs = getattr(answer, "kvs", [])
    if kvs and draw(st.booleans()):
        kvs[0].value = draw(VALUES)
    else:
        answer.header.revision = max(1, answer.header.revision + draw(st.sampled_from([-1, 1])))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(histories())
def test_the_verdict_is_that_of_trying_every_order(history: list[Operation]) -> None:
    expected = is_explained(history)
    report = check(history)
    assert not report.is_undecided
    assert report.is_linearizable == expected, str(report)
    if expected:
        again = check(history, events=report.events)
        assert again.is_linearizable, str(again)
