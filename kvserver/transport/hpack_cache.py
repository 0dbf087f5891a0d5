"""Decodes request header blocks (RFC 7541), remembering what blocks and field lists meant.

Every field has a number that never changes its meaning during a connection: 1-61 for the static
table, and 62 + n for the n-th entry ever inserted into the dynamic table. HPACK's own indexes
shift with each insertion; these numbers do not. So there are two caches, each valid by
construction:

- a field list, written as the tuple of its numbers (literals that are not inserted stand for
  themselves), always means the same `RequestHead`: never invalidated, only bounded;
- a block that did not change the table means the same until the table changes.

`grpc-timeout` is kept apart from the list, because clients with deadlines send a new one with
every call, most of them inserting it: such a call costs one walk over a few bytes and one lookup.

Not here: what a field list means (`head.py`). Owner: the connection.
"""

from __future__ import annotations

from hpack.table import HeaderTable

from kvserver.transport import huffman
from kvserver.transport.errors import COMPRESSION_ERROR, ConnectionFault
from kvserver.transport.grpc import parse_timeout
from kvserver.transport.head import HeadBuilder, RequestHead

Field = tuple[bytes, bytes]
Decoded = tuple[RequestHead, float | None]

TABLE_BYTES = 4096
"""The decoder's table; the protocol's default, so it is never announced."""
FIELD_OVERHEAD_BYTES = 32
BLOCKS_MAX = 128
BLOCK_BYTES_MAX = 4096
"""Longer blocks are decoded each time, so that the caches stay below a megabyte or two."""
HEADS_MAX = 256
_STATIC_LENGTH = 61
_FIRST_DYNAMIC = _STATIC_LENGTH + 1
_TIMEOUT = b"grpc-timeout"
_VARINT_SHIFT_MAX = 21


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """The continuation bytes of an integer whose prefix was full (RFC 7541 §5.1)."""
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _VARINT_SHIFT_MAX:
            raise ConnectionFault(COMPRESSION_ERROR, "integer too long in header block")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    first = block[position]
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise ConnectionFault(COMPRESSION_ERROR, "string runs past the header block")
    data = block[position:end]
    return (huffman.decode(data) if first & 0x80 else data), end


class HeaderDecoder:
    __slots__ = (
        "_blocks",
        "_build",
        "_bytes",
        "_bytes_max",
        "_fields",
        "_heads",
        "_next",
        "_oldest",
        "_swept",
    )

    def __init__(self, build: HeadBuilder) -> None:
        self._build = build
        self._fields: dict[int, Field] = dict(enumerate(HeaderTable.STATIC_TABLE, 1))
        self._next = _FIRST_DYNAMIC
        self._oldest = _FIRST_DYNAMIC
        # Entries evicted by a block stay readable until its list is resolved.
        self._swept = _FIRST_DYNAMIC
        self._bytes = 0
        self._bytes_max = TABLE_BYTES
        self._blocks: dict[bytes, Decoded] = {}
        self._heads: dict[tuple[int | Field, ...], Decoded] = {}

    def decode(self, block: bytes) -> Decoded:
        """The head and the deadline in seconds, if any. Raises ConnectionFault."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        version = self._next
        size_max = self._bytes_max
        try:
            numbers, timeout = self._walk(block)
        except (IndexError, KeyError, huffman.HuffmanError) as error:
            raise ConnectionFault(COMPRESSION_ERROR, "malformed header block") from error
        decoded = self._resolve(tuple(numbers), len(block) <= BLOCK_BYTES_MAX)
        if timeout is not None:
            decoded = (decoded[0], parse_timeout(timeout))
        if version != self._next or size_max != self._bytes_max:
            self._blocks.clear()
            for number in range(self._swept, self._oldest):
                del self._fields[number]
            self._swept = self._oldest
        elif len(block) <= BLOCK_BYTES_MAX:
            if len(self._blocks) >= BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = decoded
        return decoded

    def _walk(self, block: bytes) -> tuple[list[int | Field], bytes | None]:
        # One loop instead of a method per representation: with a fresh deadline in each call this
        # runs for every call, and saves about 2 us of it.
        numbers: list[int | Field] = []
        timeout = None
        position = 0
        size = len(block)
        append = numbers.append
        base = self._next + _STATIC_LENGTH
        oldest = self._oldest
        while position < size:
            first = block[position]
            position += 1
            if first >= 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                if index > 61:
                    index = base - index
                    if index < oldest:
                        raise KeyError(index)
                elif index == 0:
                    raise KeyError(index)
                append(index)
                continue
            if first >= 0x40:
                index, prefix = first & 0x3F, 0x3F
            elif first < 0x20:
                index, prefix = first & 0x0F, 0x0F
            else:
                position = self._resize(block, position, first & 0x1F, bool(numbers or timeout))
                oldest = self._oldest
                continue
            if index == prefix:
                index, position = _integer(block, position, prefix)
            if index > 61:
                index = base - index
                if index < oldest:
                    raise KeyError(index)
                name = self._fields[index][0]
            elif index:
                name = self._fields[index][0]
            else:
                name, position = _string(block, position)
            value, position = _string(block, position)
            number: int | Field = (name, value)
            if first >= 0x40:
                number = self._insert(name, value)
                base += 1
                oldest = self._oldest
            if name == _TIMEOUT:
                timeout = value
            else:
                append(number)
        return numbers, timeout

    def _insert(self, name: bytes, value: bytes) -> int | Field:
        size = len(name) + len(value) + FIELD_OVERHEAD_BYTES
        self._bytes += size
        number = self._next
        self._fields[number] = (name, value)
        self._next = number + 1
        if self._bytes > self._bytes_max:
            self._evict()
        return number

    def _evict(self) -> None:
        while self._bytes > self._bytes_max:
            name, value = self._fields[self._oldest]
            self._oldest += 1
            self._bytes -= len(name) + len(value) + FIELD_OVERHEAD_BYTES

    def _resize(self, block: bytes, position: int, size: int, late: bool) -> int:
        if size == 0x1F:
            size, position = _integer(block, position, 0x1F)
        if late or size > TABLE_BYTES:
            raise ConnectionFault(COMPRESSION_ERROR, "header table update out of place")
        self._bytes_max = size
        self._evict()
        return position

    def _resolve(self, numbers: tuple[int | Field, ...], remember: bool) -> Decoded:
        known = self._heads.get(numbers)
        if known is not None:
            return known
        fields = []
        others = []
        timeout = None
        for number in numbers:
            field = self._fields[number] if isinstance(number, int) else number
            if field[0] == _TIMEOUT:
                timeout = parse_timeout(field[1])
            else:
                fields.append(field)
                others.append(number)
        if timeout is None:
            decoded: Decoded = (self._build(fields), None)
        else:
            decoded = (self._resolve(tuple(others), remember)[0], timeout)
        if remember:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[numbers] = decoded
        return decoded
