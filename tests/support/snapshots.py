"""Backups in tests: a member filled with everything, what it then says of itself, tools to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc

from kvserver.proto import auth_pb2, kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.etcd_binaries import REPOSITORY, EtcdRelease
from tests.support.servers_proc import ServerProcess

COMMAND_SECONDS_MAX = 180
LEASES = 40
PEER = "http://127.0.0.1:1"


def fill(server: ServerProcess) -> None:
    """Tombstones, transactions, long values and keys, leases, users, a compaction, an alarm."""
    with grpc.insecure_channel(server.endpoint) as channel:
        kv, lease = services.KVStub(channel), services.LeaseStub(channel)
        for number in range(150):
            kv.Put(rpc.PutRequest(key=b"k%d" % (number % 60), value=b"v%d" % number * 5))
        kv.DeleteRange(rpc.DeleteRangeRequest(key=b"k3"))
        kv.DeleteRange(rpc.DeleteRangeRequest(key=b"k40", range_end=b"k45"))
        compacted = kv.Put(rpc.PutRequest(key=b"k3", value=b"again")).header.revision
        kv.Put(rpc.PutRequest(key=b"long", value=b"x" * 1_200_000))
        kv.Put(rpc.PutRequest(key=b"n" * 20_000, value=b"long name"))
        kv.Put(rpc.PutRequest(key=b"empty"))
        for number in range(1, LEASES + 1):
            lease.LeaseGrant(rpc.LeaseGrantRequest(ID=number, TTL=5000 + number))
            kv.Put(rpc.PutRequest(key=b"leased%d" % number, value=b"l", lease=number))
        puts = [rpc.PutRequest(key=b"t%d" % n, value=b"in one") for n in range(20)]
        ops = [rpc.RequestOp(request_put=put) for put in puts]
        ops.append(rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"k7")))
        kv.Txn(rpc.TxnRequest(success=ops))
        kv.Compact(rpc.CompactionRequest(revision=compacted - 20, physical=True))
        kv.Put(rpc.PutRequest(key=b"k1", value=b"after the compaction"))
        _fill_auth(services.AuthStub(channel))
        alarm = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=77, alarm=rpc.NOSPACE)
        services.MaintenanceStub(channel).Alarm(alarm)


def _fill_auth(auth: Any) -> None:
    """Auth stays off: hashing 40 passwords is not what is tested here."""
    read, write = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE
    for number in range(5):
        auth.RoleAdd(rpc.AuthRoleAddRequest(name=f"role{number}"))
        for kind, key, end in ((write, b"w", b""), (read, b"r", b"s"), (read, b"\0", b"\0")):
            permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
            auth.RoleGrantPermission(
                rpc.AuthRoleGrantPermissionRequest(name=f"role{number}", perm=permission)
            )
    auth.UserAdd(rpc.AuthUserAddRequest(name="somebody", password="secret"))
    options = auth_pb2.UserAddOptions(no_password=True)
    auth.UserAdd(rpc.AuthUserAddRequest(name="nobody", options=options))
    for role in ("role3", "role1"):
        auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="nobody", role=role))


def told(server: ServerProcess) -> dict[str, Any]:
    """Everything a backup must bring back, as the member itself tells it."""
    with grpc.insecure_channel(
        server.endpoint, [("grpc.max_receive_message_length", -1)]
    ) as channel:
        kv, lease = services.KVStub(channel), services.LeaseStub(channel)
        auth, maintenance = services.AuthStub(channel), services.MaintenanceStub(channel)
        everything = kv.Range(rpc.RangeRequest(key=b"\0", range_end=b"\0"))
        hashed = maintenance.HashKV(rpc.HashKVRequest())
        leases = sorted(status.ID for status in lease.LeaseLeases(rpc.LeaseLeasesRequest()).leases)
        users = sorted(auth.UserList(rpc.AuthUserListRequest()).users)
        roles = sorted(auth.RoleList(rpc.AuthRoleListRequest()).roles)
        alarms = maintenance.Alarm(rpc.AlarmRequest()).alarms
        return {
            "revision": everything.header.revision,
            "hash": hashed.hash,
            "compacted": hashed.compact_revision,
            "keys": [pair.SerializeToString() for pair in everything.kvs],
            "leases": [_lease(lease, number) for number in leases],
            "users": [_without_header(auth.UserGet(rpc.AuthUserGetRequest(name=n))) for n in users],
            "names": users,
            "roles": [_without_header(auth.RoleGet(rpc.AuthRoleGetRequest(role=n))) for n in roles],
            "alarms": [(alarm.memberID, alarm.alarm) for alarm in alarms],
        }


def _lease(lease: Any, number: int) -> tuple[int, int, tuple[bytes, ...]]:
    reply = lease.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=number, keys=True))
    return number, reply.grantedTTL, tuple(sorted(reply.keys))


def _without_header(reply: Any) -> bytes:
    reply.ClearField("header")
    return bytes(reply.SerializeToString(deterministic=True))


def change(server: ServerProcess) -> None:
    """What a restored member does next: an image that only looks sound dies here (F14)."""
    with grpc.insecure_channel(server.endpoint) as channel:
        kv, lease = services.KVStub(channel), services.LeaseStub(channel)
        services.MaintenanceStub(channel).Alarm(
            rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, memberID=77, alarm=rpc.NOSPACE)
        )
        for number in range(60):
            kv.Put(rpc.PutRequest(key=b"k%d" % number, value=b"anew"))
        for number in range(1, LEASES + 1):
            lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=number))
        reply = kv.DeleteRange(rpc.DeleteRangeRequest(key=b"k", range_end=b"l"))
        kv.Compact(rpc.CompactionRequest(revision=reply.header.revision, physical=True))
        services.MaintenanceStub(channel).Defragment(rpc.DefragmentRequest())


def save(server: ServerProcess, path: Path) -> list[rpc.SnapshotResponse]:
    """Save a backup as clients do; the messages it came in."""
    with grpc.insecure_channel(server.endpoint) as channel:
        stub = services.MaintenanceStub(channel)
        messages = list(stub.Snapshot(rpc.SnapshotRequest(), timeout=COMMAND_SECONDS_MAX))
    path.write_bytes(b"".join(message.blob for message in messages))
    return messages


def etcdutl(release: EtcdRelease) -> Path:
    """The tool for files: `etcdutl`, or what did its work before."""
    own = release.etcdctl.with_name("etcdutl")
    return own if own.exists() else release.etcdctl


def run_tool(command: list[object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        env={
            "ETCDCTL_API": "3",
            "ETCDCTL_COMMAND_TIMEOUT": "60s",  # of a machine that is busy with something else
            "ETCDCTL_DIAL_TIMEOUT": "60s",
            "PYTHONPATH": str(REPOSITORY),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
    )


def kvutl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_tool([sys.executable, "-m", "kvserver.cli.kvutl", *arguments])


def restore_arguments(snapshot: Path, data_dir: Path) -> list[object]:
    place = ["--data-dir", data_dir, "--name", "default"]
    cluster = ["--initial-cluster", f"default={PEER}", "--initial-advertise-peer-urls", PEER]
    return ["snapshot", "restore", snapshot, *place, *cluster]


def key_value(key: bytes, value: bytes, revision: int, version: int = 1) -> bytes:
    """A record as it stands in the key bucket."""
    return kv_pb2.KeyValue(
        key=key, value=value, create_revision=revision, mod_revision=revision, version=version
    ).SerializeToString()
