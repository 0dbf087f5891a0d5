"""Huffman strings of HPACK (RFC 7541 §5.2), a byte per step.

The `hpack` library walks its state table a nibble at a time. Here two of its steps are composed
and remembered the first time a (state, byte) pair is met, which halves the time of the strings
that are new in every request: the deadlines. The memory is bounded by 256 states x 256 bytes.
"""

from __future__ import annotations

from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)


class HuffmanError(ValueError):
    """Not a Huffman string: unknown code, or padding that is not the start of EOS."""


_FAILED = (-1, b"", False)
_steps: dict[int, tuple[int, bytes, bool]] = {}


def _compose(state: int, byte: int) -> tuple[int, bytes, bool]:
    emitted = b""
    flags = 0
    for nibble in (byte >> 4, byte & 0xF):
        state, flags, symbol = HUFFMAN_TABLE[(state << 4) + nibble]
        if flags & HUFFMAN_FAIL:
            return _FAILED
        if flags & HUFFMAN_EMIT_SYMBOL:
            emitted += bytes((symbol,))
    return state, emitted, bool(flags & HUFFMAN_COMPLETE)


def decode(data: bytes) -> bytes:
    steps = _steps
    state = 0
    complete = True
    parts = []
    for byte in data:
        key = (state << 8) | byte
        step = steps.get(key)
        if step is None:
            step = steps[key] = _compose(state, byte)
        state, emitted, complete = step
        if state < 0:
            raise HuffmanError("invalid Huffman code")
        parts.append(emitted)
    if not complete:
        raise HuffmanError("invalid Huffman padding")
    return b"".join(parts)
