"""etcd's own `etcdctl`, 3.4 and 3.5, prints against Keydeck what it prints against etcd.

Every command that concerns one member without authentication (spec/tools.md §2). The members of a
module run share their state, so each test keeps to keys of its own.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from kvserver.proto import rpc_pb2 as rpc
from tests.compat.conftest import require
from tests.compat.driver import KV, MAINTENANCE, Driver
from tests.compat.etcdctl import Ctl, Twins
from tests.support.etcd_binaries import find_etcd35
from tests.support.served import skip_unless_served
from tests.support.servers_proc import (
    etcd_server,
    running,
    wait_for_output,
    wait_until,
)

CLUSTER = "/etcdserverpb.Cluster/"
pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]

SECONDS_MAX = 120
"""Only an upper bound for a test that hangs."""


def test_put_and_get(twins: Twins) -> None:
    """spec/tools.md test cases 1-3, 24b."""
    twins.run(
        "put kv/foo bar",
        "put kv/foo bar2 --prev-kv",
        "put kv/foo bar3 --prev-kv -w json",
        "put kv/foo bar4 --prev-kv -w fields",
        "put kv/other x",
        "put kv/other --ignore-value",
        "put kv/absent --ignore-value",
        "put kv/other y --ignore-lease",
        "get kv/foo",
        "get kv/foo --print-value-only",
        "get kv/foo --keys-only",
        "get kv/foo --hex",
        "get kv/foo -w json",
        "get kv/foo -w fields",
        "get kv/foo --consistency=s",
        "get kv/ --prefix",
        "get kv/ --prefix --limit=1 -w json",
        "get kv/ --prefix --order=DESCEND --sort-by=MODIFY",
        "get kv/ --prefix --order=ASCEND --sort-by=VERSION",
        "get kv/a kv/p",
        "get kv/o --from-key --limit 1",
        "get kv/ --prefix --keys-only",
        "get kv/ --prefix -w fields",
        "get kv/none",
        "get kv/foo --rev=100000",
        "get kv/foo --rev=1 -w json",
        'put "" x',
        "get",
        "get kv/foo -w table",
        "get kv/foo -w bogus",
    )


def test_put_takes_its_value_from_stdin(twins: Twins) -> None:
    twins.run("put stdin/a", stdin=b"line one\nline two\n")
    twins.run("put stdin/b -- -dashed", "get stdin/ --prefix -w json")


def test_delete(twins: Twins) -> None:
    """spec/tools.md test case 4."""
    twins.run(
        *(f"put del/{n} v{n}" for n in range(6)),
        "del del/0",
        "del del/0",
        "del del/1 --prev-kv",
        "del del/2 del/4 --prev-kv -w json",
        "del del/ --prefix --prev-kv",
        "del del/ --prefix -w fields",
        "get del/ --prefix",
    )


def test_transactions(twins: Twins) -> None:
    """spec/tools.md test case 6."""
    twins.run("put txn/a 1")
    script = b'mod("txn/a") > "0"\n\nput txn/b 2\nget txn/a\nget txn/ --prefix\n\nput txn/c 3\n\n'
    twins.run("txn", "txn -w json", "txn -w fields", "txn -i", stdin=script)
    for comparison in (
        b'value("txn/a") = "1"',
        b'value("txn/a") != "1"',
        b'create("txn/a") < "1"',
        b'ver("txn/none") = "0"',
        b'val("txn/none") = ""',
    ):
        twins.run("txn", stdin=comparison + b"\n\nput txn/a 1\n\nget txn/a\ndel txn/zz\n\n")
    twins.run("txn", stdin=b'bogus("txn/a") > "0"\n\n\n\n')
    twins.run("txn", stdin=b"\nput txn/d 1\nput txn/d 2\n\n\n")


def test_watch(twins: Twins) -> None:
    """spec/tools.md test case 7: history replayed, in every format, and commands run per event."""
    revision = twins.revision() + 1
    twins.run("put watch/a 1", "put watch/a 2", "put watch/b 3", "del watch/a")
    told = twins.until(f"watch watch/ --prefix --rev={revision}", "DELETE\nwatch/a\n\n")
    assert told.stdout.startswith("PUT\nwatch/a\n1\nPUT\nwatch/a\n2\n")
    twins.until(
        f"watch watch/ --prefix --prev-kv --rev={revision}", "DELETE\nwatch/a\n2\nwatch/a\n\n"
    )
    twins.until(f"watch watch/a watch/b --rev={revision} -w json", '"type":1')
    twins.until(
        f"watch watch/a --prev-kv --rev={revision} -w fields", '"Value" : ""\n"Lease" : 0\n'
    )
    run = "sh -c 'echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE'"
    twins.until(f"watch watch/ --prefix --rev={revision} -- {run}", '"DELETE" "watch/a"')
    interactive = f"watch watch/b --rev={revision}\n".encode()
    twins.until("watch -i", "watch/b\n3\n", stdin=interactive)


def test_watch_sees_what_happens_after_it(twins: Twins) -> None:
    revision = twins.revision() + 1
    for ctl in twins.both:
        process = ctl.popen(f"watch live/ --prefix --rev={revision}")
        try:
            ctl.run("put live/a now")
            assert wait_for_output(process, b"now\n", SECONDS_MAX) == b"PUT\nlive/a\nnow\n"
        finally:
            ctl.interrupt(process)


def test_compaction(fresh: Twins) -> None:
    """spec/tools.md test cases 8 and 9."""
    fresh.run("put compact/a 1", "put compact/a 2", "put compact/a 3")
    revision = fresh.revision()
    fresh.run(
        f"compaction {revision - 1}",
        f"compaction {revision - 1}",
        f"compact {revision} --physical",
        "compaction 1000000",
        "compaction abc",
        f"get compact/a --rev={revision - 1}",
        f"get compact/a --rev={revision}",
        "watch compact/a --rev=2",
        "endpoint hashkv",
    )


def test_leases(twins: Twins) -> None:
    """spec/tools.md test case 10."""
    twins.capture("lease", r"lease ([0-9a-f]{16}) granted", "lease grant 3600")
    twins.run(
        "put lease/a 1 --lease={lease}",
        "put lease/b 1 --lease={lease}",
        "put lease/b 1",
        "lease list",
        "lease timetolive {lease}",
        "lease timetolive {lease} --keys",
        "lease timetolive {lease} --keys -w fields",
        "lease keep-alive {lease} --once",
        "lease keep-alive {lease} --once -w json",
        "lease revoke {lease}",
        "get lease/ --prefix",
        "lease revoke {lease}",
        "lease timetolive {lease}",
        "lease keep-alive {lease} --once",
        "put lease/c 1 --lease={lease}",
        "lease timetolive zz",
        "lease grant x",
    )
    twins.capture("second", r"lease ([0-9a-f]{16}) granted", "lease grant 0")
    twins.run("lease revoke {second}", "lease list")


def test_members(twins: Twins) -> None:
    """spec/tools.md test case 11, as far as one voter can go: with a learner."""
    twins.run("member list", "member list -w json", "member list -w table", "member list -w fields")
    changes = ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote")
    skip_unless_served(twins.subject.server, *(CLUSTER + change for change in changes))
    add = "member add second --learner --peer-urls=http://127.0.0.1:9"
    twins.capture("second", r"Member +([0-9a-f]+) added", add)
    twins.run(
        "member list",
        "member promote {second}",
        # No update of a learner: 3.4 and 3.5.1 forget by it that it is one (spec/cluster.md §3.3
        # says that only the URLs change).
        "member update 1234 --peer-urls=http://127.0.0.1:8",
        "member update {second}",
        "member remove {second}",
        "member list",
        "member remove zz",
        "member remove 1234",
        "member add x",
        add.replace("--peer-urls=http://127.0.0.1:9", "--peer-urls=bad"),
    )


def test_endpoints(twins: Twins) -> None:
    """spec/tools.md test cases 12 and 13."""
    twins.run("endpoint health", "endpoint health --cluster")
    versions = []
    for ctl in twins.both:
        columns = ctl.run("endpoint status").stdout.split(", ")
        versions.append(columns.pop(2))
        assert len(columns) == 9
        assert columns[:2] == ["ENDPOINT", "MEMBER"]
        assert columns[3:5] == ["true", "false"]
        assert columns[2] == "SIZE"
    assert len(set(versions)) <= 2
    twins.run("endpoint status -w fields", "move-leader zz")


def test_moving_leadership(twins: Twins) -> None:
    """spec/maintenance.md L2."""
    skip_unless_served(twins.subject.server, MAINTENANCE + "MoveLeader")
    twins.run("move-leader 1234")


def test_alarms(twins: Twins) -> None:
    """spec/tools.md test case 25."""
    twins.run("alarm list", "alarm disarm")
    for ctl in twins.both:
        driver = Driver(ctl.server.endpoint)
        raise_alarm = rpc.AlarmRequest(action=1, memberID=77, alarm=rpc.NOSPACE)
        driver.do_call(MAINTENANCE + "Alarm", raise_alarm.SerializeToString())
        driver.close()
    twins.run(
        "alarm list", "put alarm/a 1", "lease grant 50", "get alarm/a", "alarm disarm", "alarm list"
    )
    twins.run("put alarm/a 1")


def test_checking_how_much_fits(fresh: Twins) -> None:
    """`check datascale` reads the resident memory off /metrics (spec/observability.md §2.7)."""
    told = []
    for ctl in fresh.both:
        answer = ctl.run("check datascale --load s --auto-compact --auto-defrag")
        told.append((answer.status, re.sub(r"\r[^\n]*", "", answer.stdout), answer.stderr))
    assert told[0] == told[1]
    assert "PASS: Approximate system memory used : SIZE" in told[0][1]
    fresh.run("get --prefix /etcdctl-check")


def test_defragmentation(fresh: Twins) -> None:
    fresh.run("put a 1", "put a 2", "compaction 3 --physical", "defrag", "get a", "endpoint hashkv")


def test_locks(fresh: Twins) -> None:
    """spec/tools.md test case 21: the second locker waits for the first."""
    fresh.run("lock l1 -- sh -c 'echo got $ETCD_LOCK_KEY; exit 3'", "lock l1 true")
    for ctl in fresh.both:
        first = ctl.popen("lock --ttl 600 l2")
        second = None
        try:
            wait_for_output(first, b"l2/", SECONDS_MAX)
            second = ctl.popen("lock --ttl 600 l2")
            wait_until(
                lambda c=ctl: c.run("get l2/ --prefix --keys-only").stdout.count("l2/") == 2,
                SECONDS_MAX,
                "a waiter",
            )
            assert second.poll() is None
            ctl.interrupt(first)
            wait_for_output(second, b"l2/", SECONDS_MAX)
            # The first one's lease is left to expire (spec/concurrency.md case 22).
            assert len(re.findall("^[0-9a-f]{16}$", listed(ctl, "lease list"), re.M)) >= 2
        finally:
            for process in (first, second):
                if process is not None:
                    ctl.interrupt(process)


def listed(ctl: Ctl, command: str) -> str:
    """As it was printed, ids and all."""
    process = ctl.popen(command)
    return process.communicate(timeout=SECONDS_MAX)[0].decode()


def test_an_election_that_somebody_listens_to(fresh: Twins) -> None:
    """spec/concurrency.md case 23: whoever listens hears of the next leader as well."""
    for ctl in fresh.both:
        with contextlib.ExitStack() as ends:

            def started(command: str, ctl: Ctl = ctl, ends: contextlib.ExitStack = ends) -> Any:
                process = ctl.popen(command)
                ends.callback(ctl.interrupt, process)
                return process

            first = started("elect e2 p1")
            wait_for_output(first, b"p1\n", SECONDS_MAX)
            listening = started("elect -l e2")
            told = wait_for_output(listening, b"p1\n", SECONDS_MAX)
            started("elect e2 p2")
            wait_until(
                lambda c=ctl: c.run("get e2/ --prefix --keys-only").stdout.count("e2/") == 2,
                SECONDS_MAX,
                "a second candidate",
            )
            ctl.interrupt(first)
            told += wait_for_output(listening, b"p2\n", SECONDS_MAX)
            assert ctl.level(told) == "e2/LEASE\np1\ne2/LEASE\np2\n"


def test_elections(fresh: Twins) -> None:
    """spec/tools.md test case 22."""
    for ctl in fresh.both:
        leader = ctl.popen("elect e1 p1")
        try:
            told = wait_for_output(leader, b"p1\n", SECONDS_MAX)
            assert ctl.level(told) == "e1/LEASE\np1\n"
            assert ctl.until("elect -l e1", "p1\n").stdout == "e1/LEASE\np1\n"
        finally:
            ctl.interrupt(leader)
        wait_until(
            lambda c=ctl: not c.run("get e1/ --prefix").stdout, SECONDS_MAX, "the leader resigned"
        )


def test_mirror(fresh: Twins) -> None:
    """spec/tools.md test case 18, onto a second prefix of the same member."""
    fresh.run("put mirror/a 1", "put mirror/b 2")
    for ctl in fresh.both:
        target = ctl.server.endpoint
        process = ctl.popen(f"make-mirror --prefix mirror/ --dest-prefix copy/ {target}")

        def copied(ctl: Ctl = ctl) -> str:
            return ctl.run("get copy/ --prefix").stdout

        try:
            wait_until(lambda: copied() == "copy/a\n1\ncopy/b\n2\n", SECONDS_MAX, "the base copy")
            ctl.run("put mirror/c 3")
            ctl.run("del mirror/a")
            wait_until(lambda: copied() == "copy/b\n2\ncopy/c\n3\n", SECONDS_MAX, "later changes")
        finally:
            ctl.interrupt(process)


def test_snapshot_moves_to_a_real_etcd(fresh: Twins, tmp_path: Path) -> None:
    """design.md D11: a backup of Keydeck restores into etcd, with the same contents and hash."""
    skip_unless_served(fresh.subject.server, MAINTENANCE + "Snapshot")
    fresh.run("put snapshot/a 1", "put snapshot/a 2", "del snapshot/none")
    hashes = []
    for number, ctl in enumerate(fresh.both):
        path = tmp_path / f"{number}.db"
        saved = ctl.run(f"snapshot save {path}")
        assert saved.status == 0, saved
        assert path.stat().st_size % 512 == 32
        status = ctl.run(f"snapshot status {path} -w fields")
        assert status.status == 0, status
        revision = fresh.revision()
        assert f'"Revision" : {revision}\n' in status.stdout
        hashes.append(_hash_after_restore(ctl, path, tmp_path / f"restored-{number}"))
    assert hashes[0] == hashes[1]


def _hash_after_restore(ctl: Ctl, snapshot: Path, data: Path) -> tuple[int, bytes]:
    """Restore with etcdctl, start a real etcd on it: HashKV and all keys."""
    release = require(find_etcd35(), "3.5")
    server = etcd_server(release, data / "data")
    data.mkdir()
    peer = "http://127.0.0.1:1"
    restored = ctl.run(
        f"snapshot restore {snapshot} --data-dir {data / 'data'} --name default"
        f" --initial-cluster default={peer} --initial-advertise-peer-urls {peer}"
    )
    assert restored.status == 0, restored
    with running(server):
        driver = Driver(server.endpoint)
        hashed = rpc.HashKVResponse.FromString(driver.do_call(MAINTENANCE + "HashKV", b"")[2])
        read = rpc.RangeRequest(key=b"\0", range_end=b"\0").SerializeToString()
        reply = rpc.RangeResponse.FromString(driver.do_call(KV + "Range", read)[2])
        driver.close()
    reply.ClearField("header")
    return hashed.hash, reply.SerializeToString()


def test_refusals_that_need_no_server(twins: Twins) -> None:
    """Argument errors and the version: the client's own, but they must not hang on the server."""
    twins.run("version", "get a b --prefix", "bogus", "del", "lease revoke zz")
