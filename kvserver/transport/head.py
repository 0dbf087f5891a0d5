"""What a request's header list asks for, decided once per distinct list.

A `RequestHead` is immutable and shared by every call that sends the same fields; everything that
can be judged from headers alone is judged here: well-formedness (RFC 9113 §8.2-§8.3), the method,
the content type, the encoding. A head is exactly one of four things: a gRPC call of a known
method, a refusal (a complete response header block), a malformed request (RST_STREAM), or, where
plain HTTP is served over HTTP/2, an HTTP request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from kvserver.transport import header_blocks
from kvserver.transport.errors import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from kvserver.transport.grpc import ENCODINGS
from kvserver.transport.method import Method

Field = tuple[bytes, bytes]
HeadBuilder = Callable[[Sequence[Field]], "RequestHead"]
MetadataValue = str | bytes

_FIELD_OVERHEAD_BYTES = 32
_CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_PSEUDO_FIELDS = frozenset((b":method", b":scheme", b":path", b":authority"))
_TRANSPORT_FIELDS = frozenset((b"te", b"grpc-encoding", b"grpc-accept-encoding", b":method"))
_ACCEPTED = (b"grpc-accept-encoding", b",".join(ENCODINGS))


class RequestHead:
    __slots__ = (
        "_metadata",
        "content_length",
        "encoding",
        "fields",
        "kind",
        "method",
        "note",
        "refusal",
    )

    def __init__(
        self,
        kind: Literal["grpc", "refused", "malformed", "http"],
        fields: Sequence[Field] = (),
        method: Method | None = None,
        refusal: bytes = b"",
        encoding: bytes = b"identity",
        content_length: int | None = None,
    ) -> None:
        self.kind = kind
        self.fields = fields
        self.method = method
        self.refusal = refusal
        self.encoding = encoding
        self.content_length = content_length
        self._metadata: Mapping[str, MetadataValue] | None = None
        self.note: Any = None
        """For whoever serves: what it concluded from these fields, so that it need not again."""

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """Names to values, the first of each name; do not change it: it is shared."""
        if self._metadata is None:
            self._metadata = _metadata(self.fields)
        return self._metadata


def _metadata(fields: Sequence[Field]) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    for name, value in fields:
        if name in _TRANSPORT_FIELDS:
            continue
        key = name.decode("ascii", "replace")
        if key.endswith("-bin"):
            # Several values of one name may come joined; the first counts.
            binary = value.split(b",", 1)[0]
            padded = binary + b"=" * (-len(binary) % 4)
            try:
                metadata.setdefault(key, base64.b64decode(padded))
            except binascii.Error:
                continue
        else:
            metadata.setdefault(key, value.decode("utf-8", "surrogateescape"))
    return metadata


def list_bytes(fields: Sequence[Field]) -> int:
    return sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in fields)


def _pseudo_fields(fields: Sequence[Field]) -> dict[bytes, bytes] | None:
    """The request's pseudo fields, or None for a malformed list."""
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO_FIELDS:
                return None
            pseudo[name] = value
            continue
        regular = True
        if not name or name != name.lower() or name in _CONNECTION_FIELDS:
            return None
        if name == b"te" and value != b"trailers":
            return None
        if any(byte in value for byte in b"\x00\r\n"):
            return None
    if not pseudo.get(b":path") or b":method" not in pseudo or b":scheme" not in pseudo:
        return None
    return pseudo


def _first(fields: Sequence[Field], wanted: bytes, default: bytes = b"") -> bytes:
    return next((value for name, value in fields if name == wanted), default)


def is_grpc(content_type: bytes) -> bool:
    return content_type[:16].lower() == b"application/grpc" and content_type[16:17] in b"+;"


class HeadFactory:
    """Builds heads for the connections of one listener."""

    __slots__ = ("_list_bytes_max", "_methods", "_serve_grpc", "_serve_http", "_services")

    def __init__(
        self,
        methods: Mapping[str, Method],
        list_bytes_max: int,
        serve_grpc: bool = True,
        serve_http: bool = False,
    ) -> None:
        self._methods = methods
        self._services = {path.rpartition("/")[0] for path in methods}
        self._list_bytes_max = list_bytes_max
        self._serve_grpc = serve_grpc
        self._serve_http = serve_http

    def __call__(self, fields: Sequence[Field]) -> RequestHead:
        size = list_bytes(fields)
        if size > self._list_bytes_max:
            return _refused(
                RESOURCE_EXHAUSTED,
                f"header list larger than max ({size} vs. {self._list_bytes_max})",
                status=431,
            )
        pseudo = _pseudo_fields(fields)
        length = _first(fields, b"content-length")
        if pseudo is None or (length and not length.isdigit()):
            return RequestHead("malformed")
        content_length = int(length) if length else None
        content_type = _first(fields, b"content-type")
        if self._serve_http and not (self._serve_grpc and is_grpc(content_type)):
            return RequestHead("http", fields, content_length=content_length)
        return self._grpc(fields, pseudo, content_type, content_length)

    def _grpc(
        self,
        fields: Sequence[Field],
        pseudo: Mapping[bytes, bytes],
        content_type: bytes,
        content_length: int | None,
    ) -> RequestHead:
        if pseudo[b":method"] != b"POST":
            return _refused(INTERNAL, "the :method of a gRPC call is POST", status=405)
        if not is_grpc(content_type):
            return _refused(
                INTERNAL,
                f"content-type {content_type.decode('latin-1')!r} is not gRPC",
                status=415,
            )
        path = pseudo[b":path"].decode("utf-8", "replace")
        method = self._methods.get(path)
        if method is None or not self._serve_grpc:
            return _refused(UNIMPLEMENTED, self._unknown(path))
        encoding = _first(fields, b"grpc-encoding", b"identity")
        if encoding not in ENCODINGS:
            text = encoding.decode("latin-1")
            return _refused(
                UNIMPLEMENTED,
                f'grpc: Decompressor is not installed for grpc-encoding "{text}"',
                extra=[_ACCEPTED],
            )
        return RequestHead("grpc", fields, method, b"", encoding, content_length)

    def _unknown(self, path: str) -> str:
        """The texts of spec/wire-api.md §1.1."""
        service, _, name = path.rpartition("/")
        if not path.startswith("/") or not service:
            return f'malformed method name: "{path}"'
        if service in self._services and self._serve_grpc:
            return f"unknown method {name} for service {service[1:]}"
        return f"unknown service {service[1:]}"


def _refused(
    code: int, message: str, status: int = 200, extra: Sequence[Field] = ()
) -> RequestHead:
    refusal = header_blocks.grpc_trailers_only(code, message, status, extra)
    return RequestHead("refused", refusal=refusal)
