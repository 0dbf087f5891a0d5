"""The one exception tree of the server.

Two families (spec/wire-api.md §5). A `RequestError` is the caller's fault or the cluster's passing
state: it has one gRPC code and etcd's exact message, because clients match on the text. A
`FatalError` is corruption, a failed sync or a full map: the process says what happened and what
to do, then stops.
"""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class KeydeckError(Exception):
    """Root of every exception this server raises on purpose."""


class FatalError(KeydeckError):
    """The member cannot go on: `what` happened and what the operator should do."""


class RequestError(KeydeckError):
    """A refusal that reaches the client as one gRPC status."""

    code: Code = Code.UNKNOWN
    message: str = ""

    def __init__(self, message: str | None = None, code: Code | None = None) -> None:
        if message is not None:
            self.message = message
        if code is not None:
            self.code = code
        super().__init__(self.message)


class EmptyKey(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key is not provided"


class KeyNotFound(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key not found"


class ValueProvided(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: value is provided"


class LeaseProvided(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: lease is provided"


class TooManyOps(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: too many operations in txn request"


class DuplicateKey(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: duplicate key given in txn request"


class InvalidClientAPIVersion(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid client api version"


class InvalidSortOption(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid sort option"


class Compacted(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision has been compacted"


class FutureRev(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision is a future revision"


class NoSpace(RequestError):
    code = Code.RESOURCE_EXHAUSTED
    message = "etcdserver: mvcc: database space exceeded"


class LeaseNotFound(RequestError):
    code = Code.NOT_FOUND
    message = "etcdserver: requested lease not found"


class LeaseExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: lease already exists"


class LeaseTTLTooLarge(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: too large lease TTL"


class WatchCanceled(RequestError):
    code = Code.CANCELLED
    message = "etcdserver: watch canceled"


class MemberExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: member ID already exist"


class PeerURLExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: Peer URLs already exists"


class MemberNotEnoughStarted(RequestError):
    code = Code.UNKNOWN
    message = "etcdserver: re-configuration failed due to not enough started members"


class MemberBadURLs(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: given member URLs are invalid"


class MemberNotFound(RequestError):
    code = Code.NOT_FOUND
    message = "etcdserver: member not found"


class MemberNotLearner(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member"


class LearnerNotReady(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: too many learner members in cluster"


class ClusterIDMismatch(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster ID mismatch"


class RequestTooLarge(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: request is too large"


class RequestTooManyRequests(RequestError):
    code = Code.UNKNOWN  # etcd's catalogue says otherwise, its handlers say this (wire-api.md §5.2)
    message = "etcdserver: too many requests"


class RootUserNotExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not exist"


class RootRoleNotExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not have root role"


class UserAlreadyExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name already exists"


class UserEmpty(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: user name is empty"


class UserNotFound(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name not found"


class RoleAlreadyExist(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name already exists"


class RoleNotFound(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name not found"


class RoleEmpty(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: role name is empty"


class AuthFailed(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGiven(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: permission not given"


class PermissionDenied(RequestError):
    code = Code.PERMISSION_DENIED
    message = "etcdserver: permission denied"


class RoleNotGranted(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role is not granted to the user"


class PermissionNotGranted(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: permission is not granted to the role"


class AuthNotEnabled(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: authentication is not enabled"


class InvalidAuthToken(RequestError):
    code = Code.UNAUTHENTICATED
    message = "etcdserver: invalid auth token"


class InvalidAuthMgmt(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid auth management"


class AuthOldRevision(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: revision of auth store is old"


class NoLeader(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: no leader"


class NotLeader(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not leader"


class LeaderChanged(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: leader changed"


class NotCapable(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not capable"


class Stopped(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: server stopped"


class Timeout(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out"


class TimeoutDueToLeaderFail(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to previous leader failure"


class TimeoutDueToConnectionLost(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to connection lost"


class TimeoutWaitAppliedIndex(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, waiting for the applied index took too long"


class Unhealthy(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: unhealthy cluster"


class Corrupt(RequestError):
    code = Code.DATA_LOSS
    message = "etcdserver: corrupt cluster"


class NotSupportedForLearner(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: rpc not supported for learner"


class BadLeaderTransferee(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: bad leader transferee"


class WrongDowngradeVersionFormat(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTargetVersion(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid downgrade target version"


class ClusterVersionUnavailable(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster version not found during downgrade"


class DowngradeInProcess(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster has a downgrade job in progress"


class NoInflightDowngrade(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: no inflight downgrade job"


class Canceled(RequestError):
    code = Code.CANCELLED
    message = "etcdserver: request canceled"


class DeadlineExceeded(RequestError):
    code = Code.DEADLINE_EXCEEDED
    message = "etcdserver: context deadline exceeded"
