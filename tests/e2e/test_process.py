"""The run-time contract (verification.md): signals, the data directory's lock, the environment."""

from __future__ import annotations

import inspect
import json
import subprocess

import grpc
import pytest

from kvserver.limits import LAST_WORDS_SECONDS
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from kvserver.server import MemberServer
from tests.e2e.ledger import Ledger, Load, audit
from tests.support.servers_proc import ServerProcess, keydeck_command

pytestmark = pytest.mark.e2e

STOP_SECONDS_MAX = 60.0
"""Nothing that is open would end before. The contract's own 1.5 s are kept by what the member gives
everybody to end in, where a machine has a core for it; see the first test."""


def test_nobody_is_given_longer_to_end_in_than_the_contract_allows() -> None:
    grace_seconds = inspect.signature(MemberServer.stop).parameters["grace_seconds"].default
    assert grace_seconds + LAST_WORDS_SECONDS < 1.5


def test_sigterm_ends_an_idle_member(member: ServerProcess) -> None:
    assert member.terminate(STOP_SECONDS_MAX) == 0


def test_sigterm_under_load_with_open_streams(member: ServerProcess) -> None:
    """Watches and calls in flight do not hold the process, and nothing acknowledged is lost."""
    ledger = Ledger()
    with grpc.insecure_channel(member.endpoint) as channel:
        create = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"never"))
        watch = services.WatchStub(channel).Watch(iter([create]))
        assert next(watch).created
        with Load(member, ledger, 0) as load:
            load.wait_for(300)
            assert member.terminate(STOP_SECONDS_MAX) == 0, member.log()
        with pytest.raises(grpc.RpcError):
            next(watch)
    member.start()
    audit(member, ledger)


def test_a_second_process_refuses_the_data_directory(
    member: ServerProcess,
    make_member,  # type: ignore[no-untyped-def]
) -> None:
    other = make_member()
    other.data_dir = member.data_dir
    other.client_port = other.peer_port = 0
    other.spawn()
    assert other.process is not None
    assert other.process.wait(60) != 0
    member.wait_ready()
    with grpc.insecure_channel(member.endpoint) as channel:
        services.KVStub(channel).Put(rpc.PutRequest(key=b"a"), timeout=60)


def test_unknown_etcd_variables_are_not_fatal(make_member) -> None:  # type: ignore[no-untyped-def]
    member = make_member(environment={"ETCD_NO_SUCH_THING": "1", "ETCD_LOG_LEVEL": "info"})
    member.start()
    assert member.terminate() == 0
    assert "ready to serve client requests" in member.log(100_000)
    lines = [json.loads(line) for line in member.log(100_000).splitlines() if line[:1] == "{"]
    assert lines and all({"level", "ts", "caller", "msg"} <= line.keys() for line in lines)


def test_version_is_printed_without_starting() -> None:
    done = subprocess.run(
        [*keydeck_command(), "--version"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "etcd Version: " in done.stdout


def test_data_directory_is_for_its_owner_only(member: ServerProcess) -> None:
    """verification.md: 0700 and 0600 enforced."""
    for path in (member.data_dir, *member.data_dir.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert path.stat().st_mode & 0o777 == wanted, path
