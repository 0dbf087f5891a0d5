"""`kvutl snapshot` as etcdutl has it (spec/tools.md §3; spec/bbolt.md §3)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kvserver.cli.kvutl import run
from kvserver.cli.printing import human_size, table
from kvserver.datadir import DataDir, DataDirError, prepare
from kvserver.fs import RealFileSystem
from kvserver.interchange.reader import Pair
from kvserver.interchange.restore import STAGING_NAME
from kvserver.interchange.writer import write_image
from kvserver.membership import cluster_id, member_id
from kvserver.mvcc.backend.api import Pair as Row
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import TABLES
from kvserver.raft import HardState
from kvserver.snap import Snapshotter
from kvserver.wal import Wal, decode_metadata
from tests.interchange.images import revision, store_image
from tests.support.snapshots import key_value

URL = "http://localhost:2380"
LOCAL = member_id((URL,), "etcd-cluster")
RECORDS: list[Pair] = [
    (revision(2), key_value(b"a", b"1", 2)),
    (revision(3, 1), key_value(b"b", b"2", 3)),
    (revision(4) + b"t", key_value(b"a", b"", 0, 0)),
]
LEASES: list[Pair] = [((-1).to_bytes(8, signed=True), b"\x08\x01"), ((1).to_bytes(8), b"\x08\x02")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(place: Path, tables: Mapping[str, list[Pair]] | None = None) -> str:
    """A snapshot file, as a client saves it."""
    image = store_image(tables or {})
    return saved_image(place, image)


def saved_image(place: Path, image: bytes) -> str:
    (place / "s.db").write_bytes(image + hashlib.sha256(image).digest())
    return "s.db"


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 1) -> str:
    assert run(words) == code
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.removeprefix("Error: ").removesuffix("\n")


def restored_tables(root: str) -> dict[str, list[Row]]:
    backend = LmdbBackend(os.path.join(root, "member", "snap", "db"), 1 << 30)
    try:
        view = backend.open_snapshot()
        rows = {table: [row for rows in view.items(table) for row in rows] for table in TABLES}
        view.close()
        return rows
    finally:
        backend.close()


# -- status


def test_status_in_every_format(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of vector F; the figures are those etcd's tools tell (S2)."""
    file = saved(place)
    shown = {}
    for name in ("simple", "json", "fields", "table"):
        assert run(["snapshot", "status", file, "-w", name]) == 0
        shown[name] = capsys.readouterr().out
    assert shown["simple"] == "e87befcf, 0, 5, 12 kB, 3.6.0\n"
    assert shown["json"] == (
        '{"hash":3900436431,"revision":0,"totalKey":5,"totalSize":12288,"version":"3.6.0"}\n'
    )
    assert shown["fields"] == (
        '"Hash" : 3900436431\n"Revision" : 0\n"Keys" : 5\n"Size" : 12288\n"Version" : 3.6.0\n'
    )
    assert shown["table"] == (
        "+----------+----------+------------+------------+---------+\n"
        "|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE | VERSION |\n"
        "+----------+----------+------------+------------+---------+\n"
        "| e87befcf |        0 |          5 |      12 kB |   3.6.0 |\n"
        "+----------+----------+------------+------------+---------+\n"
    )
    assert run(["-w", "json", "snapshot", "status", file]) == 0
    assert capsys.readouterr().out == shown["json"]


def test_status_needs_no_digest_and_does_not_look_at_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F17."""
    image = store_image({"key": RECORDS})
    for content in (image, image + bytes(32)):
        (place / "f").write_bytes(content)
        assert run(["snapshot", "status", "f"]) == 0
        assert ", 4, 8, 12 kB, 3.6.0\n" in capsys.readouterr().out


def test_bad_arguments(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts and exit codes of etcdutl (spec/tools.md §1)."""
    file = saved(place)
    one = "requires exactly one argument"
    assert refused(capsys, "snapshot", "status", code=128) == f"snapshot status {one}"
    assert refused(capsys, "snapshot", "status", "a", "b", code=128) == f"snapshot status {one}"
    assert refused(capsys, "snapshot", "restore", code=128) == f"snapshot restore {one}"
    status = ("snapshot", "status")
    assert refused(capsys, *status, file, "-w", "x", code=4) == "unsupported output format"
    words = (*status, file, "-w", "protobuf")
    assert refused(capsys, *words, code=4) == "protobuf not supported as output format"
    assert refused(capsys, *status, "none") == "stat none: no such file or directory"
    (place / "text").write_text("hello " * 1000)
    assert refused(capsys, *status, "text") == "invalid database"
    assert refused(capsys, *status, file, "--bogus") == "unrecognized arguments: --bogus"
    assert refused(capsys, "snapshot", "restore", "none") == "open none: no such file or directory"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["snapshot"]) == run([]) == run(["version"]) == 0
    assert "restore" in (told := capsys.readouterr().out) and "kvutl version: " in told


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (12288, "12 kB"),
     (20480, "20 kB"), (1_550_000, "1.6 MB"), (99_949, "100 kB"), (413_000_000, "413 MB")],
)  # fmt: skip
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_size(size) == text


def test_a_table_fits_its_widest_cell() -> None:
    assert table(("A", "BCD"), [("long", "1")]) == (
        "+------+-----+\n|  A   | BCD |\n+------+-----+\n| long |   1 |\n+------+-----+\n"
    )


# -- restore


def test_a_restore_founds_a_new_cluster_on_the_old_data(place: Path) -> None:
    """R2, R4 and storage.md §4.6: keys, leases, auth and alarms byte for byte; membership, index,
    term and configuration new; the log with one conf change, the snapshot at index 1."""
    tables: dict[str, list[Pair]] = {
        "key": RECORDS,
        "lease": LEASES,
        "alarm": [(b"\x08\x05\x10\x01", b"")],
        "authUsers": [(b"u", b"\x0a\x01u")],
        "authRoles": [(b"r", b"\x0a\x01r")],
        "members": [(b"1", b'{"id":1,"peerURLs":["http://old"]}')],
        "members_removed": [(b"2", b"removed")],
        "meta": [
            (b"confState", b"junk"),
            (b"consistent_index", (99).to_bytes(8)),
            (b"finishedCompactRev", revision(2)),
            (b"scheduledCompactRev", revision(3)),
            (b"storageVersion", b"3.6.0"),
            (b"term", (7).to_bytes(8)),
        ],
    }
    assert run(["snapshot", "restore", saved(place, tables), "--data-dir", "d"]) == 0
    assert sorted(os.listdir("d")) == ["member"]
    found = restored_tables("d")
    for table_name in ("key", "alarm", "authUsers", "authRoles", "auth", "cluster"):
        assert found[table_name] == tables.get(table_name, found[table_name])
    assert found["lease"] == sorted(LEASES)
    assert found["auth"] == [(b"authRevision", (1).to_bytes(8))]
    assert found["cluster"] == [(b"clusterVersion", b"3.6.0")]
    member = b'{"id":%d,"peerURLs":["http://localhost:2380"],"name":"default"}' % LOCAL
    assert found["members"] == [(b"%x" % LOCAL, member)]
    assert found["members_removed"] == []
    assert dict(found["meta"]) == {
        b"confState": b'{"voters":[%d],"learners":[],"voters_outgoing":[],"learners_next":[],'
        b'"auto_leave":false}' % LOCAL,
        b"consistent_index": (1).to_bytes(8),
        b"finishedCompactRev": revision(2),
        b"scheduledCompactRev": revision(3),
        b"term": (1).to_bytes(8),
    }
    fs = RealFileSystem()
    wal = Wal.open(fs, "d/member/wal", (0, 0))
    contents = wal.read_all()
    wal.close()
    metadata = decode_metadata(contents.metadata)
    assert (metadata.node_id, metadata.cluster_id) == (LOCAL, cluster_id([LOCAL]))
    assert contents.hard_state == HardState(1, LOCAL, 1)
    assert [(entry.index, entry.term) for entry in contents.entries] == [(1, 1)]
    (snapshot,) = Snapshotter(fs, "d/member/snap").newest_first()
    assert (snapshot.index, snapshot.term, snapshot.conf_state.voters) == (1, 1, (LOCAL,))


def test_a_second_restore_and_a_used_directory_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """spec/tools.md trap 11; an empty directory is fine: a volume is mounted there."""
    file = saved(place)
    (place / "d").mkdir()
    assert run(["snapshot", "restore", file, "--data-dir", "d"]) == 0
    capsys.readouterr()
    text = 'data-dir "d" not empty or could not be read'
    assert refused(capsys, "snapshot", "restore", file, "--data-dir", "d") == text
    (place / "w").mkdir()
    (place / "w" / "x").touch()
    words = ("snapshot", "restore", file, "--data-dir", "e", "--wal-dir", "w")
    assert refused(capsys, *words) == 'wal-dir "w" not empty or could not be read'
    assert not (place / "e").exists()
    assert run(["snapshot", "restore", file]) == 0
    assert (place / "default.etcd" / "member").is_dir()


def test_a_log_directory_of_its_own(place: Path) -> None:
    file = saved(place)
    (place / "w").mkdir()
    for wal in ("w", "new/w"):
        data = f"data-{wal[0]}"
        words = ["snapshot", "restore", file, "--data-dir", data, "--wal-dir", wal]
        assert run(words) == 0
        assert any(name.endswith(".wal") for name in os.listdir(wal))
        assert not os.path.exists(f"{data}/member/wal")


@pytest.mark.parametrize("is_there", [False, True])
def test_a_refused_file_leaves_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], is_there: bool
) -> None:
    """One flipped byte (storage.md §8 case 20), no digest, a record that is none."""
    content = bytearray((place / saved(place, {"key": RECORDS})).read_bytes())
    content[9000] ^= 1
    (place / "flipped").write_bytes(content)
    (place / "raw").write_bytes(content[:-32])
    bad_record = [*RECORDS, (revision(9), b"\xff\xff")]
    os.rename(saved(place, {"key": bad_record}), "record")
    if is_there:
        (place / "d").mkdir()
        (place / "w").mkdir()
    words = ("--data-dir", "d", "--wal-dir", "w")
    restore = ("snapshot", "restore")
    assert refused(capsys, *restore, "flipped", *words).startswith("expected sha256 [")
    missing = "snapshot missing hash but --skip-hash-check=false"
    assert refused(capsys, *restore, "raw", *words) == missing
    told = refused(capsys, *restore, "record", *words)
    assert told == "the record of revision 9 is no KeyValue"
    for name in ("d", "w"):
        assert os.path.exists(name) is is_there
        assert not is_there or os.listdir(name) == []


def test_no_hash_check_on_request(place: Path) -> None:
    (place / "raw").write_bytes(store_image({"key": RECORDS}) + bytes(4096))
    for number, switch in enumerate(("--skip-hash-check", "--skip-hash-check=true")):
        assert run(["snapshot", "restore", switch, "raw", "--data-dir", f"d{number}"]) == 0
    assert run(["snapshot", "restore", "raw", "--skip-hash-check=false"]) == 1
    assert restored_tables("d0")["key"] == RECORDS


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"key": [(b"short", b"")]}, "the key bucket holds 73686f7274: no revision"),
        ({"key": [(bytes(8) + b"-" + bytes(8), b"")]}, "no revision"),
        ({"meta": [(b"finishedCompactRev", b"x")]}, "finishedCompactRev is 78: no revision"),
        ({"authUsers": [(b"A" * 512, b"")]}, "a key of 512 bytes that is no name"),
        ({"lease": [(b"A" * 512, b"")]}, "a key of 512 bytes that is no name"),
        ({"cluster": [(b"clusterVersion", b"99.0.0")]}, "a cluster of version 99.0.0"),
    ],
)
def test_what_a_server_could_not_start_from_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], tables: dict[str, list[Pair]], words: str
) -> None:
    """spec/bbolt.md §3.3: etcd restores these and dies at the start."""
    assert words in refused(capsys, "snapshot", "restore", saved(place, tables))


@pytest.mark.parametrize("missing", ["meta", "lease", "key", "members", "cluster", "auth"])
def test_a_missing_bucket_is_an_empty_one(place: Path, missing: str) -> None:
    """spec/bbolt.md §3.3, §6.10; unknown buckets and odd members are passed over (§3.2)."""
    tables: dict[str, list[Pair]] = {
        "key": RECORDS,
        "lease": [],
        "auth": [],
        "cluster": [],
        "meta": [(b"odd", b"odd")],
        "members": [(b"not hex", b"not json")],
        "unknown": [(b"a", b"b")],
    }
    del tables[missing]
    image = write_image([(name.encode(), tables[name]) for name in sorted(tables)])
    assert run(["snapshot", "restore", saved_image(place, image), "--data-dir", "d"]) == 0
    assert restored_tables("d")["key"] == tables.get("key", [])


def test_odd_contents_are_taken_in_stride(place: Path) -> None:
    """spec/bbolt.md §3.2: an empty record, a tombstone that comes first, a version that is none."""
    records: list[Pair] = [(revision(5) + b"t", key_value(b"x", b"", 0, 0)), (revision(1006), b"")]
    tables = {"key": records, "cluster": [(b"clusterVersion", b"junk")]}
    assert run(["snapshot", "restore", saved(place, tables), "--data-dir", "d"]) == 0
    found = restored_tables("d")
    assert (found["key"], found["cluster"]) == (records, [])


def test_a_bump_adds_a_record_and_schedules_its_compaction(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R5; neither flag without the other."""
    file = saved(place, {"key": RECORDS, "meta": [(b"finishedCompactRev", revision(2))]})
    restore = ("snapshot", "restore", file, "--data-dir", "d")
    assert "required" in refused(capsys, *restore, "--bump-revision", "9")
    assert "required" in refused(capsys, *restore, "--mark-compacted")
    assert "between" in refused(capsys, *restore, "--mark-compacted", "--bump-revision", "-9")
    assert run([*restore, "--bump-revision", "1000", "--mark-compacted"]) == 0
    found = restored_tables("d")
    assert found["key"] == [*RECORDS, (revision(1004), b"")]
    meta = dict(found["meta"])
    assert meta[b"scheduledCompactRev"] == revision(1004)
    assert meta[b"finishedCompactRev"] == revision(2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--name", "n1"), 'couldn\'t find local name "n1" in the initial cluster configuration'),
        (("--initial-cluster", "default=foo"), "URL scheme must be"),
        (("--initial-advertise-peer-urls", "foo"), "URL scheme must be"),
        (("--initial-cluster", "default=http://a:1"), "missing from --initial-advertise-peer-urls"),
        (("--initial-cluster", f"default={URL},b={URL}"), "the same URL twice"),
    ],
)
def test_clusters_that_cannot_be(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert told in refused(capsys, "snapshot", "restore", saved(place), *words)
    assert os.listdir(place) == ["s.db"]


def test_an_interrupted_restore_is_nothing_a_server_would_take(place: Path) -> None:
    """What a kill leaves: the staging directory only, and a log that a server refuses."""
    file = saved(place)
    assert run(["snapshot", "restore", file, "--data-dir", "d", "--wal-dir", "w"]) == 0
    os.mkdir("killed")
    os.mkdir(f"killed/{STAGING_NAME}")
    os.rename("d/member", f"killed/{STAGING_NAME}/member")
    with pytest.raises(DataDirError, match="belongs to no Keydeck data directory"):
        prepare(RealFileSystem(), DataDir.at("killed", "w"))
