"""Queues between members and what they tell raft (spec/peer.md §3.5, cases 8 and 9)."""

from __future__ import annotations

import asyncio

import pytest

from kvserver.limits import PEER_STREAM_BYTES_MAX, PEER_STREAM_MESSAGES_MAX
from kvserver.membership import Member, Membership
from kvserver.membership.legacy_image import decode_legacy_image, encode_legacy_image
from kvserver.mvcc.backend.memory import MemoryBackend
from kvserver.peers.frames import EntryCache, MessageReader, MessageWriter
from kvserver.peers.network import is_peer_url, without_stale_acknowledgements
from kvserver.peers.outgoing import CHUNK_BYTES_MAX, OutgoingStream
from kvserver.peers.versions import is_downgraded, next_version
from kvserver.raft import Entry, EntryType, Message, MessageType


def heartbeat(term: int) -> Message:
    return Message(MessageType.HEARTBEAT, 2, 1, term)


class Lost:
    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, stream: OutgoingStream, lost: int) -> None:
        self.counts.append(lost)


def make_stream(lost: Lost) -> OutgoingStream:
    return OutgoingStream(MessageWriter(EntryCache()), lost)


def test_a_full_queue_drops_and_says_so() -> None:
    stream = make_stream(Lost())
    for term in range(PEER_STREAM_MESSAGES_MAX):
        assert stream.send(heartbeat(term + 1))
    assert not stream.send(heartbeat(1))
    assert stream.queued_messages == PEER_STREAM_MESSAGES_MAX


class Socket:
    """Takes pieces past the body while it is told to."""

    def __init__(self) -> None:
        self.takes = True
        self.written = b""

    def __call__(self, piece: bytes) -> bool:
        if self.takes:
            self.written += piece
        return self.takes


def terms(data: bytes) -> list[int]:
    return [message.term for message in MessageReader().feed(data)]


async def test_frames_go_past_the_queue_while_it_is_empty() -> None:
    """And never past one that waits there: the order is the stream's state."""
    stream, socket = make_stream(Lost()), Socket()
    body = stream.body()
    assert stream.send(heartbeat(1)), "before the response has begun"
    stream.write_with(socket)
    assert stream.send(heartbeat(2))
    assert socket.written == b"", "one waits"
    assert terms(await anext(body)) == [1, 2]
    assert stream.send(heartbeat(3))
    stream.send_heartbeat()
    assert terms(socket.written) == [3]
    assert socket.written.endswith(MessageWriter.heartbeat)
    assert stream.queued_bytes == 0
    socket.takes = False
    assert stream.send(heartbeat(4))
    socket.takes = True
    assert stream.send(heartbeat(5))
    assert terms(socket.written) == [3]
    assert terms(await anext(body)) == [4, 5]
    stream.close()
    assert not stream.send(heartbeat(6))
    assert terms(socket.written) == [3]
    assert [piece async for piece in body] == []


def appended(size: int) -> Message:
    entry = Entry(8, 5, EntryType.NORMAL, bytes(size))
    return Message(MessageType.APPEND, 2, 1, 5, log_term=5, index=7, entries=(entry,))


async def test_a_queue_is_full_of_bytes_long_before_it_is_of_messages() -> None:
    """Whoever takes nothing holds this much of the leader's memory, and no more."""
    stream = make_stream(Lost())
    size = PEER_STREAM_BYTES_MAX // 8
    while stream.send(appended(size)):
        assert stream.queued_messages <= 8
    assert PEER_STREAM_BYTES_MAX <= stream.queued_bytes <= PEER_STREAM_BYTES_MAX + 2 * size
    assert not stream.send(heartbeat(1))
    body = stream.body()
    await anext(body)
    assert stream.queued_bytes < PEER_STREAM_BYTES_MAX
    assert stream.send(appended(10))
    while stream.queued_messages:
        await anext(body)
    assert stream.queued_bytes == 0
    stream.send_heartbeat()
    assert stream.queued_bytes > 0
    stream.close()
    assert stream.queued_bytes == 0


async def test_messages_leave_together_and_in_order() -> None:
    lost = Lost()
    stream = make_stream(lost)
    body = stream.body()
    messages = [heartbeat(term) for term in range(1, 6)]
    for message in messages:
        stream.send(message)
    assert MessageReader().feed(await anext(body)) == messages
    assert stream.queued_messages == 0
    waiting = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    stream.send(messages[0])
    assert MessageReader().feed(await waiting) == messages[:1]
    stream.send_heartbeat()
    assert MessageReader().feed(await anext(body)) == []
    stream.send(messages[0])
    stream.close()
    with pytest.raises(StopAsyncIteration):
        await anext(body)
    stream.close()
    assert lost.counts == [1], "once, with what was still queued"
    assert not stream.send(messages[0])


def test_heartbeats_notice_a_link_that_takes_nothing() -> None:
    stream = make_stream(Lost())
    stream.send_heartbeat()
    for number in range(1, 4):
        stream.send_heartbeat()
        assert stream.stuck_heartbeats == number


async def test_a_link_that_is_slow_is_not_stuck() -> None:
    """Its queue is never empty when a heartbeat looks, but something leaves in between."""
    stream = make_stream(Lost())
    body = stream.body()
    for _ in range(20):
        stream.send(appended(CHUNK_BYTES_MAX))
        stream.send(appended(CHUNK_BYTES_MAX))
        await anext(body)
        stream.send_heartbeat()
        assert stream.stuck_heartbeats == 1
    for _ in range(3):
        stream.send_heartbeat()
    assert stream.stuck_heartbeats == 4


def test_only_the_last_acknowledgement_leaves() -> None:
    def acknowledged(index: int, to: int = 1, *, reject: bool = False) -> Message:
        return Message(MessageType.APPEND_RESPONSE, to, 2, 5, index=index, reject=reject)

    kept = without_stale_acknowledgements(
        [acknowledged(1), acknowledged(2), acknowledged(3, to=9), acknowledged(4, reject=True)]
    )
    assert [(m.to, m.index) for m in kept] == [(1, 2), (9, 3), (1, 4)]


@pytest.mark.parametrize(
    ("current", "versions", "wanted"),
    [
        (None, ["3.7.1", None], "3.0.0"),
        ("3.0.0", ["3.7.1", None], None),
        ("3.0.0", ["3.7.1", "3.5.1"], "3.5.0"),
        ("3.5.0", ["3.7.1", "3.5.1"], None),
        ("3.5.0", ["3.7.1", "3.6.0"], "3.6.0"),
        ("3.7.0", ["3.7.1", "3.6.0"], None),
        (None, ["3.7.1", "3.7.1"], "3.7.0"),
        (None, ["3.7.1", "nonsense"], "3.0.0"),
    ],
)
def test_the_cluster_version_is_the_least_and_never_falls(
    current: str | None, versions: list[str | None], wanted: str | None
) -> None:
    """spec/cluster.md §6.1; spec/peer.md case 21."""
    assert next_version(current, versions) == wanted


@pytest.mark.parametrize(
    ("target", "versions", "is_over"),
    [
        ("3.6.0", ["3.6.4", "3.6.0"], True),
        ("3.6.0", ["3.6.4", "3.7.1"], False),
        ("3.6.0", ["3.6.4", None], False),
    ],
)
def test_a_downgrade_is_over_when_all_members_are_of_the_target(
    target: str, versions: list[str | None], is_over: bool
) -> None:
    """spec/cluster.md §6.4."""
    assert is_downgraded(target, versions) is is_over


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("http://127.0.0.1:2380", True),
        ("https://host.example:2380", True),
        ("http://[::1]:2380", True),
        ("http://127.0.0.1", False),
        ("ftp://127.0.0.1:2380", False),
        ("http://127.0.0.1:2380/path", False),
        ("127.0.0.1:2380", False),
        ("http://127.0.0.1:x", False),
        ("", False),
    ],
)
def test_peer_urls(url: str, is_good: bool) -> None:
    assert is_peer_url(url) is is_good


def test_the_membership_in_a_snapshot_comes_back() -> None:
    """spec/raft-wire.md §6 and case 16."""
    membership = Membership(MemoryBackend())
    voter = Member(0x628170C800DBCEE, ("http://a:1", "http://b:1"), "m1", ("http://c:1",))
    learner = Member(7, ("http://d:1",), is_learner=True)
    membership.apply_change(0, voter)
    membership.apply_change(3, learner)
    membership.apply_change(0, Member(9, ("http://e:1",)))
    membership.apply_change(1, Member(9))
    membership.set_version("3.5.0")
    found = decode_legacy_image(encode_legacy_image(membership))
    assert sorted(found.members, key=lambda m: m.id) == [learner, voter]
    assert (found.removed, found.version) == ((9,), "3.5.0")
