"""The old store's JSON image inside a raft snapshot: membership only (spec/raft-wire.md §6).

Members up to 3.5 take the membership of an installed snapshot from here, so it must be exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kvserver.errors import KeydeckError
from kvserver.membership.cluster import Membership
from kvserver.membership.codec import encode_attributes, encode_peer_attributes
from kvserver.membership.ids import format_id
from kvserver.membership.types import Member


@dataclass(frozen=True, slots=True)
class LegacyMembership:
    """What an image tells."""

    members: tuple[Member, ...] = ()
    removed: tuple[int, ...] = ()
    version: str = ""


def encode_legacy_image(membership: Membership) -> bytes:
    """The minimal form that every release from 3.4 on accepts."""
    members = {
        format_id(member.id): _directory(
            f"/0/members/{format_id(member.id)}",
            {
                "raftAttributes": (encode_peer_attributes(member)),
                **({"attributes": encode_attributes(member)} if member.is_started else {}),
            },
        )
        for member in membership.members()
    }
    zero: dict[str, Any] = {"members": _node("/0/members", members)}
    if membership.removed():
        zero["removed_members"] = _directory(
            "/0/removed_members", {format_id(number): "" for number in membership.removed()}
        )
    if membership.version is not None:
        zero["version"] = {"Path": "/0/version", "Value": membership.version}
    root = _node("/", {"0": _node("/0", zero), "1": _node("/1", {})})
    return json.dumps({"Root": root}, separators=(",", ":")).encode()


def _node(path: str, children: dict[str, Any]) -> dict[str, Any]:
    return {"Path": path, "Value": "", "Children": children}


def _directory(path: str, files: dict[str, str]) -> dict[str, Any]:
    return _node(path, {n: {"Path": f"{path}/{n}", "Value": v} for n, v in files.items()})


def decode_legacy_image(image: bytes) -> LegacyMembership:
    """Any release's image. Raises KeydeckError for what is none."""
    try:
        zero = json.loads(image)["Root"]["Children"]["0"]["Children"]
        nodes = zero.get("members", {}).get("Children") or {}
        removed = zero.get("removed_members", {}).get("Children") or {}
        return LegacyMembership(
            tuple(_member(int(number, 16), node["Children"]) for number, node in nodes.items()),
            tuple(int(number, 16) for number in removed),
            str(zero.get("version", {}).get("Value", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeydeckError(f"the snapshot's membership is unreadable: {error!r}") from None


def _member(number: int, files: dict[str, Any]) -> Member:
    raft = json.loads(files["raftAttributes"]["Value"])
    shown = json.loads(files["attributes"]["Value"]) if "attributes" in files else {}
    return Member(
        number,
        tuple(raft.get("peerURLs") or ()),
        str(shown.get("name") or ""),
        tuple(shown.get("clientURLs") or ()),
        bool(raft.get("isLearner")),
    )
