"""The whole keyspace in order at one revision, in pages of whatever size fits."""

from __future__ import annotations

from collections.abc import Iterator

from console.gateway import wire
from console.gateway.errors import Compacted, TooLarge
from console.gateway.reader import Reader
from console.gateway.records import Key
from console.keys.paging import FROM_NUL, after
from kvserver.proto import rpc_pb2

PAGE_KEYS_MAX = 1_000
PAGE_BYTES_AIM = 4 * 1024 * 1024
"""A page is as many keys as have lately made this many bytes: below what gRPC takes at once, and
little enough to be no burden for a member."""


class Walk:
    """Iterate it: pages of keys with values. `total` counts all keys as of the newest page.

    Where the revision is compacted on the way it goes on at the newest: what is counted then is
    no single picture of the store, which `restarts` tells.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.revision = 0
        self.total = 0
        self.seen = 0
        self.restarts = 0
        self._limit = 100

    def __iter__(self) -> Iterator[list[Key]]:
        start = FROM_NUL
        while True:
            has_values = True
            try:
                answer = self._page(start, keys_only=False)
            except TooLarge:
                if self._limit > 1:
                    self._limit = max(1, self._limit // 4)
                    continue
                has_values = False
                answer = self._page(start, keys_only=True)
            except Compacted:
                self.revision, self.restarts = 0, self.restarts + 1
                continue
            self.revision = self.revision or answer.header.revision
            self.total = self.seen + answer.count
            keys = [wire.key(kv, has_value=has_values) for kv in answer.kvs]
            self.seen += len(keys)
            if keys:
                yield keys
            if not answer.more or not keys:
                return
            start = after(keys[-1].key)
            self._adapt(answer.ByteSize(), len(keys))

    def _adapt(self, size_bytes: int, keys: int) -> None:
        fitting = PAGE_BYTES_AIM * keys // max(1, size_bytes)
        self._limit = max(1, min(PAGE_KEYS_MAX, fitting))

    def _page(self, start: bytes, *, keys_only: bool) -> rpc_pb2.RangeResponse:
        return self._reader._range(
            rpc_pb2.RangeRequest(
                key=start,
                range_end=FROM_NUL,
                limit=self._limit,
                revision=self.revision,
                keys_only=keys_only,
            )
        )
