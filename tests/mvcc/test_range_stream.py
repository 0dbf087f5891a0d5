"""RangeStream (spec/kv.md §14)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.errors import Code, Compacted, EmptyKey, FutureRev, RequestError
from kvserver.mvcc import range_stream
from kvserver.proto import rpc_pb2
from tests.mvcc.rig import ALL, Range, Rig


@pytest.fixture
def rig() -> Rig:
    rig = Rig(5)
    for number in range(100):
        rig.put(b"k%03d" % number, b"v" * 10, lease=5)
    return rig


def header(revision: int) -> bytes:
    fields = rpc_pb2.ResponseHeader(member_id=3, revision=revision).SerializeToString()
    return b"\x0a" + bytes([len(fields)]) + fields


def stream(rig: Rig, **fields: Any) -> list[rpc_pb2.RangeResponse]:
    request = Range(**{**ALL, **fields})
    return [
        rpc_pb2.RangeStreamResponse.FromString(body).range_response
        for body in rig.store.range_stream(request, header)
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"limit": 25},
        {"limit": 100},
        {"limit": 99},
        {"keys_only": True},
        {"count_only": True},
        {"count_only": True, "limit": 3},
        {"revision": 40},
        {"revision": 40, "limit": 7},
        {"key": b"k050", "range_end": b"k060"},
        {"key": b"k050", "range_end": b""},
        {"key": b"z"},
    ],
)
def test_all_chunks_together_are_the_unary_reply(rig: Rig, fields: dict[str, Any]) -> None:
    """S3."""
    merged = rpc_pb2.RangeResponse()
    for chunk in stream(rig, **fields):
        merged.MergeFrom(chunk)
    expected = rig.range(**{**ALL, **fields})
    assert merged.header == rpc_pb2.ResponseHeader(
        member_id=3, revision=fields.get("revision", 101)
    )
    merged.ClearField("header")
    expected.ClearField("header")
    assert merged == expected


def test_chunks_grow(rig: Rig) -> None:
    """S2, S3: the first holds ten keys; the last alone has what concerns the whole."""
    chunks = stream(rig)
    assert [len(chunk.kvs) for chunk in chunks] == [10, 20, 40, 30]
    for chunk in chunks[:-1]:
        assert not chunk.HasField("header")
        assert (chunk.count, chunk.more) == (0, False)
    assert chunks[-1].count == 100


def test_chunks_shrink_when_they_are_large() -> None:
    """S2."""
    rig = Rig()
    for number in range(20):
        rig.put(b"k%02d" % number, b"v" * 400_000)
    assert [len(chunk.kvs) for chunk in stream(rig)][:2] == [10, 5]


def test_counting_is_one_message(rig: Rig) -> None:
    """S3."""
    (only,) = stream(rig, count_only=True)
    assert (list(only.kvs), only.count, only.more) == ([], 100, False)


def test_all_chunks_show_the_first_revision(rig: Rig) -> None:
    """S2."""
    chunks = rig.store.range_stream(Range(**ALL), header)
    seen = [next(chunks)]
    rig.delete(b"k050", b"\0")
    rig.put(b"k000")
    seen += chunks
    merged = rpc_pb2.RangeResponse()
    for body in seen:
        merged.MergeFrom(rpc_pb2.RangeStreamResponse.FromString(body).range_response)
    assert (len(merged.kvs), merged.count, merged.header.revision) == (100, 100, 101)


def test_a_stream_ends_when_its_revision_is_compacted(rig: Rig) -> None:
    """A slow client holds no compaction up."""
    chunks = rig.store.range_stream(Range(**ALL), header)
    next(chunks)
    rig.put(b"z")
    rig.compact(102)
    with pytest.raises(Compacted):
        list(chunks)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sort_order": 1}, "RangeStream does not support custom sort orders"),
        ({"sort_target": 3}, "RangeStream does not support custom sort orders"),
        ({"min_mod_revision": 3}, "RangeStream does not support revision filters"),
        ({"max_create_revision": 3}, "RangeStream does not support revision filters"),
    ],
)
def test_what_it_does_not_do(rig: Rig, fields: dict[str, int], message: str) -> None:
    """S1."""
    with pytest.raises(RequestError) as refusal:
        stream(rig, **fields)
    assert (refusal.value.code, refusal.value.message) == (Code.UNIMPLEMENTED, message)


def test_the_rules_of_range_hold(rig: Rig) -> None:
    """R1, R2."""
    with pytest.raises(EmptyKey):
        stream(rig, key=b"")
    with pytest.raises(FutureRev):
        stream(rig, revision=500)
    rig.compact(50)
    with pytest.raises(Compacted):
        stream(rig, revision=49)


def test_chunks_stay_below_a_slice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_stream, "CHUNK_KEYS_MAX", 30)
    assert [len(chunk.kvs) for chunk in stream(rig)] == [10, 20, 30, 30, 10]


def test_keys_that_lived_and_died_in_between(rig: Rig) -> None:
    """S2: a chunk may have nothing to show; there is no message for it."""
    revision = rig.store.revision
    for number in range(50):
        rig.put(b"a%03d" % number)
    chunks = stream(rig, revision=revision)
    assert [len(chunk.kvs) for chunk in chunks] == [10, 20, 40, 30]
    assert (chunks[0].kvs[0].key, chunks[-1].count) == (b"k000", 100)
