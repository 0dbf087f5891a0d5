"""The header decoder against the `hpack` library: same lists, same tables, whatever is cached."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.transport import huffman
from kvserver.transport.errors import ConnectionFault
from kvserver.transport.grpc import parse_timeout
from kvserver.transport.head import RequestHead
from kvserver.transport.hpack_cache import BLOCKS_MAX, HEADS_MAX, HeaderDecoder


class Built:
    """A head factory that keeps the lists it was asked to judge."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fields: object) -> RequestHead:
        self.count += 1
        return RequestHead("grpc", list(fields))  # type: ignore[call-overload]


BASE = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/etcdserverpb.KV/Put"),
    (":authority", "127.0.0.1:2379"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.72.2"),
    ("te", "trailers"),
]


def raw(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


def test_a_block_that_touches_no_table_is_decoded_once() -> None:
    built = Built()
    decoder = HeaderDecoder(built)
    encoder = hpack.Encoder()
    first = encoder.encode(BASE)
    head, timeout = decoder.decode(first)
    assert (head.fields, timeout) == (raw(BASE), None)
    indexed = encoder.encode(BASE)
    again, _ = decoder.decode(indexed)
    assert again.fields == raw(BASE)
    assert decoder.decode(indexed)[0] is again
    assert built.count == 1  # an inserted literal has the number of its entry


def test_fresh_deadlines_share_one_head() -> None:
    """Hundreds of inserted timeouts push everything out of the table again and again."""
    built = Built()
    decoder = HeaderDecoder(built)
    encoder = hpack.Encoder()
    for number in range(1000):
        text = f"{4_000_000 + number}u"
        fields = [*BASE, ("grpc-timeout", text), ("client-api-version", "3.6")]
        head, timeout = decoder.decode(encoder.encode(fields))
        assert head.fields == raw([*BASE, ("client-api-version", "3.6")])
        assert timeout == parse_timeout(text.encode())
    assert built.count < 100


def test_an_indexed_deadline_is_one_too() -> None:
    decoder = HeaderDecoder(Built())
    encoder = hpack.Encoder()
    for _ in range(4):
        head, timeout = decoder.decode(encoder.encode([*BASE, ("grpc-timeout", "5S")]))
        assert (head.fields, timeout) == (raw(BASE), 5.0)


NAMES = st.sampled_from(["a", "token", "grpc-timeout", "x-y", ":path", "accept", "n" * 200])
VALUES = st.sampled_from(["", "1S", "2S", "trailers", "v50", "w700", "é\t~", "z4100"])
# Written short, because hypothesis prints what it draws.
LONG = {"v50": "v" * 50, "w700": "w" * 700, "z4100": "z" * 4100}
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(NAMES, VALUES, st.booleans()), min_size=1, max_size=8),
        st.booleans(),
        st.sampled_from([None, None, None, 0, 50, 300, 4096]),
    ),
    max_size=25,
)


@given(STEPS)
@settings(deadline=None)
def test_same_as_the_library(
    steps: list[tuple[list[tuple[str, str, bool]], bool, int | None]],
) -> None:
    decoder = HeaderDecoder(Built())
    encoder = hpack.Encoder()
    library = hpack.Decoder(max_header_list_size=1 << 20)
    for fields, use_huffman, table_size in steps:
        if table_size is not None:
            encoder.header_table_size = table_size
        drawn = [(name, LONG.get(value, value), never) for name, value, never in fields]
        block = encoder.encode(drawn, huffman=use_huffman)
        expected = library.decode(block, raw=True)
        head, timeout = decoder.decode(block)
        assert head.fields == [field for field in expected if field[0] != b"grpc-timeout"]
        timeouts = [value for name, value in expected if name == b"grpc-timeout"]
        # Of several, which no client sends, any one counts.
        assert timeout in ([parse_timeout(text) for text in timeouts] or [None])


@given(st.lists(st.binary(max_size=40), max_size=20))
@settings(deadline=None)
def test_any_bytes_are_a_list_or_a_fault(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(Built())
    library = hpack.Decoder(max_header_list_size=1 << 30)
    for block in blocks:
        try:
            head, _ = decoder.decode(block)
        except ConnectionFault as fault:
            assert fault.code == 9
            break
        expected = library.decode(block, raw=True)
        assert head.fields == [field for field in expected if field[0] != b"grpc-timeout"]


def test_caches_are_bounded() -> None:
    decoder = HeaderDecoder(Built())
    for number in range(3000):
        encoder = hpack.Encoder()
        decoder.decode(encoder.encode([("token", str(number), True)]))
    assert len(decoder._blocks) <= BLOCKS_MAX
    assert len(decoder._heads) <= HEADS_MAX


def test_evicted_fields_are_freed() -> None:
    decoder = HeaderDecoder(Built())
    encoder = hpack.Encoder()
    for number in range(1000):
        decoder.decode(encoder.encode([("token", f"{number:0100}")]))
    assert len(decoder._fields) < 61 + 4096 // 132 + 2


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_huffman_reverses_the_library(data: bytes) -> None:
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    assert huffman.decode(encoder.encode(data)) == data


@given(st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_huffman_refuses_what_the_library_refuses(data: bytes) -> None:
    from hpack.exceptions import HPACKDecodingError
    from hpack.huffman_table import decode_huffman

    try:
        expected = decode_huffman(data)
    except HPACKDecodingError:
        with pytest.raises(huffman.HuffmanError):
            huffman.decode(data)
    else:
        assert huffman.decode(data) == expected
