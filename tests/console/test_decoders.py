"""Decoders and what may be edited (console.md §3 traps 3 and 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.keys.decoders import (
    SHOWN_BYTES_MAX,
    decode_hex,
    decode_json,
    decode_text,
    editable_text,
    fitting,
    submitted_bytes,
    why_not_editable,
)


def form_round_trip(text: str) -> bytes:
    """What a browser makes of a text area: line ends become CRLF (HTML, form submission)."""
    return submitted_bytes(text.replace("\n", "\r\n"))


@given(st.one_of(st.binary(max_size=50), st.text(max_size=50).map(str.encode)))
def test_what_may_be_edited_comes_back_byte_for_byte(value: bytes) -> None:
    text = editable_text(value)
    if text is not None:
        assert form_round_trip(text) == value


@pytest.mark.parametrize(
    ("value", "why"),
    [(b"a\xff", "byte 1 is not UTF-8"), (b"a\0b", "NUL"), (b"a\r\nb", "carriage return")],
)
def test_other_values_are_refused_with_the_reason(value: bytes, why: str) -> None:
    assert editable_text(value) is None
    assert why in why_not_editable(value)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b'{"a": 1}', ["json", "text", "hex"]),
        (b" [1]", ["json", "text", "hex"]),
        (b"42", ["text", "hex"]),
        (b"{broken", ["text", "hex"]),
        (b"\x00\x01", ["hex"]),
        (b"", ["text", "hex"]),
    ],
)
def test_the_most_telling_decoder_wins(value: bytes, names: list[str]) -> None:
    assert [decoder.name for decoder in fitting(value)] == names


def test_json_keeps_every_digit_and_every_member() -> None:
    value = b'{"id":9223372036854775807123,"rate":1.50,"id":1e5}'
    assert decode_json(value).text == (
        '{\n  "id": 9223372036854775807123,\n  "rate": 1.50,\n  "id": 1e5\n}'
    )


def test_json_is_escaped_by_the_highlighter() -> None:
    html = decode_json(b'["<script>alert(1)</script>"]').html
    assert html is not None
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_json_too_deep_to_print_is_shown_as_text() -> None:
    value = b"[" * 900 + b"]" * 900
    assert decode_json(value).text.startswith("[")


def test_hex() -> None:
    assert decode_hex(bytes(range(65, 82))).text.splitlines() == [
        "00000000  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP",
        "00000010  51                                                Q",
    ]


def test_a_long_value_is_cut_and_says_so() -> None:
    decoded = decode_text(b"x" * (SHOWN_BYTES_MAX + 10))
    assert decoded.is_cut
    assert (decoded.shown, decoded.size) == (SHOWN_BYTES_MAX, SHOWN_BYTES_MAX + 10)


def test_nothing_in_a_value_decides_how_the_page_reads() -> None:
    """Bidirectional overrides and controls are shown, not obeyed; a diff would lie otherwise."""
    assert decode_text("a\u202eb\x1b[0m\tc".encode()).text == "a\\u202eb\\u001b[0m\tc"
    assert "\u202e" not in decode_json('["\u202e"]'.encode()).text
