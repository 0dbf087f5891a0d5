"""Our log and etcd's are one format: each reads what the other wrote (design D11).

Real servers, both releases. The encoder must also give byte for byte what etcd wrote.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvserver.fs import RealFileSystem
from kvserver.raft.codec import encode_hard_state
from kvserver.raft.types import EntryType
from kvserver.snap import Snapshotter, open_at_newest
from kvserver.wal import Wal, decode_metadata
from kvserver.wal.frame import RecordType, encode_entries, encode_record
from kvserver.wal.payload import (
    decode_entry,
    decode_hard_state,
    decode_snapshot_record,
    encode_snapshot_record,
)
from kvserver.wal.reader import SegmentReader
from tests.support.etcd_binaries import EtcdRelease, find_etcd34, find_etcd35
from tests.support.servers_proc import ServerProcess, etcd_server

pytestmark = [pytest.mark.compat, pytest.mark.e2e]
FS = RealFileSystem()
KEYS = 130


@pytest.fixture(params=[find_etcd34, find_etcd35], ids=["3.4", "3.5"])
def release(request: pytest.FixtureRequest) -> EtcdRelease:
    find: Callable[[], EtcdRelease | None] = request.param
    found = find()
    if found is None:
        pytest.skip("this etcd release is not to be had here")
    return found


@pytest.fixture
def etcd(release: EtcdRelease, tmp_path: Path) -> Iterator[ServerProcess]:
    server = etcd_server(release, tmp_path / "etcd", flags=["--snapshot-count=100000"])
    yield server
    if server.process is not None:
        server.kill()


def call(server: ServerProcess, path: str, **body: object) -> dict[str, object]:
    """One request through the JSON gateway; bytes go as base64."""
    encoded = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in body.items()
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.client_port, timeout=60)
    try:
        connection.request("POST", f"/v3/kv/{path}", json.dumps(encoded))
        response = connection.getresponse()
        answer: dict[str, object] = json.loads(response.read())
        assert response.status == 200, answer
        return answer
    finally:
        connection.close()


def put(server: ServerProcess, first: int, last: int) -> None:
    for number in range(first, last + 1):
        value = bytes((number * 5 + i) % 256 for i in range(number * 7))
        call(server, "put", key=b"key-%05d" % number, value=value)


def stored(server: ServerProcess) -> list[object]:
    answer = call(server, "range", key=b"key-", range_end=b"key.")
    kvs = answer["kvs"]
    assert isinstance(kvs, list)
    return kvs


def wal_dir(server: ServerProcess) -> Path:
    return server.data_dir / "member" / "wal"


def rebuilt(image: bytes) -> tuple[bytes, bytes]:
    """(what etcd wrote, what our encoders make of the same values)."""
    reader = SegmentReader("segment", image, 0, is_last=True)
    out: list[bytes] = []
    crc = 0
    for kind, data in reader:
        if kind == RecordType.ENTRY:
            crc = encode_entries([decode_entry(data)], crc, out)
            continue
        if kind == RecordType.STATE:
            data = encode_hard_state(decode_hard_state(data))
        elif kind == RecordType.SNAPSHOT:
            data = encode_snapshot_record(decode_snapshot_record(data))
        frame, crc = encode_record(RecordType(kind), data, crc)
        out.append(frame)
    return image[: reader.offset], b"".join(out)


def test_etcds_log_is_read_and_would_be_written_alike(etcd: ServerProcess) -> None:
    etcd.start()
    put(etcd, 1, KEYS)
    etcd.kill()
    wal = Wal.open(FS, str(wal_dir(etcd)))
    contents = wal.read_all()
    wal.close()
    assert decode_metadata(contents.metadata).node_id > 0
    assert [entry.index for entry in contents.entries] == list(range(1, len(contents.entries) + 1))
    assert contents.entries[0].type is EntryType.CONF_CHANGE
    assert len([entry for entry in contents.entries if b"key-" in entry.data]) == KEYS
    assert contents.hard_state.commit >= KEYS
    theirs, ours = rebuilt((wal_dir(etcd) / "0000000000000000-0000000000000000.wal").read_bytes())
    assert ours == theirs


def test_etcds_snapshots_are_where_we_would_begin(etcd: ServerProcess) -> None:
    etcd.flags = [*etcd.flags, "--snapshot-count=50"]
    etcd.start()
    put(etcd, 1, KEYS)
    etcd.terminate()
    snapshotter = Snapshotter(FS, str(etcd.data_dir / "member" / "snap"))
    start = open_at_newest(FS, str(wal_dir(etcd)), snapshotter)
    start.wal.close()
    assert start.snapshot is not None
    assert start.snapshot.index == snapshotter.files()[0].index
    assert len(start.snapshot.conf_state.voters) == 1
    assert start.contents.entries[0].index == start.snapshot.index + 1


def test_etcd_starts_on_a_log_that_we_wrote(etcd: ServerProcess, tmp_path: Path) -> None:
    """Many small segments of ours, no database: etcd must read them all, and go on in the last.
    Then we read what it appended."""
    etcd.start()
    put(etcd, 1, KEYS)
    before = stored(etcd)
    etcd.kill()

    theirs = Wal.open(FS, str(wal_dir(etcd)))
    contents = theirs.read_all()
    theirs.close()
    ours = Wal.create(FS, str(tmp_path / "ours"), contents.metadata, segment_bytes=20_000)
    for entry in contents.entries:
        ours.write(ours.encode(contents.hard_state, [entry], True))
    ours.write(ours.encode(contents.hard_state, [], False))
    ours.close()
    shutil.rmtree(wal_dir(etcd))
    (tmp_path / "ours").rename(wal_dir(etcd))
    (etcd.data_dir / "member" / "snap" / "db").unlink()
    assert len(list(wal_dir(etcd).glob("*.wal"))) > 2

    etcd.start()
    assert stored(etcd) == before
    put(etcd, KEYS + 1, KEYS + 5)
    etcd.kill()
    again = Wal.open(FS, str(wal_dir(etcd)))
    entries = again.read_all().entries
    again.close()
    assert entries[: len(contents.entries)] == contents.entries
    assert b"key-%05d" % (KEYS + 5) in entries[-1].data


def test_etcd_and_we_exclude_each_other_from_a_log(etcd: ServerProcess) -> None:
    etcd.start()
    put(etcd, 1, 1)
    etcd.kill()
    wal = Wal.open(FS, str(wal_dir(etcd)))
    etcd.spawn()
    assert etcd.wait_exit(60) == 1, "etcd finds the log locked"
    wal.read_all()
    wal.close()
