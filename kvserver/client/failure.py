"""The one way a call fails."""

from __future__ import annotations

import grpc

from kvserver.errors import Code

# After these a write that was handed to the network may have been applied all the same.
FATE_UNKNOWN = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL}
)
TRY_ANOTHER_MEMBER = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
"""What one member's silence or trouble looks like; every other refusal all of them would give."""
LEADER_CHANGED = "etcdserver: leader changed"
"""The answer to a read that a new leader knows nothing of: asked again it is answered."""
SURELY_NOT_DONE = frozenset({"etcdserver: unhealthy cluster"})
"""Refusals with a code of FATE_UNKNOWN that come before anything is proposed
(spec/cluster.md §3.6)."""


class CallFailed(Exception):
    """A gRPC status other than OK, or no connection at all (code UNAVAILABLE, not sent)."""

    def __init__(
        self, code: Code, message: str, endpoint: str, *, was_sent: bool, is_write: bool = False
    ) -> None:
        super().__init__(f"{code.name} from {endpoint}: {message}")
        self.code = code
        self.message = message
        self.endpoint = endpoint
        self.was_sent = was_sent
        self.is_write = is_write

    @property
    def fate_is_unknown(self) -> bool:
        """True when a write may or may not have happened."""
        return (
            self.is_write
            and self.was_sent
            and self.code in FATE_UNKNOWN
            and self.message not in SURELY_NOT_DONE
        )

    @classmethod
    def from_rpc(cls, error: grpc.RpcError, endpoint: str, *, is_write: bool) -> CallFailed:
        return cls(
            code_of(error),
            error.details() or "",
            endpoint,
            was_sent=True,
            is_write=is_write,
        )


def code_of(error: grpc.RpcError) -> Code:
    return Code(error.code().value[0])
