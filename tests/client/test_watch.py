"""Replay and Follow against real servers: history to its end, streams that break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvserver.client import CallFailed, Client, Events, Follow, Gap, Live, Replay, Resuming
from kvserver.errors import Code
from kvserver.proto import rpc_pb2
from tests.support.auth import auth_kinds, enable_auth
from tests.support.servers import KEYDECK, Server, kinds, running

NUL = b"\x00"
SECONDS_MAX = 120.0
"""Only an upper bound for a test that hangs."""


@pytest.fixture(params=kinds())
def server(request, tmp_path) -> Iterator[Server]:
    with running(request.param, tmp_path) as [one]:
        yield one


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    one = server.client()
    yield one
    one.close()


def put(client: Client, key: bytes, value: bytes = b"v") -> int:
    request = rpc_pb2.PutRequest(key=key, value=value)
    return client.write(lambda s: s.kv.Put, request, SECONDS_MAX).header.revision


def delete(client: Client, key: bytes) -> int:
    request = rpc_pb2.DeleteRangeRequest(key=key)
    return client.write(lambda s: s.kv.DeleteRange, request, SECONDS_MAX).header.revision


def compact(client: Client, revision: int) -> None:
    client.write(lambda s: s.kv.Compact, rpc_pb2.CompactionRequest(revision=revision), SECONDS_MAX)


def replay(client: Client, key: bytes, end: bytes, until: int, **more) -> tuple[Replay, list[int]]:
    options = {"start": 1, "seconds": SECONDS_MAX} | more
    one = Replay(client, key, end, until=until, **options)
    return one, [event.kv.mod_revision for batch in one.batches() for event in batch]


def test_a_silent_range_is_known_to_be_silent(client: Client) -> None:
    """Nothing matches, and yet the replay ends, for certain and long before its time is up."""
    for _ in range(3):
        newest = put(client, b"other")
    one, revisions = replay(client, b"nothing", b"", newest)
    assert revisions == []
    assert one.is_complete
    assert one.last_revision == newest


def test_deletes_and_earlier_lives_are_in_it(client: Client) -> None:
    wanted = [put(client, b"k"), delete(client, b"k"), put(client, b"k"), delete(client, b"k")]
    newest = put(client, b"other")
    one, revisions = replay(client, b"k", b"", newest)
    assert revisions == wanted
    assert one.is_complete
    assert one.compact_revision == 0


def test_trap_7_it_starts_behind_what_was_compacted(client: Client) -> None:
    gone, kept = put(client, b"k"), [put(client, b"k"), put(client, b"k")]
    compact(client, gone)
    one, revisions = replay(client, b"k", b"", kept[-1])
    assert revisions == kept
    assert (one.compact_revision, one.first_revision) == (gone, gone + 1)
    assert one.is_complete


def test_compacted_to_the_head_nothing_is_left_and_that_is_said(client: Client) -> None:
    newest = put(client, b"k")
    compact(client, newest)
    one, revisions = replay(client, b"k", b"", newest)
    assert revisions == []
    assert one.compact_revision == newest
    assert one.is_complete


def test_more_than_one_pass_of_the_server_is_read(client: Client) -> None:
    """2500 revisions, the newest not the range's: spec/watch.md V5 batches of a thousand."""
    [endpoint] = client.config.endpoints
    send = client.stubs(endpoint).kv.Put.future
    wanted: list[int] = []
    for _ in range(25):
        puts = [rpc_pb2.PutRequest(key=b"k%d" % (number % 7)) for number in range(100)]
        calls = [send(request, timeout=SECONDS_MAX) for request in puts]
        wanted += sorted(call.result().header.revision for call in calls)
    newest = put(client, b"other")
    one, revisions = replay(client, b"k", b"l", newest)
    assert revisions == wanted
    assert one.is_complete


def test_the_whole_keyspace_ends_with_the_last_revision_wanted(client: Client) -> None:
    revisions = [put(client, b"%d" % number) for number in range(6)]
    one, seen = replay(client, NUL, NUL, revisions[3], start=revisions[1])
    assert seen == revisions[1:4]
    assert one.is_complete


def test_a_new_store_has_no_history(client: Client) -> None:
    one, revisions = replay(client, NUL, NUL, 1)
    assert revisions == []
    assert one.is_complete


def test_large_values_come_in_pieces_and_whole(client: Client) -> None:
    wanted = [put(client, b"k%02d" % number, b"x" * 1_000_000) for number in range(40)]
    newest = put(client, b"other")
    one, revisions = replay(client, b"k", b"l", newest)
    assert revisions == wanted
    assert one.is_complete


@pytest.mark.parametrize("kind", auth_kinds())
def test_a_user_without_the_whole_keyspace_gets_theirs(kind: str, tmp_path) -> None:
    with running(kind, tmp_path) as [one]:
        root = one.client()
        wanted = [put(root, b"/pub/a"), put(root, b"/pub/b")]
        newest = put(root, b"/other")
        enable_auth(root)
        rita = Client(replace(root.config, user="rita", password="pw"))
        done, revisions = replay(rita, b"/pub/", b"/pub0", newest)
        assert revisions == wanted
        assert done.is_complete
        with pytest.raises(CallFailed) as refused:
            replay(rita, NUL, NUL, newest)
        assert refused.value.code is Code.PERMISSION_DENIED
        rita.close()
        root.close()


class Following:
    """A `Follow` in a thread of its own, as the console holds one."""

    def __init__(self, client: Client, start: int, key: bytes = b"k", end: bytes = b"l") -> None:
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=end)
        self.follow = Follow(client, request, start=start)
        self.items: list[object] = []
        self.failure: CallFailed | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self.follow:
                self._add(item)
        except CallFailed as error:
            self.failure = error
            self._add(error)

    def _add(self, item: object) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def until(self, condition) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), SECONDS_MAX), self.items

    @property
    def revisions(self) -> list[int]:
        return [e.kv.mod_revision for i in self.items if isinstance(i, Events) for e in i.events]

    def has(self, kind: type) -> bool:
        return any(isinstance(item, kind) for item in self.items)

    def stop(self) -> None:
        self.follow.close()
        self._thread.join(SECONDS_MAX)
        assert not self._thread.is_alive()


def test_progress_moves_the_place_to_go_on_from(tmp_path) -> None:
    """A range that nobody writes to is not behind: what was compacted meanwhile is no gap in it."""
    flags = ["--watch-progress-notify-interval=100ms"]
    with running(KEYDECK, tmp_path, flags=flags) as [one]:
        client = one.client()
        first = put(client, b"k1")
        following = Following(client, first)
        following.until(lambda f: f.revisions == [first])
        last = put(client, b"elsewhere")
        following.until(lambda f: f.items[-1] == Live(last + 1))
        assert following.follow.next_revision == last + 1
        following.stop()
        client.close()


def test_trap_8_a_broken_stream_leaves_no_hole(server: Server, client: Client) -> None:
    wanted = [put(client, b"k1")]
    following = Following(client, wanted[0])
    following.until(lambda f: f.revisions == wanted)
    for _ in range(2):
        server.kill()
        following.until(lambda f: isinstance(f.items[-1], Resuming))
        assert following.items[-1].revision == wanted[-1] + 1
        server.start()
        server.wait_until_ready()
        other = server.client()
        wanted += [put(other, b"k1"), put(other, b"k2")]
        other.close()
        following.until(lambda f, wanted=tuple(wanted): f.revisions == list(wanted))
    following.stop()


def test_trap_8_what_was_compacted_meanwhile_is_a_gap(client: Client) -> None:
    first, second, third = put(client, b"k"), put(client, b"k"), put(client, b"k")
    compact(client, second)
    following = Following(client, first)
    following.until(lambda f: f.revisions == [third])
    assert Gap(first, second) in following.items
    assert following.items.count(Live(second + 1)) == 1
    following.stop()


@pytest.mark.parametrize("kind", auth_kinds())
def test_a_refusal_ends_it(kind: str, tmp_path) -> None:
    with running(kind, tmp_path) as [one]:
        root = one.client()
        newest = put(root, b"k")
        enable_auth(root)
        rita = Client(replace(root.config, user="rita", password="pw"))
        following = Following(rita, newest)
        following.until(lambda f: f.failure is not None)
        assert following.failure.code is Code.PERMISSION_DENIED
        assert not following.has(Resuming)
        rita.close()
        root.close()
