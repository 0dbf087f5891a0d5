"""The command envelope against live log entries (spec/raft-wire.md §3, §5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvserver.apply.command import HeaderEncoder, Kind, decode_command, encode_command, varint
from kvserver.auth import NOBODY, Identity
from kvserver.errors import FatalError
from kvserver.proto import internal_pb2, rpc_pb2

PUT_ID = 0x8973A207AA4CC104
LIVE = [
    ("220a0a03666f6f1203626172a2060b088482b3d2fac0e8b98901", Kind.PUT),
    ("420c083c108682b3d2fac0e8b909a2060b088782b3d2fac0e8b98901", Kind.LEASE_GRANT),
    ("4a0a088682b3d2fac0e8b909a2060b088882b3d2fac0e8b98901", Kind.LEASE_REVOKE),
    (
        "32180a0c10031a03666f6f3a03626172120812060a0161120162a2060b088982b3d2fac0e8b98901",
        Kind.TXN,
    ),
    ("2a030a0161a2060a0889eab2d2fac0e8e54f", Kind.DELETE_RANGE),
    ("3a020803a2060b088a82b3d2fac0e8b98901", Kind.COMPACTION),
    ("5200a2060b088b82b3d2fac0e8b98901", Kind.ALARM),
    ("a2060a0882d4a5affcc0e8e54fa251070a05332e362e30", Kind.CLUSTER_VERSION_SET),
    ("a2060b088d82b3d2fac0e8b98901824b040a027231", Kind.AUTH_ROLE_ADD),
    ("a2060b089282b3d2fac0e8b98901c23e00", Kind.AUTH_ENABLE),
    (
        "a2060a088beab2d2fac0e8e54fa23f160a0275311a104c63744e424350476a77486859626f53",
        Kind.AUTHENTICATE,
    ),
]


@pytest.mark.parametrize(("data", "kind"), LIVE)
def test_live_entries_decode(data: str, kind: Kind) -> None:
    found, _, request_id, _ = decode_command(bytes.fromhex(data), 7)
    assert found is kind
    assert request_id > 0


def test_a_put_is_spliced_into_exactly_the_live_bytes() -> None:
    request = rpc_pb2.PutRequest(key=b"foo", value=b"bar")
    data = encode_command(Kind.PUT, request.SerializeToString(), HeaderEncoder().encode(PUT_ID))
    assert data.hex() == LIVE[0][0]


def test_who_proposed_is_in_the_header_as_live() -> None:
    """spec/raft-wire.md §3: put k=v by u1 at auth revision 7."""
    live = "22060a016b120176a20610088ceab2d2fac0e8e54f120275311807"
    body = rpc_pb2.PutRequest(key=b"k", value=b"v").SerializeToString()
    _, _, request_id, identity = decode_command(bytes.fromhex(live), 3)
    assert identity == Identity("u1", 7)
    header = HeaderEncoder().encode_with(request_id, identity)
    assert encode_command(Kind.PUT, body, header).hex() == live


def test_long_names_and_nobody_in_the_header() -> None:
    encoder = HeaderEncoder()
    long = Identity("n" * 300, 2**64 - 1)
    for identity in (long, long, NOBODY):
        data = encode_command(Kind.PUT, b"", encoder.encode_with(PUT_ID, identity))
        assert decode_command(data, 1)[2:] == (PUT_ID, identity)


def test_operations_above_the_header_come_after_it() -> None:
    body = bytes.fromhex("0a05332e362e30")
    header = HeaderEncoder().encode(0x4FCBA207F5E96A02)
    data = encode_command(Kind.CLUSTER_VERSION_SET, body, header)
    assert data.startswith(bytes.fromhex("a206")) and data.endswith(body)
    assert decode_command(data, 1)[0] is Kind.CLUSTER_VERSION_SET


@given(st.integers(2**14, 2**64 - 1), st.binary(max_size=20_000))
def test_any_id_and_body_round_trip(request_id: int, value: bytes) -> None:
    request = rpc_pb2.PutRequest(key=b"k", value=value)
    header = HeaderEncoder().encode(request_id)
    data = encode_command(Kind.PUT, request.SerializeToString(), header)
    kind, decoded, found, _ = decode_command(data, 1)
    assert (kind, decoded, found) == (Kind.PUT, request, request_id)
    parsed = internal_pb2.InternalRaftRequest.FromString(data)
    assert parsed.SerializeToString(deterministic=True) == data


def test_the_header_encoder_keeps_no_stale_tail() -> None:
    encoder = HeaderEncoder()
    for request_id in (PUT_ID, PUT_ID + 1, PUT_ID + 2**14, 2**63, PUT_ID):
        header = internal_pb2.InternalRaftRequest.FromString(encoder.encode(request_id)).header
        assert request_id == header.ID


def test_legacy_attributes_are_told_from_commands() -> None:
    """spec/raft-wire.md W7, test case 6."""
    data = bytes.fromhex(
        "0884aabaf9f9c0e8b9890112035055541a0a2f302f76657273696f6e2205332e352e30"
        "2800320038004800500058006000680070007800800100"
    )
    kind, request, _, _ = decode_command(data, 3)
    assert kind is Kind.LEGACY
    assert (request.Method, request.Path, request.Val) == ("PUT", "/0/version", "3.5.0")


def test_an_unknown_operation_stops_the_member_naming_field_and_index() -> None:
    """spec/raft-wire.md W2, test case 8."""
    data = varint(1400 << 3 | 2) + b"\x00" + HeaderEncoder().encode(PUT_ID)
    with pytest.raises(FatalError, match="log entry 42"):
        decode_command(data, 42)


def test_negative_varints_take_ten_bytes() -> None:
    assert varint(-1) == b"\xff" * 9 + b"\x01"
