"""The parts of the transport that need no connection."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvserver.transport import RpcError, TransportLimits, frames, grpc, header_blocks
from kvserver.transport.budget import NuisanceBudget
from kvserver.transport.deadlines import DeadlineWheel
from kvserver.transport.keepalive import Keepalive, PingPolicy


class FakeTimer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Any, *args: Any) -> FakeTimer:
        self.timers.append(FakeTimer(at, lambda: callback(*args)))
        return self.timers[-1]

    def call_later(self, seconds: float, callback: Any, *args: Any) -> FakeTimer:
        return self.call_at(self.now + seconds, callback, *args)

    @property
    def armed(self) -> list[FakeTimer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.armed if timer.at <= end]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            timer.callback()
        self.now = end


class Waiting:
    def __init__(self, loop: FakeLoop) -> None:
        self.loop = loop
        self.expired: list[float] = []

    def expire(self) -> None:
        self.expired.append(self.loop.now)


# Deadlines


@given(st.lists(st.floats(0.0, 100.0), max_size=30))
@settings(deadline=None)
def test_a_deadline_is_never_early_and_at_most_a_slot_late(seconds: list[float]) -> None:
    loop = FakeLoop()
    wheel = DeadlineWheel(loop)  # type: ignore[arg-type]
    calls = [(loop.now + delay, Waiting(loop)) for delay in seconds]
    for deadline, call in calls:
        wheel.add(deadline, call)
        assert len(loop.armed) == 1
    loop.advance(101)
    for deadline, call in calls:
        (expired,) = call.expired
        assert deadline <= expired <= deadline + 0.0101
    assert loop.armed == []


def test_a_call_that_ended_is_left_alone() -> None:
    loop = FakeLoop()
    wheel = DeadlineWheel(loop)  # type: ignore[arg-type]
    ended, waiting = Waiting(loop), Waiting(loop)
    wheel.add(loop.now + 1, ended).discard(ended)
    wheel.add(loop.now + 1, waiting)
    loop.advance(2)
    assert (len(ended.expired), len(waiting.expired)) == (0, 1)


def test_a_call_added_while_others_expire() -> None:
    loop = FakeLoop()
    wheel = DeadlineWheel(loop)  # type: ignore[arg-type]
    second = Waiting(loop)

    class First:
        def expire(self) -> None:
            wheel.add(loop.now + 5, second)

    wheel.add(loop.now + 1, First())
    loop.advance(10)
    assert len(second.expired) == 1
    wheel.add(loop.now + 1, second)
    wheel.close()
    loop.advance(10)
    assert len(second.expired) == 1


# Pings (spec/wire-api.md §3.3)


@pytest.mark.parametrize(
    ("gaps", "has_streams", "without_stream", "verdict"),
    [
        ([1, 1, 1], True, False, True),
        ([1, 1], True, False, False),
        ([5, 5, 5, 5, 5], True, False, False),
        ([30, 30, 30], False, False, True),
        ([7200, 7200, 7200], False, False, False),
        ([5, 5, 5, 5], False, True, False),
        ([1, 1, 1], False, True, True),
        ([1, 30, 1, 30, 1], True, False, True),  # strikes are not forgotten by waiting
    ],
)
def test_ping_policy(
    gaps: list[float], has_streams: bool, without_stream: bool, verdict: bool
) -> None:
    policy = PingPolicy(5.0, without_stream)
    now = 100.0
    assert not policy.too_many(now, False, has_streams)
    results = []
    for gap in gaps:
        now += gap
        results.append(policy.too_many(now, False, has_streams))
    assert results[-1] is verdict
    assert not any(results[:-1])


def test_output_forgives_strikes() -> None:
    policy = PingPolicy(5.0, False)
    assert [policy.too_many(1.0, n % 3 == 0, True) for n in range(12)] == [False] * 12


def test_keepalive() -> None:
    loop = FakeLoop()
    seen: list[str] = []
    keepalive = Keepalive(
        loop,  # type: ignore[arg-type]
        7200,
        20,
        lambda: seen.append("ping"),
        lambda: seen.append("lost"),
    )
    loop.advance(7000)
    keepalive.heard()
    loop.advance(7000)
    assert seen == []
    loop.advance(200)
    assert seen == ["ping"]
    loop.advance(10)
    keepalive.heard()
    loop.advance(7199)
    assert seen == ["ping"]
    loop.advance(1)
    assert seen == ["ping", "ping"]
    loop.advance(20)
    assert seen == ["ping", "ping", "lost"]
    assert loop.armed == []


# Budgets


def test_time_pays_a_debt_but_is_not_saved_up() -> None:
    budget = NuisanceBudget(10, 1.0, now=0.0)
    for _ in range(10):
        assert not budget.near()
    assert budget.near() and not budget.exceeded(1_000.0, 0, 0)
    verdicts = [budget.near() and budget.exceeded(1_000.0, 0, 0) for _ in range(11)]
    assert verdicts == [False] * 10 + [True]


def test_work_pays_a_debt_once() -> None:
    budget = NuisanceBudget(10, 0.0, now=0.0)
    verdicts = [budget.near() and budget.exceeded(1.0, 64 * 20, 30) for _ in range(61)]
    assert verdicts == [False] * 60 + [True]


def test_limits_hold_together() -> None:
    with pytest.raises(AssertionError):
        TransportLimits(stream_low_water_bytes=2, stream_high_water_bytes=1)
    with pytest.raises(AssertionError):
        TransportLimits(connection_window_bytes=1000)


# gRPC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"7S", 7.0),
        (b"1500m", 1.5),
        (b"10u", 1e-5),
        (b"99999999n", 0.099999999),
        (b"0S", 0.0),
        (b"99999999H", 1e9),
        (b"", -1.0),
        (b"S", -1.0),
        (b"1", -1.0),
        (b"1s", -1.0),
        (b"123456789S", -1.0),
        (b"-1S", -1.0),
        ("١S".encode(), -1.0),
    ],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert grpc.parse_timeout(text) == pytest.approx(seconds)


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=6),
    st.lists(st.integers(1, 50), max_size=100),
)
@settings(deadline=None)
def test_messages_survive_any_cutting(bodies: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    data = b""
    for body, compressed in bodies:
        sent = zlib.compress(body) if compressed else body
        data += bytes((compressed,)) + len(sent).to_bytes(4, "big") + sent
    reader = grpc.MessageReader(b"deflate", 1000)
    seen: list[bytes] = []
    for size in cuts:
        seen += reader.feed(data[:size])
        data = data[size:]
        assert reader.held_bytes <= 1005
    seen += reader.feed(data)
    assert seen == [body for body, _ in bodies]
    assert reader.held_bytes == 0


@given(st.binary(max_size=200), st.sampled_from([b"identity", b"gzip", b"deflate"]))
@settings(deadline=None)
def test_any_bytes_give_messages_or_a_status(data: bytes, encoding: bytes) -> None:
    reader = grpc.MessageReader(encoding, 100)
    try:
        messages = reader.feed(data)
    except RpcError as error:
        assert error.code in (8, 13)
    else:
        assert all(len(message) <= 100 for message in messages)


def test_the_limit_is_inclusive() -> None:
    assert grpc.MessageReader(b"gzip", 5).feed(grpc.message(b"12345")) == [b"12345"]
    with pytest.raises(RpcError, match=r"larger than max \(6 vs\. 5\)"):
        grpc.MessageReader(b"gzip", 5).feed(grpc.message(b"123456"))


# Header blocks and frames


@given(st.text(max_size=60))
@settings(deadline=None)
def test_grpc_message_is_printable_and_reversible(message: str) -> None:
    from urllib.parse import unquote

    encoded = header_blocks.percent_encoded(message).decode("ascii")
    assert all(" " <= letter <= "~" for letter in encoded)
    if message.isprintable() and message.isascii():
        assert encoded == message.replace("%", "%25")
    assert unquote(encoded, errors="strict") == message.encode("utf-8", "replace").decode()


@given(
    st.integers(100, 599),
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=40_000)), max_size=4
    ),
)
@settings(max_examples=50, deadline=None)
def test_response_blocks_mean_what_they_say(status: int, fields: list[tuple[bytes, bytes]]) -> None:
    decoder = hpack.Decoder(max_header_list_size=1 << 20)
    block = header_blocks.block(status, fields)
    assert decoder.decode(block, raw=True) == [(b":status", b"%d" % status), *fields]
    assert not decoder.header_table.dynamic_entries


def test_trailers() -> None:
    decoder = hpack.Decoder()
    assert decoder.decode(header_blocks.grpc_trailers(5, "a\nb")) == [
        ("grpc-status", "5"),
        ("grpc-message", "a%0Ab"),
    ]
    assert decoder.decode(header_blocks.GRPC_OK_TRAILERS) == [("grpc-status", "0")]


@given(st.integers(0, 2**24 - 1), st.integers(0, 255), st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_frame_header(size: int, flags: int, stream_id: int) -> None:
    size = min(size, 70_000)
    data = frames.frame(frames.DATA, flags, stream_id, bytes(size))
    high, low, kind, got_flags, got_id = frames.FRAME_HEADER.unpack_from(data)
    assert ((high << 8 | low), kind, got_flags, got_id) == (size, 0, flags, stream_id)
    assert len(data) == 9 + size
