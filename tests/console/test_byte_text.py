r"""Bytes as text: what is seen is what is meant (console.md §3 trap 4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.keys.byte_text import is_plain, parse, show


@given(st.binary(max_size=60))
def test_every_byte_string_comes_back(data: bytes) -> None:
    assert parse(show(data)) == data


@given(st.text(max_size=40).map(str.encode))
def test_every_text_comes_back(data: bytes) -> None:
    assert parse(show(data)) == data


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_two_byte_strings_never_look_alike(one: bytes, other: bytes) -> None:
    assert (show(one) == show(other)) == (one == other)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"/app/config", "/app/config"),
        ("/größe/日本".encode(), "/größe/日本"),
        (b"\x00\xff\x1f", r"\x00\xff\x1f"),
        (b"a\\b", r"a\\b"),
        (b"line\nnext", r"line\x0anext"),
        (b" edge ", r"\x20edge\x20"),
        ("\u202etxt.exe".encode(), r"\xe2\x80\xaetxt.exe"),  # right-to-left override
        ("zero\u200bwidth".encode(), r"zero\xe2\x80\x8bwidth"),
        (b"caf\xc3", r"caf\xc3"),  # a character cut in two
        (b"", ""),
    ],
)
def test_writing(data: bytes, text: str) -> None:
    assert show(data) == text
    assert parse(text) == data


@pytest.mark.parametrize("text", ["\\", r"\x", r"\xg0", r"\n", r"end\\\ "])
def test_a_backslash_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        parse(text)


def test_plain_is_text_shown_as_it_is() -> None:
    assert is_plain("ü".encode())
    assert not is_plain(b"\xff")
    assert not is_plain(b"a\\")
