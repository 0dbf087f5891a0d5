"""A backup of one's own opened in the console: bounded, streamed, verified, removed again."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils.timezone import now

from console.gateway.snapshots import SnapshotStream
from console.maintenance import scheduler, uploads, work
from console.models import AuditRow, Job
from console.overview.sampler import sampler
from console.roles import Role
from tests.console.conftest import Store, browser_of, make_account
from tests.console.test_overview import sampler_forgets

ON_EVERY_SERVER = True


@pytest.fixture
def directory(tmp_path: Path, settings) -> Path:
    settings.SNAPSHOT_DIR = tmp_path / "snapshots"
    return settings.SNAPSHOT_DIR


@pytest.fixture
def olga(cluster):
    return browser_of(make_account("olga", cluster, Role.OPERATOR))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))


@pytest.fixture
def backup(cluster, store: Store, prefix: bytes) -> bytes:
    """What `snapshot save` writes."""
    store.put(prefix + b"kept", b"in the backup")
    sampler_forgets()
    [row] = sampler.snapshot(cluster).health.rows
    from console.gateway import Reader

    return b"".join(SnapshotStream(Reader(cluster), row.member))


def send(browser, data: bytes, name: str = "my backup.db"):
    file = SimpleUploadedFile(name, data)
    return browser.post(reverse("upload_snapshot", args=["one"]), {"file": file})


def kept(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*/*") if path.is_file())


@pytest.mark.usefixtures("at_once")
def test_it_is_opened_and_a_key_taken_out_of_it(
    olga, backup, store, prefix: bytes, directory: Path
) -> None:
    store.delete(prefix + b"kept")
    answer = send(olga, backup)
    job = Job.objects.get()
    assert answer.headers["Location"] == reverse("job", args=["one", job.pk])
    assert (job.kind, job.state) == ("open", "done")
    [name] = kept(directory)
    assert uploads.is_upload(name) and name.endswith("-my-backup.db")
    assert (directory / "one" / name).stat().st_mode & 0o777 == 0o600
    listed = olga.get(reverse("browse_snapshot", args=["one"]), {"file": name})
    assert (prefix + b"kept").decode() in listed.text
    key = {"file": name, "key": (prefix + b"kept").decode()}
    shown = olga.get(reverse("snapshot_key", args=["one"]), key)
    assert "in the backup" in shown.text
    address = f"{reverse('snapshot_key', args=['one'])}?file={name}&key={key['key']}"
    assert olga.post(address, {"base": "0"}).status_code == 302
    assert store.get(prefix + b"kept").value == b"in the backup"
    row = AuditRow.objects.get(action="upload backup")
    assert row.target == name and f"{len(backup)} bytes" in row.detail


@pytest.mark.usefixtures("at_once")
def test_what_is_no_sound_backup_is_said_and_removed(olga, backup, directory: Path) -> None:
    spoilt = bytearray(backup)
    spoilt[len(spoilt) // 2] ^= 1
    for data in (bytes(spoilt), b"no backup at all" * 4096, backup[:-100]):
        send(olga, data)
        job = Job.objects.first()
        assert job.state == "stopped"
        assert "What was sent is removed again." in job.detail
        assert kept(directory) == []


@pytest.mark.usefixtures("at_once")
def test_nothing_and_too_much_are_refused(olga, directory: Path, settings) -> None:
    empty = olga.post(reverse("upload_snapshot", args=["one"]), {})
    assert empty.status_code == 422 and "Choose a file" in empty.text
    settings.UPLOAD_BYTES_MAX = 1000
    answer = send(olga, bytes(1001))
    assert answer.status_code == 413
    assert kept(directory) == [] and not Job.objects.exists()


@pytest.mark.usefixtures("at_once")
def test_a_full_disk_is_said_and_leaves_nothing(olga, backup, directory, monkeypatch) -> None:
    monkeypatch.setattr("console.maintenance.archive.SPARE_BYTES", 10**18)
    answer = send(olga, backup)
    assert answer.status_code == 507 and "are free" in answer.text
    assert kept(directory) == []


def test_another_that_is_being_opened_lets_it_wait(olga, backup, directory, monkeypatch) -> None:
    monkeypatch.setattr(work, "launch", lambda job: None)
    send(olga, backup, "first.db")
    second = send(olga, backup, "second.db")
    assert "/snapshots/browse?file=upload-" in second.headers["Location"]
    assert len(kept(directory)) == 2


@pytest.mark.usefixtures("at_once")
def test_it_is_removed_by_hand_and_by_itself(olga, backup, directory: Path) -> None:
    send(olga, backup)
    [name] = kept(directory)
    address = reverse("remove_upload", args=["one"])
    assert "Remove this backup" in olga.get(address, {"file": name}).text
    assert kept(directory) == [name]
    assert olga.post(address, {"file": name}).status_code == 302
    assert list(directory.rglob("*.sqlite3")) == [] and kept(directory) == []
    assert AuditRow.objects.filter(action="remove upload", target=name).exists()
    send(olga, backup)
    [name] = kept(directory)
    assert scheduler.remove_past_uploads(now() + uploads.KEPT - timedelta(minutes=1)) == 0
    assert scheduler.remove_past_uploads(now() + uploads.KEPT + timedelta(minutes=1)) == 1
    assert list(directory.rglob("*.sqlite3")) == [] and kept(directory) == []


def test_only_uploads_are_removed(olga, directory: Path) -> None:
    saved = directory / "one" / "one-20260101T000000Z-1.db"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"x")
    address = reverse("remove_upload", args=["one"])
    for name in (saved.name, "../one/" + saved.name, "upload-20260101T000000Z-none.db", ""):
        assert olga.post(address, {"file": name}).status_code in {400, 404}, name
    scheduler.remove_past_uploads(now() + timedelta(days=400))
    assert saved.exists()


@pytest.mark.parametrize(
    "sent",
    ["../../etc/passwd", "C:\\back up.db", "ключ.db", ".hidden", "", "a" * 300, "<script>.db"],
)
def test_a_name_is_harmless_whatever_was_sent(sent: str) -> None:
    name = uploads.name_for(sent, datetime(2026, 11, 29, 13, 5, 0, tzinfo=UTC))
    assert uploads.is_upload(name)
    assert name.startswith("upload-20261129T130500Z-") and len(name) < 100
    assert uploads.ends_at(name) == datetime(2026, 12, 6, 13, 5, 0, tzinfo=UTC)


def test_a_body_that_is_too_large_is_not_kept() -> None:
    from console.serving.bodies import Discarded

    nothing = Discarded()
    assert nothing.write(b"x" * 10**6) == 10**6
    assert nothing.seek(0) == 0 and not isinstance(nothing, io.BytesIO)
