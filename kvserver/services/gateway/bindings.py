"""Which path is which method (spec/wire-api.md §1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kvserver.proto import election_pb2, lock_pb2, rpc_pb2
from kvserver.transport import Method

SERVICES = {
    "etcdserverpb": rpc_pb2.DESCRIPTOR,
    "v3lockpb": lock_pb2.DESCRIPTOR,
    "v3electionpb": election_pb2.DESCRIPTOR,
}
PATHS: dict[str, str] = {
    "kv/range": "etcdserverpb.KV/Range",
    "kv/put": "etcdserverpb.KV/Put",
    "kv/deleterange": "etcdserverpb.KV/DeleteRange",
    "kv/txn": "etcdserverpb.KV/Txn",
    "kv/compaction": "etcdserverpb.KV/Compact",
    "watch": "etcdserverpb.Watch/Watch",
    "lease/grant": "etcdserverpb.Lease/LeaseGrant",
    "lease/revoke": "etcdserverpb.Lease/LeaseRevoke",
    "lease/keepalive": "etcdserverpb.Lease/LeaseKeepAlive",
    "lease/timetolive": "etcdserverpb.Lease/LeaseTimeToLive",
    "lease/leases": "etcdserverpb.Lease/LeaseLeases",
    "kv/lease/revoke": "etcdserverpb.Lease/LeaseRevoke",
    "kv/lease/timetolive": "etcdserverpb.Lease/LeaseTimeToLive",
    "kv/lease/leases": "etcdserverpb.Lease/LeaseLeases",
    "cluster/member/add": "etcdserverpb.Cluster/MemberAdd",
    "cluster/member/remove": "etcdserverpb.Cluster/MemberRemove",
    "cluster/member/update": "etcdserverpb.Cluster/MemberUpdate",
    "cluster/member/list": "etcdserverpb.Cluster/MemberList",
    "cluster/member/promote": "etcdserverpb.Cluster/MemberPromote",
    "maintenance/alarm": "etcdserverpb.Maintenance/Alarm",
    "maintenance/status": "etcdserverpb.Maintenance/Status",
    "maintenance/defragment": "etcdserverpb.Maintenance/Defragment",
    "maintenance/hash": "etcdserverpb.Maintenance/Hash",
    "maintenance/hashkv": "etcdserverpb.Maintenance/HashKV",
    "maintenance/snapshot": "etcdserverpb.Maintenance/Snapshot",
    "maintenance/transfer-leadership": "etcdserverpb.Maintenance/MoveLeader",
    "maintenance/downgrade": "etcdserverpb.Maintenance/Downgrade",
    "auth/enable": "etcdserverpb.Auth/AuthEnable",
    "auth/disable": "etcdserverpb.Auth/AuthDisable",
    "auth/status": "etcdserverpb.Auth/AuthStatus",
    "auth/authenticate": "etcdserverpb.Auth/Authenticate",
    "auth/user/add": "etcdserverpb.Auth/UserAdd",
    "auth/user/get": "etcdserverpb.Auth/UserGet",
    "auth/user/list": "etcdserverpb.Auth/UserList",
    "auth/user/delete": "etcdserverpb.Auth/UserDelete",
    "auth/user/changepw": "etcdserverpb.Auth/UserChangePassword",
    "auth/user/grant": "etcdserverpb.Auth/UserGrantRole",
    "auth/user/revoke": "etcdserverpb.Auth/UserRevokeRole",
    "auth/role/add": "etcdserverpb.Auth/RoleAdd",
    "auth/role/get": "etcdserverpb.Auth/RoleGet",
    "auth/role/list": "etcdserverpb.Auth/RoleList",
    "auth/role/delete": "etcdserverpb.Auth/RoleDelete",
    "auth/role/grant": "etcdserverpb.Auth/RoleGrantPermission",
    "auth/role/revoke": "etcdserverpb.Auth/RoleRevokePermission",
    "lock/lock": "v3lockpb.Lock/Lock",
    "lock/unlock": "v3lockpb.Lock/Unlock",
    "election/campaign": "v3electionpb.Election/Campaign",
    "election/proclaim": "v3electionpb.Election/Proclaim",
    "election/leader": "v3electionpb.Election/Leader",
    "election/observe": "v3electionpb.Election/Observe",
    "election/resign": "v3electionpb.Election/Resign",
}
STREAMS_OF_REQUESTS = frozenset({"etcdserverpb.Watch/Watch", "etcdserverpb.Lease/LeaseKeepAlive"})
"""Methods whose body is any number of requests; all others take one."""
STREAMS = STREAMS_OF_REQUESTS | {
    "etcdserverpb.Maintenance/Snapshot",
    "v3electionpb.Election/Observe",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A path's method; `method` is None for one that this server does not serve."""

    name: str
    """Package, service and method: "etcdserverpb.KV/Put"."""
    request: type[Message]
    response: type[Message]
    method: Method | None

    @property
    def is_stream(self) -> bool:
        return self.name in STREAMS

    @property
    def takes_many(self) -> bool:
        return self.name in STREAMS_OF_REQUESTS


def bindings(methods: Iterable[Method]) -> Mapping[str, Binding]:
    """By full path, for every path of the table."""
    return dict(_bindings({method.path[1:]: method for method in methods}))


def _bindings(methods: Mapping[str, Method]) -> Iterator[tuple[str, Binding]]:
    for path, name in PATHS.items():
        service, _, rpc = name.partition("/")
        package, _, short = service.partition(".")
        described = SERVICES[package].services_by_name[short].methods_by_name[rpc]
        request: type[Message] = GetMessageClass(described.input_type)
        response: type[Message] = GetMessageClass(described.output_type)
        yield "/v3/" + path, Binding(name, request, response, methods.get(name))
