"""How a call to a cluster fails, in the console's words."""

from __future__ import annotations

from kvserver.client import CallFailed
from kvserver.client.failure import SURELY_NOT_DONE
from kvserver.errors import Code


class ClusterError(Exception):
    """A call that gave no result. `code` is the gRPC code's name, `message` the server's words."""

    def __init__(self, code: str, message: str, endpoint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.endpoint = endpoint


class Unreachable(ClusterError):
    """No endpoint answered in time."""


class NoLeader(Unreachable):
    """Members answer, and none of them knows a leader: whatever takes a quorum would wait."""


class Compacted(ClusterError):
    """The revision asked for is gone."""


class Denied(ClusterError):
    """The connection's etcd user may not do this, or could not sign in."""


class TooLarge(ClusterError):
    """The answer is larger than the console takes in one message."""


class FateUnknown(ClusterError):
    """A write was sent and no answer came: it may or may not have happened."""


def domain_error(error: CallFailed) -> ClusterError:
    kind: type[ClusterError] = ClusterError
    if error.fate_is_unknown:
        kind = FateUnknown
    elif error.message in SURELY_NOT_DONE:
        kind = ClusterError
    elif error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}:
        kind = Unreachable
    elif "revision has been compacted" in error.message:
        kind = Compacted
    elif error.code in {Code.PERMISSION_DENIED, Code.UNAUTHENTICATED} or _is_sign_in(error):
        kind = Denied
    elif error.code is Code.RESOURCE_EXHAUSTED and "larger than max" in error.message:
        kind = TooLarge
    return kind(error.code.name, error.message, error.endpoint)


def _is_sign_in(error: CallFailed) -> bool:
    """etcd answers INVALID_ARGUMENT when a user is needed and none, or a wrong one, came."""
    return error.message.endswith(("user name is empty", "invalid user ID or password"))
