"""Backups move both ways between Keydeck and etcd (design.md D11; spec/bbolt.md §6).

What a member tells after a restore equals what the saved one told: keys, revisions, leases with
their keys, users, roles, alarms and HashKV; and it goes on living.
"""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from kvserver.fs import RealFileSystem
from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from kvserver.raft.codec import decode_conf_change
from kvserver.snap import Snapshotter
from kvserver.wal import Wal, decode_metadata
from tests.compat.conftest import StartMember
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import (
    ServerProcess,
    etcd_server,
    free_port,
    keydeck_server,
    running,
    wait_until,
)
from tests.support.snapshots import (
    change,
    etcdutl,
    fill,
    kvutl,
    restore_arguments,
    run_tool,
    save,
    told,
)

pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]


def restore_real(release: EtcdRelease, snapshot: Path, data: Path) -> ServerProcess:
    data.parent.mkdir(parents=True)
    done = run_tool([etcdutl(release), *restore_arguments(snapshot, data)])
    assert done.returncode == 0, done.stderr
    return etcd_server(release, data)


def restore_keydeck(snapshot: Path, data: Path) -> ServerProcess:
    data.parent.mkdir(parents=True)
    done = kvutl(*restore_arguments(snapshot, data))
    assert done.returncode == 0, done.stderr
    return keydeck_server(data)


def raft_term(server: ServerProcess) -> int:
    with grpc.insecure_channel(server.endpoint) as channel:
        status = services.MaintenanceStub(channel).Status(rpc.StatusRequest(), timeout=60)
    return int(status.raftTerm)


def figures(tool: Path | None, snapshot: Path) -> dict[str, object]:
    """What a tool says of a file, the version aside, which 3.4 and 3.5 do not tell."""
    arguments = ["snapshot", "status", snapshot, "-w", "json"]
    done = run_tool([tool, *arguments]) if tool else kvutl(*arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    found.pop("version", None)
    return found


def test_a_backup_of_keydeck_becomes_a_real_etcd(
    release: EtcdRelease, start_subject: StartMember, tmp_path: Path
) -> None:
    """Case 5; the tools see in the file what ours sees, and the etcd on it can be changed."""
    subject = start_subject()
    fill(subject)
    snapshot = tmp_path / "keydeck.db"
    messages = save(subject, snapshot)
    saved = told(subject)
    assert {message.version for message in messages} == {"3.7.0"}  # N2
    assert snapshot.stat().st_size % 512 == 32  # N4, case 22
    assert figures(None, snapshot) == figures(etcdutl(release), snapshot)
    with running(restore_real(release, snapshot, tmp_path / "restored" / "data")) as restored:
        assert told(restored) == saved
        change(restored)
        change_again = told(restored)
        assert change_again["revision"] > saved["revision"]


def test_a_backup_of_a_real_etcd_becomes_keydeck(
    release: EtcdRelease, start_etcd: StartMember, tmp_path: Path
) -> None:
    """Case 6: and Keydeck's backup of that becomes a real etcd again."""
    source = start_etcd(release)
    fill(source)
    snapshot = tmp_path / "etcd.db"
    save(source, snapshot)
    saved = told(source)
    assert figures(None, snapshot) == figures(etcdutl(release), snapshot)
    with running(restore_keydeck(snapshot, tmp_path / "keydeck" / "data")) as restored:
        assert told(restored) == saved
        back = tmp_path / "back.db"
        save(restored, back)
    with running(restore_real(release, back, tmp_path / "again" / "data")) as again:
        assert told(again) == saved


def test_a_restored_keydeck_goes_on(
    release35: EtcdRelease, start_etcd: StartMember, tmp_path: Path
) -> None:
    """storage.md §8 case 21: term 2 after the start; writes, compactions, restarts go on, and the
    same steps on a real etcd lead to the same hash."""
    source = start_etcd(release35)
    fill(source)
    snapshot = tmp_path / "etcd.db"
    save(source, snapshot)
    with running(restore_keydeck(snapshot, tmp_path / "keydeck" / "data")) as restored:
        assert raft_term(restored) == 2
        change(restored)
        after = told(restored)
        restored.kill()
        restored.start()
        assert told(restored) == after
    with running(restore_real(release35, snapshot, tmp_path / "etcd" / "data")) as reference:
        change(reference)
        assert told(reference) == after


def test_the_database_of_a_stopped_etcd_restores(
    release: EtcdRelease, start_etcd: StartMember, tmp_path: Path
) -> None:
    """F7, F17: no digest, pages that nothing refers to, a file longer than its image. While the
    member runs its file is refused."""
    source = start_etcd(release)
    fill(source)
    saved = told(source)
    database = source.data_dir / "member" / "snap" / "db"
    refused = kvutl("snapshot", "status", database)
    assert refused.returncode == 1 and "in use by a running member" in refused.stderr
    source.terminate()
    arguments = restore_arguments(database, tmp_path / "data")
    refused = kvutl(*arguments)
    assert (refused.returncode, refused.stderr) == (
        1,
        "Error: snapshot missing hash but --skip-hash-check=false\n",
    )
    done = kvutl(*arguments, "--skip-hash-check")
    assert done.returncode == 0, done.stderr
    with running(keydeck_server(tmp_path / "data")) as restored:
        assert told(restored) == saved


def test_three_members_from_one_file_agree(
    release35: EtcdRelease, start_subject: StartMember, tmp_path: Path
) -> None:
    """spec/bbolt.md R6: and are one cluster of real etcds."""
    subject = start_subject()
    fill(subject)
    snapshot = tmp_path / "keydeck.db"
    save(subject, snapshot)
    saved = told(subject)
    names = ("n1", "n2", "n3")
    peers = {name: free_port() for name in names}
    cluster = ",".join(f"{name}=http://127.0.0.1:{port}" for name, port in peers.items())
    members = []
    try:
        for name, port in peers.items():
            data = tmp_path / name
            words = ["snapshot", "restore", snapshot, "--name", name, "--data-dir", data]
            words += ["--initial-cluster", cluster]
            words += ["--initial-advertise-peer-urls", f"http://127.0.0.1:{port}"]
            done = run_tool([etcdutl(release35), *words])
            assert done.returncode == 0, done.stderr
            member = etcd_server(
                release35, data, name=name, peer_port=port, initial_cluster=cluster
            )
            members.append(member)
            member.spawn()
        for member in members:
            member.wait_ready()
            assert told(member) == saved
    finally:
        for member in members:
            member.terminate()


def test_one_changed_byte_is_refused_alike(
    release35: EtcdRelease, start_subject: StartMember, tmp_path: Path
) -> None:
    """storage.md §8 case 20."""
    subject = start_subject()
    fill(subject)
    snapshot = tmp_path / "keydeck.db"
    save(subject, snapshot)
    content = bytearray(snapshot.read_bytes())
    content[-5000] ^= 1
    snapshot.write_bytes(content)
    theirs = run_tool([etcdutl(release35), *restore_arguments(snapshot, tmp_path / "a")])
    ours = kvutl(*restore_arguments(snapshot, tmp_path / "b"))
    assert (theirs.returncode, ours.returncode) == (1, 1)
    assert ours.stderr == theirs.stderr[theirs.stderr.index("Error: expected sha256") :]
    assert not (tmp_path / "b").exists()


def test_the_log_of_a_restore_is_etcds_own(
    release35: EtcdRelease, start_subject: StartMember, tmp_path: Path
) -> None:
    """spec/bbolt.md R4: three members, the same conf changes in the same order, the same ids."""
    subject = start_subject()
    snapshot = tmp_path / "keydeck.db"
    save(subject, snapshot)
    arguments = ["snapshot", "restore", snapshot, "--name", "n2", "--initial-cluster-token", "t"]
    urls = (
        "n1=http://127.0.0.1:1,n2=http://127.0.0.1:2,n2=http://127.0.0.1:22,n3=http://127.0.0.1:3"
    )
    arguments += ["--initial-cluster", urls]
    arguments += ["--initial-advertise-peer-urls", "http://127.0.0.1:2,http://127.0.0.1:22"]
    for tool, place in ((etcdutl(release35), "theirs"), (None, "ours")):
        words = [*arguments, "--data-dir", tmp_path / place, "--wal-dir", tmp_path / f"{place}.wal"]
        done = run_tool([tool, *words]) if tool else kvutl(*words)
        assert done.returncode == 0, done.stderr
    theirs, ours = (read_log(tmp_path / place) for place in ("theirs", "ours"))
    assert theirs == ours


def read_log(data: Path) -> tuple[object, ...]:
    fs = RealFileSystem()
    wal = Wal.open(fs, str(data) + ".wal", (0, 0))
    contents = wal.read_all()
    wal.close()
    (snapshot,) = Snapshotter(fs, str(data / "member" / "snap")).newest_first()
    return (
        decode_metadata(contents.metadata),
        contents.hard_state,
        [(entry.index, entry.term, decode_conf_change(entry)) for entry in contents.entries],
        contents.snapshots,
        (snapshot.index, snapshot.term, snapshot.conf_state),
    )


def test_a_bumped_restore_goes_on_alike(
    release35: EtcdRelease, start_subject: StartMember, tmp_path: Path
) -> None:
    """tools.md case 17: revisions go on a million later, all before are compacted; a real etcd
    restored from a backup of that tells the same."""
    subject = start_subject()
    fill(subject)
    snapshot, bumped = tmp_path / "keydeck.db", tmp_path / "bumped.db"
    save(subject, snapshot)
    saved = told(subject)
    data = tmp_path / "bumped" / "data"
    data.parent.mkdir()
    words = [*restore_arguments(snapshot, data), "--bump-revision", "1000000"]
    assert kvutl(*words).returncode == 1
    assert kvutl(*words, "--mark-compacted").returncode == 0
    with running(keydeck_server(data)) as restored:
        found = told(restored)
        assert found["revision"] == found["compacted"] == saved["revision"] + 1_000_000
        assert found["keys"] == saved["keys"]
        save(restored, bumped)
    with running(restore_real(release35, bumped, tmp_path / "etcd" / "data")) as real:
        assert told(real) == found


def ctl(release: EtcdRelease, server: ServerProcess, *words: object) -> tuple[int, str]:
    done = run_tool([release.etcdctl, f"--endpoints={server.endpoint}", *words])
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("source", ["keydeck", "etcd"])
def test_passwords_and_rights_move_too(
    release35: EtcdRelease,
    start_subject: StartMember,
    start_etcd: StartMember,
    tmp_path: Path,
    source: str,
) -> None:
    """With auth on: only an admin may save a backup (spec/maintenance.md P1), and whoever could
    sign in before can sign in after."""
    server = start_subject() if source == "keydeck" else start_etcd(release35)
    for line in (
        "user add root:top",
        "user grant-role root root",
        "role add reader",
        "role grant-permission reader read --prefix pub/",
        "user add rita:secret",
        "user grant-role rita reader",
        "put pub/a 1",
        "auth enable",
    ):
        code, output = ctl(release35, server, *line.split())
        assert code == 0, (line, output)
    snapshot = tmp_path / "auth.db"
    code, output = ctl(release35, server, "--user=rita:secret", "snapshot", "save", snapshot)
    assert code != 0 and "permission denied" in output
    code, output = ctl(release35, server, "--user=root:top", "snapshot", "save", snapshot)
    assert code == 0, output
    data = tmp_path / "restored" / "data"
    if source == "keydeck":
        restored = restore_real(release35, snapshot, data)
    else:
        restored = restore_keydeck(snapshot, data)
    restored.spawn()
    try:
        wait_until(lambda: "is healthy" in health(release35, restored), 180, "it signs root in")
        assert ctl(release35, restored, "--user=rita:secret", "get", "pub/a")[1] == "pub/a\n1\n"
        for user, words in (("rita:wrong", "get pub/a"), ("rita:secret", "get other")):
            assert ctl(release35, restored, f"--user={user}", *words.split())[0] != 0
        assert ctl(release35, restored, "get", "pub/a")[0] != 0
    finally:
        restored.terminate()


def health(release: EtcdRelease, server: ServerProcess) -> str:
    return ctl(release, server, "--user=root:top", "endpoint", "health")[1]
