"""Permissions judged and explained without a server (spec/auth.md §4 "Evaluation").

The model of the auth rules judges key by key, without intervals; the console's arithmetic has to
agree with it, and its explanation with itself.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console.users.demands import (
    NotATransaction,
    checks_whole_watch,
    demands_of,
    demands_of_txn,
    judge,
    would_allow,
)
from console.users.rules import (
    READ,
    RIGHTS,
    WRITE,
    Directory,
    EtcdRole,
    EtcdUser,
    Permission,
    decide,
    readable,
    who_can,
)
from console.users.spans import Span, bounds, shape_fields, shape_of, span_of, union, wire_of
from tests.support.auth_model import AuthModel

BUSY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says how busy the machine is."""

NUMBERS = {"read": 0, "write": 1, "readwrite": 2}

# Few letters and short keys, so that ranges meet, touch and leave gaps.
keys = st.lists(st.sampled_from([b"a", b"b", b"\x00", b"\xff"]), min_size=1, max_size=3).map(
    b"".join
)


@st.composite
def wires(draw: st.DrawFn) -> tuple[bytes, bytes]:
    key = draw(keys)
    end = draw(st.sampled_from(["", "open", "range"]))
    if end == "":
        return key, b""
    if end == "open":
        return key, b"\x00"
    other = draw(keys.filter(lambda other: other > key and other != b"\x00"))
    return key, other


permissions = st.builds(
    lambda kind, wire: Permission(kind, *wire), st.sampled_from(sorted(NUMBERS)), wires()
)
roles = st.lists(st.lists(permissions, max_size=4), min_size=1, max_size=3).map(
    lambda many: [EtcdRole(f"r{i}", tuple(each)) for i, each in enumerate(many)]
)


def model_of(held: list[EtcdRole]) -> AuthModel:
    model = AuthModel()
    model.add_user("u", b"", True)
    for role in held:
        model.add_role(role.name)
        model.grant_role("u", role.name)
        for one in role.permissions:
            model.grant_permission(role.name, NUMBERS[one.kind], one.key, one.range_end)
    return model


def distinct(held: list[EtcdRole]) -> list[EtcdRole]:
    """As the server keeps them: one entry for the same bounds, the last one."""
    return [
        EtcdRole(role.name, tuple({(p.key, p.range_end): p for p in role.permissions}.values()))
        for role in held
    ]


@BUSY
@given(roles, wires(), st.sampled_from(RIGHTS))
def test_it_agrees_with_the_model_that_knows_no_intervals(held, wire, right: str) -> None:
    held = distinct(held)
    expected = model_of(held).may("u", right == WRITE, *wire)
    assert decide(held, right, span_of(*wire)).is_allowed == expected


@BUSY
@given(roles, wires(), st.sampled_from(RIGHTS))
def test_the_pieces_are_the_range_and_each_grant_covers_its_own(held, wire, right: str) -> None:
    span = span_of(*wire)
    decision = decide(held, right, span)
    at: bytes | None = span.start
    for piece in decision.pieces:
        assert piece.span.start == at
        assert not piece.span.is_empty
        at = piece.span.end
        if piece.grant:
            assert piece.grant.permission.span.covers(piece.span)
            assert right in piece.grant.permission.rights
        else:
            given_there = [p for role in held for p in role.permissions if right in p.rights]
            assert not any(one.span.meets(piece.span) for one in given_there)
    assert at == span.end
    assert decision.is_allowed == (not decision.missing)


@BUSY
@given(roles, wires(), st.sampled_from(RIGHTS))
def test_what_is_missing_is_all_that_is_missing(held, wire, right: str) -> None:
    """Granting exactly the missing intervals turns the no into a yes."""
    decision = decide(held, right, span_of(*wire))
    mended = [Permission(right, *wire_of(span)) for span in decision.missing]
    assert decide([*held, EtcdRole("mend", tuple(mended))], right, span_of(*wire)).is_allowed


@BUSY
@given(roles, wires())
def test_the_readable_roots_are_what_may_be_read(held, wire) -> None:
    span = span_of(*wire)
    roots = readable(held)
    assert decide(held, READ, span).is_allowed == any(root.covers(span) for root in roots)
    for one, following in pairwise(roots):
        assert one.end is not None
        assert one.end < following.start


@BUSY
@given(st.lists(wires(), max_size=6), keys)
def test_a_union_holds_the_same_keys(several, key: bytes) -> None:
    spans = [span_of(*wire) for wire in several]
    assert any(key in span for span in union(spans)) == any(key in span for span in spans)


@BUSY
@given(wires())
def test_bounds_and_shapes_say_the_same(wire) -> None:
    span = span_of(*wire)
    assert span_of(*wire_of(span)) == span
    fields = shape_fields(span)
    again = bounds(fields["shape"], fields.get("key", b""), fields.get("end", b""))
    if fields["shape"] != "all":
        assert span_of(*again) == span


@pytest.mark.parametrize(
    ("shape", "key", "end", "wire"),
    [
        ("key", b"/a", b"", (b"/a", b"")),
        ("prefix", b"/a/", b"", (b"/a/", b"/a0")),
        ("prefix", b"a\xff", b"", (b"a\xff", b"b")),
        ("prefix", b"\xff", b"", (b"\xff", b"\x00")),
        ("prefix", b"", b"", (b"\x00", b"\x00")),
        ("from", b"/a", b"", (b"/a", b"\x00")),
        ("range", b"/a", b"/c", (b"/a", b"/c")),
        ("all", b"ignored", b"", (b"\x00", b"\x00")),
    ],
)
def test_each_shape_has_its_bounds(shape: str, key: bytes, end: bytes, wire) -> None:
    assert bounds(shape, key, end) == wire
    assert shape_of(*wire) in {shape, "all", "from"}


@pytest.mark.parametrize(
    ("shape", "key", "end"),
    [
        ("key", b"", b""),
        ("range", b"b", b"a"),
        ("range", b"b", b"b"),
        ("range", b"b", b""),
        ("", b"a", b""),
    ],
)
def test_bounds_that_mean_nothing_are_refused(shape: str, key: bytes, end: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        bounds(shape, key, end)


def role(name: str, *grants: tuple[str, bytes, bytes]) -> EtcdRole:
    return EtcdRole(name, tuple(Permission(*grant) for grant in grants))


def test_neighbours_of_two_roles_decide_together_and_a_gap_is_named() -> None:
    one, other = role("one", ("read", b"a", b"c")), role("other", ("read", b"c", b"e"))
    decision = decide([one, other], READ, Span(b"a", b"e"))  # spec/auth.md case 6
    assert [grant.role for grant in decision.deciding] == ["one", "other"]
    gap = decide([one, role("other", ("read", b"d", b"e"))], READ, Span(b"a", b"e"))
    assert not gap.is_allowed
    assert gap.is_partly
    assert gap.nearest_missing == Span(b"c", b"d")


def test_the_grant_that_reaches_farthest_decides() -> None:
    held = [role("near", ("read", b"a", b"c")), role("far", ("read", b"a", b"e"))]
    decision = decide(held, READ, Span(b"b", b"d"))
    assert [(piece.span, piece.grant and piece.grant.role) for piece in decision.pieces] == [
        (Span(b"b", b"d"), "far")
    ]


def test_write_never_implies_read_and_the_near_miss_is_named() -> None:
    held = [role("w", ("write", b"k", b""))]
    decision = decide(held, READ, span_of(b"k", b""))
    assert not decision.is_allowed
    assert [[grant.role for grant in piece.near] for piece in decision.pieces] == [["w"]]
    wide = decide([*held, role("r", ("read", b"m", b""))], READ, Span(b"k", b"n"))
    assert [[grant.role for grant in piece.near] for piece in wide.pieces] == [["w"], [], []]


def test_root_may_do_everything_without_a_permission() -> None:
    decision = decide([EtcdRole("root")], WRITE, Span(b"\x00", None))
    assert decision.is_allowed
    assert decision.is_root
    assert readable([EtcdRole("root")]) == (Span(b"", None),)


def test_the_value_before_takes_read_too() -> None:
    held = [role("w", ("write", b"k", b""))]
    span = span_of(b"k", b"")  # spec/auth.md case 7
    assert judge(held, demands_of("put", span)).is_allowed
    assert not judge(held, demands_of("put", span, sees_previous=True)).is_allowed
    assert not judge(held, demands_of("delete", span, sees_previous=True)).is_allowed


def test_keys_of_a_lease_protect_it() -> None:
    held = [role("w", ("write", b"mine", b""))]
    span = span_of(b"mine", b"")  # spec/auth.md case 10
    assert judge(held, demands_of("attach", span, lease_keys=[b"mine"])).is_allowed
    answer = judge(held, demands_of("attach", span, lease_keys=[b"mine", b"theirs"]))
    refused = [demand for demand, decision in answer.parts if not decision.is_allowed]
    assert [demand.span for demand in refused] == [span_of(b"theirs", b"")]


def test_both_branches_and_the_compares_of_a_transaction_count() -> None:
    held = [role("r", ("readwrite", b"a", b"b"))]
    assert judge(held, demands_of_txn("compare a1\nput a2\n\ndel --prev-kv a3 a4")).is_allowed
    for foreign in ("compare z", "get z", "put z", "del z"):
        answer = judge(held, demands_of_txn(f"put a1\n{foreign}"))
        assert [decision.is_allowed for _, decision in answer.parts] == [True, False]
    wide = judge(held, demands_of_txn(r"get a \x00"))
    assert wide.parts[0][0].span == Span(b"a", None)


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "frob a", "put", "put a b", "get a b c", "get b a", "get \\", "get a\n" * 65],
)
def test_what_is_no_transaction_says_why(text: str) -> None:
    with pytest.raises(NotATransaction, match=r"."):
        demands_of_txn(text)


def test_roles_that_would_help() -> None:
    held = [role("one", ("read", b"a", b"c"))]
    others = [role("right", ("read", b"c", b"e")), role("wrong", ("write", b"c", b"e"))]
    assert would_allow(held, others, demands_of("read", Span(b"a", b"e"))) == ("right",)


def test_who_can_touch_a_range() -> None:
    directory = Directory(
        users=(
            EtcdUser("root", ("root",)),
            EtcdUser("rita", ("reader",)),
            EtcdUser("wolf", ("writer", "reader")),
            EtcdUser("zoe", ()),
        ),
        roles=(
            role("reader", ("read", b"/app/", b"/app0")),
            role("writer", ("write", b"/app/x", b"")),
            role("elsewhere", ("readwrite", b"/other", b"")),
        ),
    )
    users, roles = who_can(directory, span_of(b"/app/x", b""))
    assert [(one.name, one.reads.is_allowed, one.writes.is_allowed) for one in users] == [
        ("root", True, True),
        ("rita", True, False),
        ("wolf", True, True),
    ]
    assert [one.name for one in roles] == ["reader", "writer"]
    users, _ = who_can(directory, Span(b"/app/", b"/app0"))
    [wolf] = [one for one in users if one.name == "wolf"]
    assert wolf.writes.is_partly


@pytest.mark.parametrize(
    ("version", "whole"),
    [
        *[("3.4.23", False), ("3.5.1", False), ("3.5.33", True), ("3.6.0", False)],
        *[("3.7.0-rc.1", False), ("3.7.1", True), ("3.8.0", True), ("", True), ("who knows", True)],
    ],
)
def test_which_releases_check_a_whole_watch(version: str, whole: bool) -> None:
    """spec/watch.md A2."""
    assert checks_whole_watch(version) == whole
    span = Span(b"a", None)
    [demand] = demands_of("watch", span, watches_whole=whole)
    assert demand.span == (span if whole else span_of(b"a", b""))
