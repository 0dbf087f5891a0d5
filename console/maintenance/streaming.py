"""Files of any size to a browser, in bounded memory: one block is read when the last one is gone.

What ends early is broken off, not ended: with `Content-Length` announced and the rest missing a
browser calls the download failed. `serving/server.py` makes a slow reader slow this down.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

BLOCK_BYTES = 256 * 1024

WENT_AWAY = "the browser went away"


class FileDownload(StreamingHttpResponse):
    """`at_end` is called once, with "" or with why the file did not arrive whole."""

    def __init__(
        self, chunks: Iterator[bytes], size_bytes: int, name: str, at_end: Callable[[str], None]
    ) -> None:
        self._ending = _Once(at_end)
        super().__init__(_blocks(chunks, self._ending), content_type="application/octet-stream")
        self["Content-Length"] = str(size_bytes)
        self["Content-Disposition"] = f'attachment; filename="{name}"'
        self["Content-Security-Policy"] = "default-src 'none'; sandbox"

    def close(self) -> None:
        """Django's, at the end of the response however it came."""
        self._ending(WENT_AWAY)
        super().close()


class _Once:
    """The first end is the end. Thread-safe."""

    def __init__(self, call: Callable[[str], None]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._is_over = False

    def __call__(self, why: str) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        self._call(why)


async def _blocks(chunks: Iterator[bytes], ending: _Once) -> AsyncIterator[bytes]:
    try:
        while block := await asyncio.to_thread(_next_block, chunks):
            yield block
    except Exception as error:
        await sync_to_async(ending)(str(error) or type(error).__name__)
        raise
    await sync_to_async(ending)("")


def _next_block(chunks: Iterator[bytes]) -> bytes:
    block = bytearray()
    while len(block) < BLOCK_BYTES and (chunk := next(chunks, None)) is not None:
        block += chunk
    return bytes(block)
