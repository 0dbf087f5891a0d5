"""Every command of etcdctl in every output format, against etcd and against Keydeck
(spec/tools.md §1). What has no table, or no protobuf, says so alike.
"""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.etcdctl import Ctl, Twins

pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]

FORMATS = ("simple", "json", "fields", "table")
OWN = {"clusterId", "memberId", "raftTerm"}

SEEDS = (
    "put f/a 1",
    "put f/a 2",
    "put f/b \xff\x01",
    "put f/c '' ",
)
COMMANDS: tuple[tuple[str, type[Message] | None], ...] = (
    ("put f/d x", rpc.PutResponse),
    ("put f/d y --prev-kv", rpc.PutResponse),
    ("get f/ --prefix", rpc.RangeResponse),
    ("get f/a --hex", rpc.RangeResponse),
    ("get f/none", rpc.RangeResponse),
    ("get f/ --prefix --keys-only --sort-by VALUE", rpc.RangeResponse),
    ("del f/d --prev-kv", rpc.DeleteRangeResponse),
    ("lease list", rpc.LeaseLeasesResponse),
    ("lease timetolive {lease} --keys", rpc.ResponseHeader),
    ("lease timetolive 1", rpc.ResponseHeader),
    ("lease keep-alive {lease} --once", rpc.ResponseHeader),
    ("member list", rpc.MemberListResponse),
    ("alarm list", rpc.AlarmResponse),
    ("user list", rpc.AuthUserListResponse),
    ("user get someone", rpc.AuthUserGetResponse),
    ("role list", rpc.AuthRoleListResponse),
    ("role get some", rpc.AuthRoleGetResponse),
    ("get f/a --rev=99999", rpc.RangeResponse),
    ("endpoint health", None),
    ("endpoint hashkv --rev 2", None),
    ("move-leader 1", None),
    ("version", None),
)
"""With the message that `-w protobuf` prints, which of a TTL and a renewal is its header only. Keys
only are sorted by value, because otherwise they come without their lease since 3.7 (spec/kv.md
R11). Of `alarm disarm` without alarms etcdctl itself panics.
"""


@pytest.fixture
def seeded(fresh: Twins) -> Twins:
    fresh.run(*SEEDS)
    fresh.capture("lease", r"lease ([0-9a-f]{16}) granted", "lease grant 3600")
    fresh.run(
        "put f/l 1 --lease={lease}",
        "role add some",
        "role grant-permission some read a b",
        "role grant-permission some write --prefix p/",
        "role grant-permission some readwrite --from-key k",
        "user add someone:pw",
        "user grant-role someone some",
    )
    return fresh


def test_every_format_of_every_command(seeded: Twins) -> None:
    for command, _ in COMMANDS:
        seeded.run(*(f"{command} -w {form}" for form in FORMATS))


def test_a_transaction_in_every_format(seeded: Twins) -> None:
    script = b'value("f/a") = "2"\n\nput f/t 1\nget f/ --prefix\ndel f/t\n\n\n'
    seeded.run(*(f"txn -w {form}" for form in FORMATS), stdin=script)


def test_protobuf_holds_the_same_message(seeded: Twins) -> None:
    for command, message in COMMANDS:
        if message is not None:
            told = [printed(ctl, command, message) for ctl in seeded.both]
            assert told[0] == told[1], command


def printed(ctl: Ctl, command: str, message: type[Message]) -> tuple[int | None, object, str]:
    process = ctl.popen(f"{command} -w protobuf")
    stdout, stderr = process.communicate(timeout=20)
    found = MessageToDict(message.FromString(stdout)) if process.returncode == 0 else {}
    return process.returncode, leveled(found, ctl), ctl.level(stderr)


def leveled(value: object, ctl: Ctl) -> object:
    """Without what differs by nature."""
    if isinstance(value, dict):
        return {
            name: leveled(inner, ctl)
            for name, inner in value.items()
            if name not in OWN and name.lower() != "ttl"
        }
    if isinstance(value, list):
        return [leveled(inner, ctl) for inner in value]
    return ctl.level(str(value).encode())
