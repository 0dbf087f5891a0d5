"""Who may call what: one rule for every method (spec/auth.md §3, newest form).

Default deny: a method that has no rule here cannot be registered.
"""

from __future__ import annotations

from enum import Enum

_KV, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
_CLUSTER, _MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"
_AUTH, _LOCK, _ELECTION = "/etcdserverpb.Auth/", "/v3lockpb.Lock/", "/v3electionpb.Election/"


class Rule(Enum):
    """What is asked of the caller while auth is enabled."""

    OPEN = "no credentials are looked at"
    USER = "any user, asked before the handler"
    ADMIN = "a user with role root, asked before the handler"
    REQUEST = "the handler asks, by what the request names"
    APPLY = "judged when the entry is applied, by the identity in its header"
    INNER = "judged by the calls it makes in the caller's name"


RULES: dict[str, Rule] = {
    _KV + "Range": Rule.REQUEST,
    _KV + "RangeStream": Rule.REQUEST,
    _KV + "Put": Rule.APPLY,
    _KV + "DeleteRange": Rule.APPLY,
    _KV + "Txn": Rule.APPLY,
    _KV + "Compact": Rule.ADMIN,
    "/etcdserverpb.Watch/Watch": Rule.REQUEST,
    _LEASE + "LeaseGrant": Rule.USER,
    _LEASE + "LeaseRevoke": Rule.USER,
    _LEASE + "LeaseKeepAlive": Rule.REQUEST,
    _LEASE + "LeaseTimeToLive": Rule.USER,
    _LEASE + "LeaseLeases": Rule.USER,
    _CLUSTER + "MemberList": Rule.USER,
    _CLUSTER + "MemberAdd": Rule.ADMIN,
    _CLUSTER + "MemberRemove": Rule.ADMIN,
    _CLUSTER + "MemberUpdate": Rule.ADMIN,
    _CLUSTER + "MemberPromote": Rule.ADMIN,
    _MAINTENANCE + "Status": Rule.USER,
    _MAINTENANCE + "Alarm": Rule.USER,
    _MAINTENANCE + "Defragment": Rule.ADMIN,
    _MAINTENANCE + "Hash": Rule.ADMIN,
    _MAINTENANCE + "HashKV": Rule.ADMIN,
    _MAINTENANCE + "Snapshot": Rule.ADMIN,
    _MAINTENANCE + "MoveLeader": Rule.ADMIN,
    _MAINTENANCE + "Downgrade": Rule.ADMIN,
    _AUTH + "AuthEnable": Rule.APPLY,
    _AUTH + "AuthDisable": Rule.APPLY,
    _AUTH + "AuthStatus": Rule.OPEN,
    _AUTH + "Authenticate": Rule.OPEN,
    _AUTH + "UserAdd": Rule.APPLY,
    _AUTH + "UserGet": Rule.REQUEST,
    _AUTH + "UserList": Rule.REQUEST,
    _AUTH + "UserDelete": Rule.APPLY,
    _AUTH + "UserChangePassword": Rule.APPLY,
    _AUTH + "UserGrantRole": Rule.APPLY,
    _AUTH + "UserRevokeRole": Rule.APPLY,
    _AUTH + "RoleAdd": Rule.APPLY,
    _AUTH + "RoleGet": Rule.REQUEST,
    _AUTH + "RoleList": Rule.REQUEST,
    _AUTH + "RoleDelete": Rule.APPLY,
    _AUTH + "RoleGrantPermission": Rule.APPLY,
    _AUTH + "RoleRevokePermission": Rule.APPLY,
    _LOCK + "Lock": Rule.INNER,
    _LOCK + "Unlock": Rule.INNER,
    _ELECTION + "Campaign": Rule.INNER,
    _ELECTION + "Proclaim": Rule.INNER,
    _ELECTION + "Leader": Rule.INNER,
    _ELECTION + "Observe": Rule.INNER,
    _ELECTION + "Resign": Rule.INNER,
    "/grpc.health.v1.Health/Check": Rule.OPEN,
    "/grpc.health.v1.Health/Watch": Rule.OPEN,
    "/grpc.health.v1.Health/List": Rule.OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Rule.OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule.OPEN,
}
