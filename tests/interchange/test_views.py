"""An image is built from a view of the backend, bit by bit: what it holds, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver import limits
from kvserver.interchange import spool
from kvserver.interchange.spool import STEP_RECORDS, ImageBuilder, SpoolFile
from kvserver.interchange.tables import BUCKETS
from kvserver.mvcc.backend.api import NO_GRANT, Pair
from kvserver.mvcc.backend.lmdb import LmdbBackend
from kvserver.mvcc.backend.tables import LEASE
from kvserver.mvcc.backend.write_buffer import (
    WriteBuffer,
    bounded_pieces,
    merge_rows,
    row_pieces,
)
from tests.interchange.images import contents, revision

MAP_BYTES = 512 * 1024 * 1024


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LmdbBackend]:
    made = LmdbBackend(str(tmp_path / "db"), MAP_BYTES)
    yield made
    made.close()


def flush(backend: LmdbBackend) -> None:
    job = backend.begin_flush()
    assert job is not None
    job.run(NO_GRANT)
    backend.finish_flush(job)


def image_of(builder: ImageBuilder, seen: Callable[[], None] = lambda: None) -> bytes:
    pages = []
    while not builder.step():
        pages.append(builder.take())
        seen()
    pages.append(builder.take())
    assert sum(map(len, pages)) == builder.size_bytes
    return builder.metas + b"".join(pages)[len(builder.metas) :]


def test_all_layers_are_in_the_image_and_later_writes_are_not(backend: LmdbBackend) -> None:
    """spec/bbolt.md trap 7, spec/maintenance.md N1, N6: LMDB, the buffer being flushed and the
    active one, with the index that belongs to them."""
    backend.append(revision(2), b"stored")
    backend.put("auth", b"authRevision", b"1")
    backend.put("cluster", b"clusterVersion", b"3.6.0")
    backend.commit_marks(5, 2, b'{"voters":[1]}')
    flush(backend)
    backend.append(revision(3), b"being flushed")
    backend.commit_marks(6, 2, b"")
    job = backend.begin_flush()
    assert job is not None
    backend.append(revision(4), b"active")
    backend.delete("auth", b"authRevision")
    backend.commit_marks(7, 3, b"")
    builder = ImageBuilder(backend.open_snapshot())
    backend.append(revision(5), b"later")
    backend.commit_marks(8, 3, b"")
    job.run(NO_GRANT)
    backend.finish_flush(job)
    found = contents(image_of(builder))
    assert found[b"key"] == [
        (revision(2), b"stored"),
        (revision(3), b"being flushed"),
        (revision(4), b"active"),
    ]
    assert found[b"auth"] == []
    assert found[b"meta"] == [
        (b"confState", b'{"voters":[1]}'),
        (b"consistent_index", (7).to_bytes(8)),
        (b"storageVersion", b"3.6.0"),
        (b"term", (3).to_bytes(8)),
    ]
    assert tuple(name.decode() for name in found) == BUCKETS
    assert builder.version == "3.6.0"


@pytest.mark.parametrize(
    ("cluster", "storage"), [("3.5.0", ""), ("3.6.0", "3.6.0"), ("3.7.0", "3.7.0"), ("?", "")]
)
def test_the_storage_version_follows_the_cluster_version(
    backend: LmdbBackend, cluster: str, storage: str
) -> None:
    """spec/cluster.md §6.3: never above what the cluster speaks, whatever was imported once."""
    backend.put("cluster", b"clusterVersion", cluster.encode())
    backend.put("meta", b"storageVersion", b"3.9.0")
    builder = ImageBuilder(backend.open_snapshot())
    meta = dict(contents(image_of(builder))[b"meta"])
    assert (builder.version, meta.get(b"storageVersion", b"")) == (storage, storage.encode())


def test_building_goes_in_small_steps_and_holds_little(backend: LmdbBackend) -> None:
    """Thousands of leases are cut as records are; large values are not gathered by the thousand."""
    for main in range(2, 40):
        backend.append(revision(main), bytes(1_500_000))
    for main in range(40, 3000):
        backend.append(revision(main), b"small")
    for number in range(5000):
        backend.put(LEASE, number.to_bytes(8), b"lease")
    flush(backend)
    for number in range(0, 6000, 3):
        backend.delete(LEASE, number.to_bytes(8))
    builder = ImageBuilder(backend.open_snapshot())
    steps = 0
    held = []

    def seen() -> None:
        nonlocal steps
        steps += 1

    def step_and_look() -> bool:
        done = builder.step()
        held.append(builder.waiting_bytes)
        return done

    pages = []
    while not step_and_look():
        seen()
        pages.append(builder.take())
    pages.append(builder.take())
    assert steps > (5000 * 2 / 3 + 3000) / limits.FLUSH_SLICE_RECORDS
    assert steps >= 3000 / STEP_RECORDS
    assert max(held) <= limits.FLUSH_SLICE_BYTES + 2 * 1_500_000
    found = contents(builder.metas + b"".join(pages)[len(builder.metas) :])
    assert len(found[b"key"]) == 2998
    kept = [number.to_bytes(8) for number in range(5000) if number % 3]
    assert [key for key, _ in found[b"lease"]] == kept


class CountedView:
    """An empty backend, and how often it was let go of."""

    closed = 0

    def items(self, table: str) -> Iterator[list[Pair]]:
        yield []

    def close(self) -> None:
        self.closed += 1


def test_a_builder_lets_go_of_its_view() -> None:
    """At the end at once, or when the client has gone; and then it builds no more."""
    done, left = CountedView(), CountedView()
    assert len(image_of(ImageBuilder(done))) == 3 * 4096
    assert done.closed == 1
    builder = ImageBuilder(left)
    builder.step()
    builder.close()
    assert left.closed >= 1
    assert builder.step()


KEYS = st.binary(min_size=1, max_size=2)
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(max_size=2), max_size=30)


@settings(max_examples=200)
@given(
    st.dictionaries(KEYS, st.binary(max_size=2), max_size=40), CHANGES, CHANGES, st.integers(1, 9)
)
def test_rows_in_pieces_are_the_rows_at_once(
    stored: dict[bytes, bytes],
    older: dict[bytes, bytes | None],
    newer: dict[bytes, bytes | None],
    size: int,
) -> None:
    layers = []
    for changes in (older, newer):
        layer = WriteBuffer()
        layer.tables[LEASE] = changes
        layers.append(layer)
    pieces = list(row_pieces(iter(sorted(stored.items())), layers, LEASE, size))
    rows = [row for piece in pieces for row in piece]
    assert rows == merge_rows(stored.items(), layers, LEASE)


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(1, 60))
def test_pieces_end_with_the_record_that_fills_them(
    sizes: list[int], count: int, bytes_max: int
) -> None:
    pairs = [(number.to_bytes(4), bytes(size)) for number, size in enumerate(sizes)]
    pieces = list(bounded_pieces(iter(pairs), count, bytes_max))
    assert [pair for piece in pieces for pair in piece] == pairs
    for piece in pieces:
        assert 1 <= len(piece) <= count
        assert sum(len(value) for _, value in piece[:-1]) < bytes_max


def test_the_spool_file_has_no_name_and_leaves_the_log_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SpoolFile(str(tmp_path))
    file.write(bytes(8192) + b"pages")
    file.complete(b"metas")
    names = os.listdir(tmp_path)
    assert all(name.startswith("tmp") for name in names)  # what a start removes, if anything
    assert file.read(5) + file.read(100_000) == b"metas" + bytes(8187) + b"pages"
    monkeypatch.setattr(spool, "SNAPSHOT_DISK_RESERVE_BYTES", 1 << 62)
    with pytest.raises(OSError, match="too little space"):
        file.write(b"more")
    file.close()
