"""A member as JSON: in the log's conf changes and in the backend (spec/raft-wire.md §4).

Written as Go's encoder does it, because real members compare and parse it: no spaces, a fixed key
order, `<`, `>`, `&`, U+2028 and U+2029 escaped, ids as plain integers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kvserver.membership.types import Member

_GO_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028"}
_GO_ESCAPES["\u2029"] = "\\u2029"


def _dump(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    for char, escape in _GO_ESCAPES.items():
        text = text.replace(char, escape)
    return text.encode()


def encode_conf_context(
    member: Member, *, is_promote: bool = False, peer_urls: Sequence[str] | None = ()
) -> bytes:
    """The context of a conf change; `peer_urls=None` writes null, as a promotion does."""
    urls = None if peer_urls is None else list(peer_urls or member.peer_urls)
    fields: dict[str, Any] = {"id": member.id, "peerURLs": urls}
    if member.is_learner:
        fields["isLearner"] = True
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    if is_promote:
        fields["isPromote"] = True
    return _dump(fields)


def decode_conf_context(context: bytes) -> tuple[Member, bool]:
    """A conf change's member and whether it is a promotion. Raises ValueError."""
    raw = json.loads(context)
    if not isinstance(raw, dict):
        raise ValueError("a conf change's context is no JSON object")
    fields = {key.lower(): value for key, value in raw.items()}
    member = Member(
        id=int(fields["id"]),
        name=str(fields.get("name") or ""),
        peer_urls=tuple(fields.get("peerurls") or ()),
        client_urls=tuple(fields.get("clienturls") or ()),
        is_learner=bool(fields.get("islearner")),
    )
    return member, bool(fields.get("ispromote"))


def encode_member(member: Member) -> bytes:
    """A member's record in the backend's `members` table."""
    return encode_conf_context(member)


def decode_member(record: bytes) -> Member:
    return decode_conf_context(record)[0]


def encode_peer_attributes(member: Member) -> str:
    fields: dict[str, Any] = {"peerURLs": list(member.peer_urls)}
    if member.is_learner:
        fields["isLearner"] = True
    return _dump(fields).decode()


def encode_attributes(member: Member) -> str:
    fields: dict[str, Any] = {}
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    return _dump(fields).decode()


def encode_conf_state(conf_state: Any) -> bytes:
    """The `confState` mark beside the applied index, as JSON."""
    return _dump(
        {
            "voters": list(conf_state.voters),
            "learners": list(conf_state.learners),
            "voters_outgoing": list(conf_state.voters_outgoing),
            "learners_next": list(conf_state.learners_next),
            "auto_leave": bool(conf_state.auto_leave),
        }
    )


def decode_conf_state(record: bytes) -> dict[str, Any]:
    fields = json.loads(record)
    return {
        "voters": tuple(fields.get("voters") or ()),
        "learners": tuple(fields.get("learners") or ()),
        "voters_outgoing": tuple(fields.get("voters_outgoing") or ()),
        "learners_next": tuple(fields.get("learners_next") or ()),
        "auto_leave": bool(fields.get("auto_leave")),
    }
