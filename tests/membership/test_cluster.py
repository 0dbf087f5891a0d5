"""The membership state machine (spec/cluster.md §3, spec/raft-wire.md §4)."""

import json

import pytest

from kvserver import errors
from kvserver.membership.cluster import ADD_LEARNER, ADD_VOTER, REMOVE, UPDATE, Membership
from kvserver.membership.codec import decode_conf_context, encode_conf_context
from kvserver.membership.legacy_image import encode_legacy_image
from kvserver.membership.types import Member
from kvserver.mvcc.backend.memory import MemoryBackend

A = Member(0xA, ("http://a:2380",), "a", ("http://a:2379",))
B = Member(0xB, ("http://b:2380",))
L = Member(0xC, ("http://l:2380",), is_learner=True)


def founded(*members: Member) -> Membership:
    membership = Membership(MemoryBackend())
    for member in members:
        membership.apply_change(ADD_LEARNER if member.is_learner else ADD_VOTER, member)
    return membership


def test_everything_comes_back_from_the_backend() -> None:
    tables = MemoryBackend()
    before = Membership(tables)
    before.apply_change(ADD_VOTER, A)
    before.apply_change(ADD_LEARNER, L)
    before.apply_change(ADD_VOTER, B)
    before.apply_change(REMOVE, B)
    before.set_version("3.7.0")
    after = Membership(tables)
    after.restore()
    assert after.members() == [A, L]
    assert after.is_removed(B.id) and after.removed() == [B.id]
    assert after.version == "3.7.0"


@pytest.mark.parametrize(
    ("kind", "member", "is_promote", "error"),
    [
        (ADD_VOTER, A, False, errors.MemberExist),
        (ADD_VOTER, Member(9, A.peer_urls), False, errors.PeerURLExist),
        (ADD_LEARNER, Member(9, ("http://x:1",), is_learner=True), False, errors.TooManyLearners),
        (ADD_VOTER, Member(9), True, errors.MemberNotFound),
        (ADD_VOTER, A, True, errors.MemberNotLearner),
        (REMOVE, Member(9), False, errors.MemberNotFound),
        (UPDATE, Member(9, ("http://x:1",)), False, errors.MemberNotFound),
        (UPDATE, Member(A.id, L.peer_urls), False, errors.PeerURLExist),
    ],
)
def test_invalid_changes(
    kind: int, member: Member, is_promote: bool, error: type[errors.RequestError]
) -> None:
    with pytest.raises(error):
        founded(A, L).check_change(kind, member, is_promote=is_promote)


def test_a_removed_id_never_returns() -> None:
    membership = founded(A, B)
    membership.apply_change(REMOVE, B)
    with pytest.raises(errors.MemberNotFound):
        membership.check_change(ADD_VOTER, B)


def test_promotion_and_update_keep_the_rest() -> None:
    membership = founded(A, L)
    membership.set_attributes(L.id, "l", ["http://l:2379"])
    membership.apply_change(ADD_VOTER, Member(L.id), is_promote=True)
    membership.apply_change(UPDATE, Member(A.id, ("http://new:2380",)))
    assert membership.get(L.id) == Member(L.id, L.peer_urls, "l", ("http://l:2379",))
    changed = membership.get(A.id)
    assert changed is not None and changed.peer_urls == ("http://new:2380",)
    assert changed.name == "a"


def test_attributes_of_a_stranger_change_nothing() -> None:
    assert not founded(A).set_attributes(0x99, "x", [])


LIVE_CONTEXTS = [
    b'{"id":6401070495345314163,"peerURLs":["http://127.0.0.1:4511"],"name":"m1"}',
    b'{"id":1614606299727683588,"peerURLs":["http://127.0.0.1:4514"],"isLearner":true}',
    b'{"id":1614606299727683588,"peerURLs":null,"isPromote":true}',
]


@pytest.mark.parametrize("context", LIVE_CONTEXTS)
def test_conf_contexts_round_trip_to_the_byte(context: bytes) -> None:
    member, is_promote = decode_conf_context(context)
    urls = None if is_promote else member.peer_urls
    assert encode_conf_context(member, is_promote=is_promote, peer_urls=urls) == context


def test_a_large_id_keeps_all_its_digits() -> None:
    """spec/raft-wire.md test case 10."""
    member, _ = decode_conf_context(b'{"ID":17044188138381922251,"PeerURLs":["http://a:1"]}')
    assert member.id == 17044188138381922251


def test_html_characters_are_escaped_as_go_does() -> None:
    """spec/raft-wire.md test case 11."""
    member = Member(1, ("http://a:1/?x=1&y=<2>",))
    context = encode_conf_context(member)
    assert b"\\u0026y=\\u003c2\\u003e" in context
    assert decode_conf_context(context)[0] == member


def test_the_legacy_image_names_every_member() -> None:
    membership = founded(A, L)
    membership.apply_change(ADD_VOTER, B)
    membership.apply_change(REMOVE, B)
    membership.set_version("3.5.0")
    zero = json.loads(encode_legacy_image(membership))["Root"]["Children"]["0"]["Children"]
    assert set(zero["members"]["Children"]) == {"a", "c"}
    attributes = zero["members"]["Children"]["a"]["Children"]["attributes"]["Value"]
    assert json.loads(attributes) == {"name": "a", "clientURLs": ["http://a:2379"]}
    assert "attributes" not in zero["members"]["Children"]["c"]["Children"]
    assert list(zero["removed_members"]["Children"]) == ["b"]
    assert zero["version"]["Value"] == "3.5.0"
