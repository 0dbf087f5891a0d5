"""Requests as text for the log, without what must never be there: values become their sizes,
passwords and everything else of users and roles stay out (spec/observability.md §6).
"""

from __future__ import annotations

from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from kvserver.proto import rpc_pb2

TEXT_CHARACTERS_MAX = 2000
"""Of one request: a transaction may hold a hundred keys of a kilobyte."""
UNTOLD = ("Auth", "InternalAuth", "Authenticate")
"""Requests whose type begins so hold names at best and passwords at worst."""


def redacted(request: Message) -> str:
    """One line."""
    if type(request).__name__.startswith(UNTOLD):
        return ""
    text = _text(request)
    if len(text) > TEXT_CHARACTERS_MAX:
        text = text[:TEXT_CHARACTERS_MAX] + "…"
    return text


def _text(request: Message) -> str:
    if isinstance(request, rpc_pb2.PutRequest):
        return _without_value(request, "value")
    if isinstance(request, rpc_pb2.Compare):
        return _without_value(request, "value")
    if isinstance(request, rpc_pb2.TxnRequest):
        parts = [f"compare:<{_text(compare)}>" for compare in request.compare]
        for name, operations in (("success", request.success), ("failure", request.failure)):
            parts += [f"{name}:<{_operation(operation)}>" for operation in operations]
        return " ".join(parts)
    return _plain(request)


def _operation(operation: rpc_pb2.RequestOp) -> str:
    kind = operation.WhichOneof("request")
    return "" if kind is None else f"{kind}:<{_text(getattr(operation, kind))}>"


def _without_value(request: Any, field: str) -> str:
    value = getattr(request, field)
    kept = type(request)()
    kept.CopyFrom(request)
    kept.ClearField(field)
    size = f"{field}_size:{len(value)}"
    return f"{_plain(kept)} {size}".lstrip()


def _plain(request: Message) -> str:
    return str(text_format.MessageToString(request, as_one_line=True)).strip()
