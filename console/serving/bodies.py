"""What browsers send, without holding it in memory: daphne queues a whole body as messages.

Here the body stays in the file that twisted has written it to, and Django reads that file. A body
that is larger than its address allows is not kept at all: it is read to its end, so that the
browser hears why it was refused.
"""

from __future__ import annotations

import io
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings

BODY_BYTES_MAX = 80 * 1024 * 1024
"""Of every form: an imported file may have 64 MiB."""

UPLOADS = b"/maintenance/snapshots/upload"
FORM_BYTES = 64 * 1024
"""What a form adds to the file in it."""


def bytes_max(path: bytes) -> int:
    is_upload = path.partition(b"?")[0].endswith(UPLOADS)
    return settings.UPLOAD_BYTES_MAX + FORM_BYTES if is_upload else BODY_BYTES_MAX


class Discarded(io.RawIOBase):
    """Takes everything and keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0


class BodyRequest(WebRequest):
    """A request whose body is a file. `received_bytes` counts what came, kept or not."""

    received_bytes = 0
    kept_body: Any = None

    def handleContentChunk(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes > bytes_max(self.channel._path) and not self.is_refused:
            self.content.close()
            self.content = Discarded()
        super().handleContentChunk(data)

    @property
    def is_refused(self) -> bool:
        return isinstance(self.content, Discarded)

    def process(self) -> None:
        if self.is_refused:
            words = f"At most {bytes_max(self.uri) // 2**20} MiB can be sent here."
            self.basic_error(413, b"Content Too Large", words)
            return
        self.kept_body, self.content = self.content, io.BytesIO()
        super().process()


class BodyFactory(HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = BodyRequest
        return protocol
