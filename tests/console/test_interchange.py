"""Export and import: what goes out comes back byte for byte, bounded, planned and guarded."""

from __future__ import annotations

import io
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from console.gateway.records import Key
from console.keys import batches, import_file, interchange, views_import
from console.keys.byte_text import show
from console.keys.interchange import BadFile, read, written
from console.maintenance import work
from console.models import AuditRow, Cluster
from tests.console.conftest import SLOW_MACHINE, Store
from tests.console.test_plans import hidden, plain

ON_EVERY_SERVER = True

BYTES = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(lambda text: text.encode(errors="ignore")),
    st.sampled_from(
        [b"\x00", b"~", b"null", b"- a: b", b"a\r\nb\n", b" x ", b"\xef\xbb\xbf", b"1"]
    ),
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(st.lists(st.tuples(BYTES.filter(bool), BYTES, st.integers(0, 2**63 - 1))))
@pytest.mark.parametrize("kind", interchange.FORMATS)
def test_what_is_written_is_read_byte_for_byte(kind, items) -> None:
    keys = [Key(key, value, 2, 2**62 + 1, 1, lease) for key, value, lease in items]
    file = io.BytesIO(b"".join(written(key, kind) for key in keys))
    found = [(one.key, one.value, one.lease) for one in read(file, kind)]
    assert found == items


def test_numbers_of_64_bits_are_strings() -> None:
    """Trap 3, in files too."""
    text = written(Key(b"k", b"v", 1, 2**62 + 1, 1, 2**62 + 3), "ndjson")
    assert b'"mod_revision": "4611686018427387905"' in text
    assert b'"lease": "4000000000000003"' in text


BAD = [
    ("ndjson", b"{", "line 1: no JSON"),
    ("ndjson", b'{"key": "a", "value": "v"}\n[1]\n', "line 2: an entry is a mapping"),
    ("ndjson", b'{"key": "a"}', "either value or value_base64"),
    ("ndjson", b'{"key": "a", "key_base64": "YQ==", "value": ""}', "either key or key_base64"),
    ("ndjson", b'{"key": "", "value": "v"}', "at least one byte"),
    ("ndjson", b'{"key_base64": "?", "value": "v"}', "not what it says"),
    ("ndjson", b'{"key": 5, "value": "v"}', "is text, in quotes"),
    ("ndjson", b'{"key": "\\ud800", "value": "v"}', "not what it says"),
    ("ndjson", b'{"key": "a", "value": "v", "lease": "xyz"}', "id in hexadecimal"),
    ("ndjson", b'{"key": "a", "value": "v", "ttl": 5}', "'ttl' is no field"),
    ("ndjson", b"[" * 100_000, "line 1: no JSON"),
    ("yaml", b"key: a\nvalue: v\n", "a list of entries is expected"),
    ("yaml", b"- key: a\n  value: [1]\n", "each of plain fields"),
    ("yaml", b"- key: a\n  value:\n", "empty text is written ''"),
    ("yaml", b"- key: *x\n  value: v\n", "aliases"),
    ("yaml", b"- {key: a", "no YAML"),
    ("yaml", b"- a\n", "a list of entries is expected"),
    ("yaml", b"\xff\xfe\xff", "YAML"),
    ("ndjson", interchange.cut_short("UNAVAILABLE: gone", "ndjson"), "is not complete"),
    ("yaml", interchange.cut_short("UNAVAILABLE: gone", "yaml"), "is not complete"),
]


@pytest.mark.parametrize(("kind", "text", "said"), BAD, ids=range(len(BAD)))
def test_what_is_no_export_is_refused_with_its_line(kind, text, said) -> None:
    with pytest.raises(BadFile, match=re.escape(said)):
        list(read(io.BytesIO(text), kind))


def test_a_line_without_end_is_not_read_into_memory(monkeypatch) -> None:
    monkeypatch.setattr(interchange, "LINE_BYTES_MAX", 1000)
    with pytest.raises(BadFile, match="longer than 1000"):
        list(read(io.BytesIO(b" " * 5000), "ndjson"))


# --- served ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_directory(settings, tmp_path) -> None:
    settings.CONSOLE_DIR = tmp_path


@pytest.fixture(autouse=True)
def jobs_are_done_at_once(monkeypatch) -> None:
    monkeypatch.setattr(work, "launch", lambda job: work.execute(job.pk))


def export(browser, prefix: bytes, kind: str, **more: object) -> bytes:
    params = {"prefix": show(prefix), "format": kind, **more}
    answer = browser.get(reverse("export_keys", args=["one"]), params)
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    return b"".join(answer.streaming_content)


def upload(browser, data: bytes, kind: str = "ndjson", **fields: str):
    file = SimpleUploadedFile(f"keys.{kind}", data)
    return browser.post(reverse("import_keys", args=["one"]), {"file": file, **fields})


def apply(browser, plan, **fields: str):
    everything = {**hidden(plan.text), "step": "start", **fields}
    return browser.post(reverse("import_keys", args=["one"]), everything, follow=True)


@pytest.mark.parametrize("kind", interchange.FORMATS)
def test_an_export_is_imported_elsewhere_whole(
    as_editor, store: Store, prefix, kind, monkeypatch
) -> None:
    monkeypatch.setattr("console.keys.views_export.PAGE", 7)
    lease = store.grant_lease(3600)
    values = {prefix + b"%02d\xff" % n: bytes([n, 255]) for n in range(20)}
    values |= {prefix + b"text": "größe\n".encode(), prefix + b"empty": b""}
    for key, value in values.items():
        store.put(key, value, lease)
    data = export(as_editor, prefix, kind)
    for key in values:
        store.delete(key)
    before = store.revision()
    plan = upload(as_editor, data, kind)
    assert plan.status_code == 200
    assert "22 are new, 0 change, 0 are the same" in plain(plan.text)
    assert "22 entries note leases: not taken" in plain(plan.text)
    assert store.revision() == before  # a dry run writes nothing
    assert AuditRow.objects.count() == 0
    done = apply(as_editor, plan)
    assert "22 keys written" in plain(done.text)
    for key, value in values.items():
        found = store.get(key)
        assert (found.value, found.lease) == (value, 0)
    row = AuditRow.objects.get()
    assert (row.action, row.outcome) == ("import keys", "done")
    assert "batch 1, 22 keys" in row.target
    assert "22 are the same" in plain(upload(as_editor, data, kind).text)


def test_an_export_is_one_revision_however_long_it_takes(
    as_viewer, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr("console.keys.views_export.PAGE", 2)
    for number in range(6):
        store.put(prefix + b"%d" % number, b"old")
    url = reverse("export_keys", args=["one"])
    pages = iter(as_viewer.get(url, {"prefix": show(prefix)}).streaming_content)
    data = next(pages)
    for number in range(6):
        store.put(prefix + b"%d" % number, b"new")
    data += b"".join(pages)
    assert data.count(b'"old"') == 6
    assert b"new" not in data


def test_an_export_that_fails_in_between_is_not_taken_for_whole(
    as_viewer, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr("console.keys.views_export.PAGE", 2)
    for number in range(4):
        store.put(prefix + b"%d" % number, b"v")
    url = reverse("export_keys", args=["one"])
    pages = iter(as_viewer.get(url, {"prefix": show(prefix)}).streaming_content)
    data = next(pages)
    store.put(prefix + b"x", b"v")
    store.compact(store.revision())
    data += b"".join(pages)
    with pytest.raises(BadFile, match="not complete: OUT_OF_RANGE"):
        list(read(io.BytesIO(data), "ndjson"))


def test_an_import_changes_keeps_and_skips_as_chosen(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    store.put(prefix + b"held", b"mine", lease)
    lines = [f'{{"key": "{show(prefix)}{name}", "value": "file"}}' for name in ("held", "new")]
    data = "\n".join(lines).encode()
    kept = upload(as_editor, data, existing="keep")
    assert "1 are new, 0 change" in plain(kept.text)
    assert "1 exist with another value and stay" in plain(kept.text)
    plan = upload(as_editor, data)
    assert "1 are new, 1 change" in plain(plan.text)
    assert "−mine" in plain(plan.text)  # the diff sample
    apply(as_editor, plan)
    found = store.get(prefix + b"held")
    assert (found.value, found.lease) == (b"file", lease)  # trap 1


def test_leases_of_a_file_are_attached_where_they_live(as_editor, store: Store, prefix) -> None:
    lease = store.grant_lease(3600)
    data = b""
    for name, number in ((b"alive", lease), (b"gone", 0x7F00_0000_0000_0001)):
        data += written(Key(prefix + name, b"v", 1, 1, 1, number), "ndjson")
    apply(as_editor, upload(as_editor, data, leases="file"))
    assert store.get(prefix + b"alive").lease == lease
    assert store.get(prefix + b"gone").lease == 0


def test_a_key_written_since_the_plan_is_a_conflict_of_its_batch(
    as_editor, store: Store, prefix, monkeypatch
) -> None:
    monkeypatch.setattr(batches, "OPS_MAX", 2)
    data = b"".join(written(Key(prefix + b"%d" % n, b"v", 1, 1, 1, 0), "ndjson") for n in range(4))
    plan = upload(as_editor, data)
    store.put(prefix + b"1", b"theirs")
    done = apply(as_editor, plan)
    assert "2 keys written" in plain(done.text)
    assert f"changed: {show(prefix)}1" in plain(done.text)
    assert store.get(prefix + b"0") is None
    assert store.get(prefix + b"1").value == b"theirs"
    assert store.get(prefix + b"3").value == b"v"


def test_production_asks_and_the_file_waits(as_editor, store, prefix, cluster: Cluster) -> None:
    cluster.environment = Cluster.Environment.PRODUCTION
    cluster.save()
    plan = upload(as_editor, written(Key(prefix, b"v", 1, 1, 1, 0), "ndjson"))
    assert apply(as_editor, plan, confirm="no").status_code == 422
    assert store.get(prefix) is None
    assert apply(as_editor, plan, confirm="one").status_code == 200
    assert store.get(prefix).value == b"v"
    assert "send it again" in apply(as_editor, plan, confirm="one").text  # it is gone


def test_a_file_that_is_refused_leaves_nothing(as_editor, prefix, tmp_path, monkeypatch) -> None:
    key = show(prefix)
    twice = f'{{"key": "{key}", "value": "a"}}\n{{"key": "{key}", "value": "b"}}'.encode()
    answer = upload(as_editor, twice)
    assert answer.status_code == 422
    assert "ine 2: this key stands in the file twice" in plain(answer.text)
    monkeypatch.setattr(import_file, "ENTRIES_MAX", 1)
    other = f'{{"key": "{key}", "value": "a"}}\n{{"key": "{key}x", "value": "b"}}'.encode()
    assert "split the file" in upload(as_editor, other).text
    monkeypatch.setattr(views_import, "FILE_BYTES_MAX", 10)
    assert "larger than" in upload(as_editor, other).text
    assert upload(as_editor, b"").status_code == 422
    assert "no entries" in upload(as_editor, b"\n").text
    assert list((tmp_path / "imports").iterdir()) == []


def test_a_file_of_another_session_is_not_found(as_editor, as_admin, store, prefix) -> None:
    plan = upload(as_editor, written(Key(prefix, b"v", 1, 1, 1, 0), "ndjson"))
    assert apply(as_admin, plan).status_code == 422
    assert store.get(prefix) is None


@pytest.mark.parametrize("base", ["", "0", "x", "²", "9" * 30])
def test_an_import_that_names_no_revision_writes_nothing(as_editor, store, prefix, base) -> None:
    plan = upload(as_editor, written(Key(prefix, b"v", 1, 1, 1, 0), "ndjson"))
    assert apply(as_editor, plan, base=base).status_code == 422
    assert store.get(prefix) is None


def test_old_files_are_swept(as_editor, tmp_path, prefix) -> None:
    import os

    directory = import_file.spool()
    assert directory.stat().st_mode & 0o777 == 0o700
    old = directory / "old"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    upload(as_editor, written(Key(prefix, b"v", 1, 1, 1, 0), "ndjson"))
    [waiting] = directory.iterdir()
    assert waiting.name != "old"
    assert waiting.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("params", [{"format": "xml"}, {"prefix": "\\"}, {"rev": "x"}])
def test_an_export_of_nothing_sensible(as_viewer, params) -> None:
    assert as_viewer.get(reverse("export_keys", args=["one"]), params).status_code == 400
