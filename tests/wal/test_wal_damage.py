"""What is repaired and what is refused (spec/storage.md §2.5, §8 cases 4-7)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.errors import FatalError
from kvserver.raft.types import HardState
from kvserver.wal import WalCorrupt, WalError
from kvserver.wal.frame import FRAME_LENGTH_BYTES, split_length
from tests.support.sim_fs import SECTOR, Crash, SimFs
from tests.wal.logs_for_tests import (
    DIRECTORY,
    content,
    create,
    disk,
    entries,
    open_at,
    patch,
    segments,
    written,
)


def frames(image: bytes) -> list[tuple[int, int]]:
    """(start of the record, end of the frame) of every frame."""
    found, offset = [], 0
    while offset + FRAME_LENGTH_BYTES <= len(image):
        size, padding = split_length(int.from_bytes(image[offset : offset + 8], "little"))
        if not size:
            break
        found.append((offset + 8, offset + 8 + size + padding))
        offset = found[-1][1]
    return found


def large_log() -> tuple[SimFs, str, list[tuple[int, int]]]:
    """Three entries, each longer than two sectors, without a hard state behind the last."""
    fs = disk()
    wal = create(fs)
    wal.save(HardState(1, 11, 0), entries(1, 2, size=700))
    wal.save(None, entries(3, 3, size=1500))
    wal.close()
    name = segments(fs)[0]
    return fs, name, frames(content(fs, name))


def test_a_lost_sector_in_the_last_record_is_repaired() -> None:
    """Case 4 (live)."""
    fs, name, found = large_log()
    start, _ = found[-1]
    sector = start // SECTOR + 1
    damaged = content(fs, name)[: sector * SECTOR]
    patch(fs, name, sector * SECTOR, bytes(SECTOR))
    wal = open_at(fs)
    assert wal.read_all().entries == entries(1, 2, size=700)
    assert content(fs, name + ".broken")[: len(damaged)] == damaged
    wal.save(None, entries(3, 4))
    wal.close()
    assert open_at(fs).read_all().entries == [*entries(1, 2, size=700), *entries(3, 4)]


@pytest.mark.parametrize("keep", [1, 7, 8, 9, 600, 1499])
def test_a_segment_that_ends_inside_its_last_record_is_repaired(keep: int) -> None:
    """Case 5 (live)."""
    fs, name, found = large_log()
    handle = fs.open(f"{DIRECTORY}/{name}")
    fs.truncate(handle, found[-1][0] - FRAME_LENGTH_BYTES + keep)
    fs.sync(handle)
    fs.close(handle)
    assert open_at(fs).read_all().entries == entries(1, 2, size=700)
    assert fs.exists(f"{DIRECTORY}/{name}.broken")


def test_a_record_whose_type_has_flipped_is_refused() -> None:
    """The checksum does not cover it, and both read as the other (found by the simulator: an entry
    of term 0 came out of a hard state)."""
    state, entry = 3, 2
    for vote, kind, other, text in (
        (0, state, entry, "entry 1 has no term"),
        (11, state, entry, "the term goes back to 1 at entry 2"),
        (0, entry, state, "the term goes back to 0"),
    ):
        fs = disk()
        wal = create(fs)
        wal.save(HardState(1, vote, 1), entries(1, 1))
        wal.save(None, entries(2, 3))
        wal.close()
        name = segments(fs)[0]
        image = content(fs, name)
        found = [start for start, _ in frames(image) if image[start + 1] == kind]
        patch(fs, name, found[-1] + 1, bytes([other]))
        with pytest.raises(WalCorrupt, match=text):
            open_at(fs).read_all()


def test_a_flipped_byte_is_refused() -> None:
    """Case 6 (live)."""
    fs, name, found = large_log()
    where = found[-1][0] + 300
    before = content(fs, name)
    patch(fs, name, where, bytes([before[where] ^ 1]))
    with pytest.raises(WalCorrupt, match="crc mismatch") as refusal:
        open_at(fs).read_all()
    assert name in str(refusal.value)
    assert "restore a snapshot" in str(refusal.value)
    assert not fs.exists(f"{DIRECTORY}/{name}.broken")


def test_an_absurd_length_in_the_last_record_is_repaired() -> None:
    """Case 7, the newer rule."""
    fs, name, found = large_log()
    patch(fs, name, found[-1][0] - FRAME_LENGTH_BYTES, (2**50).to_bytes(8, "little"))
    assert open_at(fs).read_all().entries == entries(1, 2, size=700)


def test_an_absurd_length_before_good_records_is_refused() -> None:
    """No crash garbles a length and leaves its record and the next ones whole."""
    fs, name, found = large_log()
    patch(fs, name, found[-2][0] - FRAME_LENGTH_BYTES, (2**50).to_bytes(8, "little"))
    with pytest.raises(WalCorrupt, match="max entry size limit exceeded"):
        open_at(fs).read_all()


def test_a_lost_sector_in_an_earlier_segment_is_refused() -> None:
    fs, _ = written(60, size=700)
    name = segments(fs)[0]
    start, _ = frames(content(fs, name))[-2]
    patch(fs, name, (start // SECTOR + 1) * SECTOR, bytes(SECTOR))
    with pytest.raises(WalCorrupt, match="crc mismatch"):
        open_at(fs).read_all()


def test_an_earlier_segment_cut_short_is_refused() -> None:
    fs, _ = written(60)
    handle = fs.open(f"{DIRECTORY}/{segments(fs)[0]}")
    fs.truncate(handle, fs.size(handle) - 20)
    fs.close(handle)
    with pytest.raises(WalCorrupt):
        open_at(fs).read_all()


@pytest.mark.parametrize("which", [1, -1])
def test_a_segment_without_its_head_is_refused(which: int) -> None:
    fs, _ = written(120)
    handle = fs.open(f"{DIRECTORY}/{segments(fs)[which]}")
    fs.truncate(handle, 0)
    fs.close(handle)
    with pytest.raises(WalCorrupt, match="has no head"):
        open_at(fs).read_all()


def test_an_earlier_segment_cut_at_a_record_breaks_the_chain() -> None:
    fs, _ = written(120)
    name = segments(fs)[1]
    handle = fs.open(f"{DIRECTORY}/{name}")
    fs.truncate(handle, frames(content(fs, name))[-3][1])
    fs.close(handle)
    with pytest.raises(WalCorrupt, match="crc mismatch"):
        open_at(fs).read_all()


def test_a_segment_must_begin_with_its_crc() -> None:
    fs, _ = written(3)
    name = segments(fs)[0]
    image = content(fs, name)
    second = frames(image)[1][0] - FRAME_LENGTH_BYTES
    patch(fs, name, 0, image[second:] + bytes(second))
    with pytest.raises(WalCorrupt, match="does not begin with its crc"):
        open_at(fs).read_all()


@pytest.mark.parametrize("seed", range(12))
def test_stale_sectors_do_not_come_back_after_a_repair(seed: int) -> None:
    """What the repair cuts off is gone from the disk before anything is written in its place: a
    record torn later would otherwise be patched together with old bytes, and refused."""
    fs, name, found = large_log()
    patch(fs, name, (found[-1][0] // SECTOR + 1) * SECTOR, bytes(SECTOR))
    wal = open_at(fs)
    wal.read_all()
    fs.crash_at = fs.calls + 1
    with pytest.raises(Crash):
        wal.save(None, entries(3, 3, size=1400, term=2))
    after = open_at(fs.crash(seed)).read_all().entries
    assert after[:2] == entries(1, 2, size=700)
    assert after[2:] in ([], entries(3, 3, size=1400, term=2))


def test_zeroes_at_a_records_end_are_no_lost_sector() -> None:
    """Of the sector a record ends in, what follows must be lost too (a disk loses whole ones)."""
    fs = disk()
    wal = create(fs)
    size = 0
    while True:  # find an entry size whose frame ends just behind a sector border, in zeroes
        fs = disk()
        wal = create(fs)
        size += 1
        wal.save(None, [entries(1, 1, size=size)[0]._replace(data=b"\x01" * size + bytes(16))])
        wal.save(None, entries(2, 2))
        wal.close()
        name = segments(fs)[0]
        start, end = frames(content(fs, name))[-2]
        if (
            start < SECTOR
            and 0 < end - SECTOR <= 16
            and not content(fs, name)[SECTOR:end].strip(b"\0")
        ):
            break
    patch(fs, name, start + 30, b"\x77")
    with pytest.raises(WalCorrupt, match="crc mismatch"):
        open_at(fs).read_all()


def test_a_second_torn_record_after_the_repair_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, name, found = large_log()
    patch(fs, name, (found[-1][0] // SECTOR + 1) * SECTOR, bytes(SECTOR))
    monkeypatch.setattr(fs, "truncate", lambda handle, size: None)
    with pytest.raises(WalError, match="unexpected EOF"):
        open_at(fs).read_all()


@given(st.binary(max_size=300), st.integers(0, 2500))
@settings(max_examples=150, deadline=None)
def test_no_bytes_cause_anything_but_our_own_errors(noise: bytes, offset: int) -> None:
    """Verification rung 10: and what is read is a prefix of what was written, or is refused."""
    fs, name, _ = large_log()
    patch(fs, name, offset, noise)
    try:
        contents = open_at(fs).read_all()
    except FatalError:
        return
    expected = [*entries(1, 2, size=700), *entries(3, 3, size=1500)]
    assert contents.entries == expected[: len(contents.entries)]


@given(st.binary(max_size=2000))
@settings(max_examples=150, deadline=None)
def test_a_segment_of_noise_is_refused_or_empty(noise: bytes) -> None:
    fs = disk()
    fs.make_dir(DIRECTORY)
    handle = fs.create(f"{DIRECTORY}/0000000000000000-0000000000000000.wal")
    fs.write(handle, noise, 0, sync=True)
    fs.close(handle)
    with pytest.raises(FatalError):
        open_at(fs).read_all()
