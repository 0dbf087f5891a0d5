"""Looking into snapshots, ours and a real etcd's, and taking single keys out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.urls import reverse

from console.gateway import Reader, backups
from console.gateway.snapshots import BackupError, SnapshotStream
from console.keys.paging import prefix_range
from console.maintenance import backup_index, jobs, open_job, work
from console.maintenance.archive import ArchiveError
from console.maintenance.backup_index import Entry, build, index_path
from console.maintenance.open_job import file_of
from console.models import AuditRow, Job
from console.roles import Role
from kvserver.client.backup import backup_record, backup_records
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store, browser_of, make_account
from tests.console.test_overview import plain, sampler_forgets

ON_EVERY_SERVER = True


@pytest.fixture(autouse=True)
def directory(settings, tmp_path, monkeypatch):
    sampler_forgets()
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))
    settings.SNAPSHOT_DIR = tmp_path / "kept"
    (settings.SNAPSHOT_DIR / "one").mkdir(parents=True)
    return settings.SNAPSHOT_DIR / "one"


@pytest.fixture
def olga(cluster):
    return make_account("olga", cluster, Role.OPERATOR)


def taken(cluster, directory: Path, name: str = "x.db") -> Path:
    """A snapshot of the cluster in its directory, as if somebody had laid it there."""
    [member], _ = Reader(cluster).members()
    path = directory / name
    path.write_bytes(b"".join(SnapshotStream(Reader(cluster), member)))
    return path


def listing(store: Store) -> dict[bytes, bytes]:
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")
    answer = store.client.read(lambda s: s.kv.Range, request, CALL_SECONDS_MAX)
    return {kv.key: kv.value for kv in answer.kvs}


def test_the_records_of_a_file_are_the_stores_own(cluster, store, prefix, directory) -> None:
    """Many enough for branch pages; overwritten, deleted and put again."""
    for i in range(300):
        store.put(prefix + b"%03d" % (i % 200), b"v%d" % i * 40)
    for i in range(0, 200, 7):
        store.delete(prefix + b"%03d" % i)
    store.put(prefix + b"000", b"again")
    store.put(prefix + b"empty", b"")
    expected = listing(store)
    path = str(taken(cluster, directory))
    places: dict[bytes, bytes] = {}
    last = 0
    for page in backup_records(path):
        for record in page:
            assert record.revision >= last
            last = record.revision
            if record.is_tombstone:
                places.pop(record.kv.key, None)
            else:
                places[record.kv.key] = record.place
    assert places.keys() == expected.keys()
    for key, place in places.items():
        found = backup_record(path, place)
        assert found is not None and found.kv.value == expected[key]
    assert backup_record(path, b"\0" * 17) is None
    assert backup_record(path, b"\xff" * 17) is None
    assert last == store.revision()


def test_what_is_no_backup_says_so(directory) -> None:
    path = directory / "text.db"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(BackupError):
        list(backups.read(str(path)))


def entry(key: bytes, revision: int) -> Entry:
    return Entry(key, b"%017d" % revision, revision, revision, 1, 0, 5)


def test_an_index_holds_what_was_live(tmp_path) -> None:
    snapshot = tmp_path / "a.db"
    snapshot.write_bytes(b"x")
    told: list[int] = []
    pages = [
        [(2, entry(b"/a", 2), b"/a"), (3, entry(b"/b", 3), b"/b"), (4, entry(b"\0", 4), b"\0")],
        [(5, None, b"/a"), (6, entry(b"/b", 6), b"/b"), (7, entry(b"\xff", 7), b"\xff")],
    ]
    path = index_path(snapshot)
    build(path, pages, told.append)
    assert told == [3, 6]
    found = backup_index.facts(path)
    assert (found.revision, found.records, found.keys) == (7, 6, 3)
    rows, count = backup_index.page_of(path, prefix_range(b""), None, 2)
    assert ([row.key for row in rows], count) == ([b"\0", b"/b"], 3)
    rows, _ = backup_index.page_of(path, prefix_range(b""), b"/b", 2)
    assert [row.key for row in rows] == [b"\xff"]
    assert backup_index.page_of(path, prefix_range(b"/"), None, 9)[1] == 1
    assert backup_index.entry_of(path, b"/b") == entry(b"/b", 6)
    assert backup_index.entry_of(path, b"/a") is None
    snapshot.write_bytes(b"xy")  # another file of the same name has another index
    assert not index_path(snapshot).exists()
    build(index_path(snapshot), pages, told.append)
    assert [one.name for one in path.parent.iterdir()] == [index_path(snapshot).name]


def test_an_index_that_was_not_finished_is_not_there(tmp_path) -> None:
    snapshot = tmp_path / "a.db"
    snapshot.write_bytes(b"x")

    def stop(records: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(index_path(snapshot), [[(2, entry(b"/a", 2), b"/a")]], stop)
    assert list(index_path(snapshot).parent.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x.db", "one/x.db", "/etc/passwd", ".index", "gone.db"])
def test_a_name_is_never_a_way_to_another_file(cluster, olga, name: str) -> None:
    with pytest.raises(ArchiveError):
        file_of(cluster, name)
    url = reverse("browse_snapshot", args=["one"])
    browser = browser_of(olga)
    assert browser.get(url, {"file": name}).status_code == 404
    assert browser.post(url, {"file": name}).status_code == 404


def test_from_the_file_to_a_key_put_back(cluster, olga, store, prefix, directory) -> None:
    changed, deleted, same = prefix + b"changed", prefix + b"deleted", prefix + b"same"
    for key in (changed, deleted, same):
        store.put(key, b"then <b>\n")
    taken(cluster, directory)
    mod = store.put(changed, b"now\n")
    store.delete(deleted)
    browser = browser_of(olga)
    assert "x.db" in browser.get(reverse("snapshots", args=["one"])).text
    url = reverse("browse_snapshot", args=["one"])
    assert "Not opened yet" in browser.get(url, {"file": "x.db"}).text
    browser.post(url, {"file": "x.db"})
    job = Job.objects.get()
    assert (job.state, job.detail) == ("done", "")
    assert AuditRow.objects.get().action == "open snapshot"
    text = browser.get(url, {"file": "x.db", "prefix": prefix.decode()}).text
    assert "1 – 3 of 3" in plain(text)
    one = reverse("snapshot_key", args=["one"])
    at = f"{one}?file=x.db&key={changed.decode()}"
    text = browser.get(at).text
    assert "then &lt;b&gt;" in text and "now" in text
    answer = browser.post(at, {"base": mod - 1})
    assert answer.status_code == 409
    assert "Nothing was written: the key changed." in plain(answer.text)
    assert store.get(changed).value == b"now\n"
    assert browser.post(at, {"base": mod}).status_code == 302
    assert store.get(changed).value == b"then <b>\n"
    row = AuditRow.objects.first()
    assert (row.action, row.outcome) == ("take key out of snapshot", "done")
    assert "txn" in row.command
    assert browser.post(f"{one}?file=x.db&key={deleted.decode()}", {"base": 0}).status_code == 302
    assert store.get(deleted).value == b"then <b>\n"
    assert "byte for byte" in browser.get(f"{one}?file=x.db&key={same.decode()}").text
    assert browser.get(f"{one}?file=x.db&key=/no/such").status_code == 404


def test_the_lease_a_key_has_now_is_kept(cluster, olga, store, prefix, directory) -> None:
    """Trap 1: putting a value back is not a reason to lose a lease."""
    store.put(prefix, b"then")
    taken(cluster, directory)
    lease = store.grant_lease(600)
    mod = store.put(prefix, b"now", lease)
    browser = browser_of(olga)
    browser.post(reverse("browse_snapshot", args=["one"]), {"file": "x.db"})
    at = reverse("snapshot_key", args=["one"]) + f"?file=x.db&key={prefix.decode()}"
    assert "Keep the lease the key has now" in browser.get(at).text
    browser.post(at, {"base": mod, "lease": "keep"})
    assert (store.get(prefix).value, store.get(prefix).lease) == (b"then", lease)


def test_pages_go_on_where_the_last_one_ended(cluster, olga, store, prefix, directory) -> None:
    for i in range(130):
        store.put(prefix + b"%03d" % i, b"x")
    taken(cluster, directory)
    browser = browser_of(olga)
    url = reverse("browse_snapshot", args=["one"])
    browser.post(url, {"file": "x.db"})
    text = browser.get(url, {"file": "x.db", "prefix": prefix.decode()}).text
    assert "1 – 100 of 130" in plain(text)
    more = {"after": prefix.decode() + "099", "seen": "100"}
    text = browser.get(url, {"file": "x.db", "prefix": prefix.decode()} | more).text
    assert "101 – 130 of 130" in plain(text)
    assert (prefix + b"100").decode() in text and (prefix + b"099").decode() not in text


def test_a_damaged_file_is_not_opened(cluster, olga, store, prefix, directory) -> None:
    store.put(prefix, b"x" * 5000)
    path = taken(cluster, directory)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    browser = browser_of(olga)
    browser.post(reverse("browse_snapshot", args=["one"]), {"file": "x.db"})
    job = Job.objects.get()
    assert job.state == "stopped"
    assert "It cannot be opened: expected sha256" in job.detail
    assert not index_path(path).exists()


def test_opening_is_stopped_by_its_button_and_by_a_restart(
    cluster, olga, store, prefix, directory, monkeypatch
) -> None:
    monkeypatch.setattr(jobs, "TELL_SECONDS", 0.0)
    store.put(prefix, b"x")
    path = taken(cluster, directory)

    def asked(file: str):
        for page in backups.read(file):
            Job.objects.update(abort_asked=True)
            yield page

    job = jobs.create_for(cluster, olga, Job.Kind.OPEN, open_job.stages("x.db"))
    work.execute(job.pk, open_job.Hands(asked))
    job.refresh_from_db()
    assert (job.state, job.detail) == ("aborted", "Stopped as asked.")
    assert not index_path(path).exists()
    job = jobs.create_for(cluster, olga, Job.Kind.OPEN, open_job.stages("x.db"))
    job.steps[0]["state"] = "running"
    job.save()
    jobs.mark_interrupted()
    job.refresh_from_db()
    assert (job.state, job.steps[0]["state"]) == ("interrupted", "interrupted")
