"""The bytes that releases up to 3.5 propose (spec/raft-wire.md §5, live vectors of 3.5.1)."""

from __future__ import annotations

from kvserver.membership.legacy_requests import needs_legacy, put_attributes, put_version

TAIL = "2800320038004800500058006000680070007800800100"
MEMBER = 0x58D52BB3814A8973


def test_the_bytes_are_etcds() -> None:
    request = put_attributes(MEMBER, "m1", ("http://127.0.0.1:4521",))
    request.ID = 0x8973A2079F2E9501
    assert request.SerializeToString().hex() == (
        "0881aabaf9f9c0e8b9890112035055541a262f302f6d656d626572732f3538643532626233383134613839373"
        "32f617474726962757465732234"
        + b'{"name":"m1","clientURLs":["http://127.0.0.1:4521"]}'.hex()
        + TAIL
    )
    version = put_version("3.5.0")
    version.ID = 0x8973A2079F2E9504
    wanted = "0884aabaf9f9c0e8b9890112035055541a0a2f302f76657273696f6e2205332e352e30" + TAIL
    assert version.SerializeToString().hex() == wanted


def test_only_a_member_of_34_asks_for_them() -> None:
    assert needs_legacy(["3.7.1", "3.4.23", None])
    assert not needs_legacy(["3.7.1", "3.5.1", None])
