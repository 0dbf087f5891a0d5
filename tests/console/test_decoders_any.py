"""Whatever the bytes: a decoder that says it fits has something to show."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from console.keys.decoders import DECODERS, fitting

ENVELOPE = b"k8s\0"
CUT_OFF = ENVELOPE + b'\n\x09\n\x02v1\x12\x03Pod\x12\x10hello-from-a-pod\x1a\0"\0'
BAD_META = ENVELOPE + b"\n\x02\xff\xff\x12\x00"
NUMBER_META = ENVELOPE + b"\x08\x07"


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: ENVELOPE + data))
@example(CUT_OFF)
@example(BAD_META)
@example(NUMBER_META)
@example(b"[" * 5000)
@example(b"- " * 5000)
@example(b"\x0a" + b"\x7f" * 130)
def test_what_fits_decodes(value: bytes) -> None:
    found = fitting(value)
    assert found[-1] is DECODERS[-1]
    for decoder in found:
        assert isinstance(decoder.decode(value).text, str)
