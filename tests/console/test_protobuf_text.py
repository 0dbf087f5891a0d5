"""Protobuf and Kubernetes values made readable without a schema, and YAML told from text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.keys.decoders import DECODERS, fitting
from console.keys.protobuf_text import (
    NoMessage,
    fields_of,
    is_message,
    kubernetes_text,
    message_text,
)
from kvserver.proto import kv_pb2, rpc_pb2
from tests.console.conftest import SLOW_MACHINE


def field(number: int, data: bytes) -> bytes:
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


META = field(1, b"web-7f9") + field(3, b"shop") + field(5, b"aa-bb") + b"\x40\x05"
POD = field(1, META) + field(2, field(1, b"nginx:1.27") + b"\x10\x50")
UNKNOWN = field(1, field(1, b"v1") + field(2, b"Pod")) + field(2, POD) + field(4, b"")
ENVELOPE = b"k8s\x00" + UNKNOWN


def test_a_kubernetes_object_is_named_and_its_inside_read() -> None:
    assert next(decoder.name for decoder in fitting(ENVELOPE)) == "kubernetes"
    text = kubernetes_text(ENVELOPE)
    assert text.startswith("apiVersion: v1\nkind: Pod\n")
    for said in ("name: web-7f9", "namespace: shop", "uid: aa-bb", '1: "nginx:1.27"', "2: 80"):
        assert said in text


@pytest.mark.parametrize("value", [b"k8s\x00", b"k8s\x00\xff", b"k8s\x00" + field(9, b"x"), b"k8s"])
def test_what_only_begins_like_it_is_not_taken_for_it(value: bytes) -> None:
    assert "kubernetes" not in [decoder.name for decoder in fitting(value)]


def test_a_message_is_read_by_number_with_every_digit() -> None:
    """Trap 3: 64-bit numbers are text, every digit of them."""
    message = rpc_pb2.TxnRequest(
        success=[
            rpc_pb2.RequestOp(
                request_put=rpc_pb2.PutRequest(key=b"\xff\x00", value=b"text", lease=2**63 - 1)
            )
        ]
    ).SerializeToString()
    text = message_text(message)
    assert "9223372036854775807" in text
    assert "0xff00" in text
    assert '"text"' in text
    assert text.count("{") == text.count("}") == 2
    negative = kv_pb2.KeyValue(key=b"\x80", lease=-5).SerializeToString()
    assert ": -5" in message_text(negative)


def test_plain_text_is_no_message_and_binary_that_ends_early_is_none() -> None:
    assert not is_message(b"\x0a\x03abc".replace(b"\x03", b"\x09")[:4])
    assert not is_message(b"hello")
    assert not is_message(b"")
    assert not is_message(b"\n\x05hello"[:4])
    assert is_message(b"\x0a\x05hello" + b"\x10\x96\x01")
    with pytest.raises(NoMessage):
        fields_of(b"\x08" + b"\xff" * 11)


@settings(deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: b"k8s\x00" + b)))
def test_whatever_the_bytes_every_decoder_that_fits_reads_them(value: bytes) -> None:
    found = fitting(value)
    assert found[-1].name == "hex"
    for decoder in found:
        decoded = decoder.decode(value)
        assert "\x00" not in decoded.text
        assert "\u202e" not in decoded.text


@settings(deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(st.recursive(st.binary(max_size=5), lambda inner: inner.map(lambda b: field(1, b[:100]))))
def test_nested_messages_end(value: bytes) -> None:
    if is_message(value):
        assert message_text(value)


def test_a_message_of_very_many_fields_is_cut() -> None:
    assert not is_message(b"\x08\x80\x01" * 30_000)  # refused, not read for minutes
    deep = b"\xff"
    for _ in range(40):
        deep = field(1, deep[-100:])
    assert message_text(deep).count("{") <= 12


@pytest.mark.parametrize(
    ("value", "is_yaml"),
    [
        (b"a: 1\nb: [x]\n", True),
        (b"- a\n- b\n", True),
        (b"# note\na: &x 1\nb: *x\n", True),
        (b"---\na: 1\n---\nb: 2\n", True),
        (b"a: 1", False),  # one line is as good as text
        (b"just\nsome words\n", False),
        (b'{"a":\n1}', False),  # JSON is JSON
        (b"a: 1\n\tb: [", False),
        (b"a: 1\nb: \xff", False),
        (b"- " * 20_000 + b"\nx", False),
        (b"a: x\n" * 100_000, False),
    ],
)
def test_yaml_is_told_from_text(value: bytes, is_yaml: bool) -> None:
    names = [decoder.name for decoder in fitting(value)]
    assert (names[0] == "yaml") is is_yaml


def test_yaml_keeps_its_comments_and_shows_no_markup() -> None:
    [decoder] = [one for one in DECODERS if one.name == "yaml"]
    value = b"# keep me\na: <script>alert(1)</script>\n"
    decoded = decoder.decode(value)
    assert decoded.html is not None
    assert "# keep me" in decoded.html
    assert "<script>" not in decoded.html
    assert decoded.text.encode() == value
