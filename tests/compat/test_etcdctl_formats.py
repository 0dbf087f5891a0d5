"""Every command of etcdctl in every output format, against etcd and against Keydeck
(spec/tools.md §1). What has no table, or no protobuf, says so alike.
"""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc
from tests.compat.driver import MAINTENANCE, Driver
from tests.compat.etcdctl import Answer, Ctl, Twins
from tests.support.servers_proc import wait_for_output

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


ADD = "member add m-{form} --learner --peer-urls=http://127.0.0.1:9"
LIFE = (
    "role add r-{form}",
    "role grant-permission r-{form} read a b",
    "role revoke-permission r-{form} a b",
    "user add u-{form}:pw",
    "user grant-role u-{form} r-{form}",
    "user revoke-role u-{form} r-{form}",
    "user delete u-{form}",
    "role delete r-{form}",
    "lease grant 3600",
    "lease revoke {other}",
    "lock lock-{form} true",
    "put g/{form} x",
    "compaction {revision}",
    "defrag",
    ADD,
    "member update 1234 --peer-urls=http://127.0.0.1:9",
    "member promote 1234",
    "member promote {learner}",
    "member remove {learner}",
    "member remove {learner}",
    "auth enable",
    "--user root:pw auth status",
    "--user root:pw auth disable",
    "auth disable",
)
"""What changes something: done once in every format, each time anew."""


@pytest.fixture(scope="module")
def seeded(twins: Twins) -> Twins:
    """One pair for all tests here, which leave both sides alike; the order is the file's."""
    twins.run(*SEEDS)
    twins.capture("lease", r"lease ([0-9a-f]{16}) granted", "lease grant 3600")
    twins.run(
        "put f/l 1 --lease={lease}",
        "role add some",
        "role grant-permission some read a b",
        "role grant-permission some write --prefix p/",
        "role grant-permission some readwrite --from-key k",
        "user add someone:pw",
        "user grant-role someone some",
    )
    return twins


def test_every_format_of_every_command(seeded: Twins) -> None:
    for command, _ in COMMANDS:
        seeded.run(*(f"{command} -w {form}" for form in FORMATS))


def test_every_format_of_what_changes_something(seeded: Twins) -> None:
    seeded.run("user add root:pw", "role add root", "user grant-role root root")
    for revision, form in enumerate(FORMATS, 2):
        seeded.call(form=form, revision=str(revision))
        seeded.capture("other", r"lease ([0-9a-f]{16}) granted", "lease grant 3600")
        for command in LIFE:
            if command is ADD:
                add_learner(seeded, form)
            else:
                seeded.run(f"{command} -w {form}")
        seeded.run(f"user passwd someone --interactive=false -w {form}", stdin=b"pw\n")


def add_learner(twins: Twins, form: str) -> None:
    """Members come in the order of their ids, which nobody can foresee."""
    told = []
    for ctl in twins.both:
        answer = ctl.run(f"{ADD} -w {form}")
        (number,) = (member.ID for member in members(ctl) if member.isLearner)
        ctl.captured["learner"] = f"{number:x}"
        ctl.names[f"{number:x}"] = ctl.names[str(number)] = "LEARNER"
        text = answer.stdout.replace(f"{number:x}", "ID").replace(str(number), "ID")
        told.append((answer.status, sorted(text.split()), sorted(answer.stderr)))
        if form == "json":
            told[-1] = (answer.status, sorted(text), sorted(answer.stderr))
    assert told[0] == told[1], told


def members(ctl: Ctl) -> list[rpc.Member]:
    with grpc.insecure_channel(ctl.server.endpoint) as channel:
        stub = rpc_pb2_grpc.ClusterStub(channel)
        return list(stub.MemberList(rpc.MemberListRequest(), timeout=60).members)


def test_states_in_every_format(seeded: Twins, tmp_path: Path) -> None:
    """What is full of figures of each server's own: equal but for those."""
    for number, ctl in enumerate(seeded.both):
        path = tmp_path / f"{number}.db"
        assert ctl.run(f"snapshot save {path}").status == 0
        ctl.captured["path"] = str(path)
    for form in FORMATS:
        for command in (f"endpoint status -w {form}", "snapshot status {path} -w " + form):
            one, other = (ctl.run(command) for ctl in seeded.both)
            assert shape(one) == shape(other), command


def shape(answer: Answer) -> tuple[int, str]:
    """With every number, in whatever base, the same, and tables as narrow as they can be."""
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f.]+\b", "N", answer.stdout)
    return answer.status, re.sub(r"[-+ ]+", " ", text)


def test_alarms_are_disarmed_in_every_format(seeded: Twins) -> None:
    """spec/maintenance.md case 9: two of them, of members that need not exist."""
    for form in FORMATS:
        for ctl in seeded.both:
            driver = Driver(ctl.server.endpoint)
            for number in (77, 78):
                raised = rpc.AlarmRequest(action=1, memberID=number, alarm=rpc.NOSPACE)
                driver.do_call(MAINTENANCE + "Alarm", raised.SerializeToString())
            driver.close()
        told = [sorted(ctl.run(f"alarm disarm -w {form}").stdout) for ctl in seeded.both]
        assert told[0] == told[1], form  # in any order
        seeded.run(f"alarm list -w {form}", "put f/d 1")


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
    stdout, stderr = process.communicate(timeout=120)
    found = MessageToDict(message.FromString(stdout)) if process.returncode == 0 else {}
    return process.returncode, leveled(found, ctl), ctl.level(stderr)


def leveled(value: object, ctl: Ctl) -> object:
    """Without what differs by nature."""
    if isinstance(value, dict):
        found = {
            name: leveled(inner, ctl)
            for name, inner in value.items()
            if name not in OWN and name.lower() != "ttl"
        }
        if "members" in found:  # in the order of ids, which hang on the ports
            found["members"] = sorted(found["members"], key=repr)
        return found
    if isinstance(value, list):
        return [leveled(inner, ctl) for inner in value]
    return ctl.level(str(value).encode())


def test_streams_in_every_format(seeded: Twins) -> None:
    """A table of either is refused by the client itself."""
    revision = seeded.revision() + 1
    seeded.run("put w/one x")
    ends = {"simple": "w/one\nx\n", "json": '"Created":false}\n', "fields": '"Lease" : 0\n'}
    for form, end in ends.items():
        seeded.until(f"watch w/one --rev {revision} -w {form}", end)
    for ctl in seeded.both:
        leader = ctl.popen("elect e p1")
        try:
            wait_for_output(leader, b"p1\n", 120)
            for form, value in {"simple": "p1\n", "json": "cDE=", "fields": '"p1"'}.items():
                ctl.until(f"elect -l e -w {form}", value)
        finally:
            ctl.interrupt(leader)
