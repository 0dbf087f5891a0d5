"""Cuts a body into its JSON objects while it arrives: the requests of a stream stand in a row.

Only brackets and strings are looked at; whether an object is good JSON is the decoder's business.
Every byte is looked at once, however the body is cut into pieces.
"""

from __future__ import annotations

import re

from kvserver.services.gateway.reading import BadJson

_OUTSIDE_STRINGS = re.compile(rb'["{}\[\]]')
_INSIDE_STRINGS = re.compile(rb'["\\]')
_SPACE = b" \t\r\n"


class ObjectCutter:
    """Holds at most `bytes_max` of an object that has not ended."""

    __slots__ = ("_buffer", "_bytes_max", "_depth", "_in_string", "_looked")

    def __init__(self, bytes_max: int) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max
        self._depth = 0
        self._in_string = False
        self._looked = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that `data` completes. Raises `BadJson`."""
        self._buffer += data
        found = []
        while (end := self._end_of_object()) is not None:
            found.append(bytes(self._buffer[:end]).strip(_SPACE))
            del self._buffer[:end]
            self._looked = 0
        if len(self._buffer) > self._bytes_max:
            raise BadJson(f"a request is longer than {self._bytes_max} bytes")
        return found

    def end(self) -> None:
        """The body is over. Raises `BadJson` if that is in the middle of an object."""
        if self._buffer.strip(_SPACE):
            raise BadJson("unexpected end of the JSON")

    def _end_of_object(self) -> int | None:
        buffer = self._buffer
        while True:
            pattern = _INSIDE_STRINGS if self._in_string else _OUTSIDE_STRINGS
            match = pattern.search(buffer, self._looked)
            if match is None:
                self._looked = max(self._looked, len(buffer))
                return None
            character = match[0]
            self._looked = match.end()
            if character == b"\\":
                self._looked += 1  # whatever it escapes ends no string
            elif character == b'"':
                self._in_string = not self._in_string
            elif character in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth <= 0:
                    self._depth = 0
                    return match.end()
