"""Watch pages, their socket and their export, against real servers (console.md §4, §7)."""

from __future__ import annotations

import base64
import html
import json
import re

import pytest
from asgiref.sync import sync_to_async
from django.urls import reverse

from console.gateway.feed import Feed, Tally
from console.keys.addresses import BadAddress, query_url
from console.keys.byte_text import show
from console.keys.paging import FROM_NUL, KeyRange
from console.watch import consumer, views
from console.watch.scope import scope_of
from kvserver.client import Events
from kvserver.proto import kv_pb2
from tests.console.conftest import Store
from tests.console.test_history import words
from tests.console.test_keys import HOSTILE
from tests.console.test_live import closed_with, socket, viewer
from tests.support.servers import Server

ON_EVERY_SERVER = True
pytestmark = pytest.mark.django_db(transaction=True)


# --- the page without scripts, and the export ---------------------------------------------------


def page(browser, **query: str):
    return browser.get(query_url(reverse("watch", args=["one"]), **query))


def revisions(text: str) -> list[int]:
    found = re.findall(r'class="rev mono">(.*?)</span><span class="chip', text)
    return [int(re.sub(r"\D", "", re.sub("<[^>]*>", "", one))) for one in found]


def test_without_scripts_the_newest_events_are_there(as_viewer, store: Store, prefix) -> None:
    made = [store.put(prefix + b"a", b"1"), store.put(prefix + b"a", b"2")]
    made.append(store.delete(prefix + b"a"))
    text = page(as_viewer, prefix=show(prefix)).text
    assert revisions(text) == made[::-1]
    assert revisions(page(as_viewer, prefix=show(prefix), show="puts").text) == made[1::-1]
    assert revisions(page(as_viewer, prefix=show(prefix), show="deletes").text) == made[2:]
    assert f'data-next="{made[-1] + 1}"' in text


@pytest.mark.parametrize(("key", "value"), HOSTILE.items())
def test_hostile_keys_and_values_are_only_text(as_viewer, store, prefix, key, value) -> None:
    store.put(prefix + key, value)
    store.put(prefix + key, value)
    text = page(as_viewer, prefix=show(prefix)).text
    assert show(prefix + key) in html.unescape(text)
    for bad in ("<script>alert", "<img src=x", "\u202e"):
        assert bad not in text


@pytest.mark.parametrize(
    "query", [{"prefix": "\\"}, {"key": "b", "end": "a"}, {"key": "b", "end": "b"}, {"show": "x"}]
)
def test_what_is_no_range_is_explained(as_viewer, query) -> None:
    answer = page(as_viewer, **query)
    assert answer.status_code == 400
    assert "This is no range of keys" in answer.text


def test_every_kind_of_range() -> None:
    assert scope_of({}).keys == KeyRange(FROM_NUL, FROM_NUL)
    assert scope_of({"prefix": "a"}).keys == KeyRange(b"a", b"b")
    assert scope_of({"key": "a"}).keys == KeyRange(b"a", b"a\x00")
    assert scope_of({"key": "a", "end": "c"}).keys == KeyRange(b"a", b"c")
    assert scope_of({"end": "c"}).keys == KeyRange(FROM_NUL, b"c")
    assert scope_of({"key": "a", "end": r"\x00"}).keys == KeyRange(b"a", FROM_NUL)
    with pytest.raises(BadAddress):
        scope_of({"key": "c", "end": "a"})


def exported(browser, **query: object) -> list[dict]:
    answer = browser.get(query_url(reverse("watch_export", args=["one"]), **query))
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment")
    return [json.loads(line) for line in answer.content.splitlines()]


def test_the_export_rounds_and_replaces_nothing(as_viewer, store, prefix) -> None:
    """Traps 3 and 4."""
    first = store.put(prefix, b"\xff\x00")
    last = store.put(prefix, b"new")
    store.put(prefix, b"later")
    lines = exported(as_viewer, prefix=show(prefix), **{"from": first, "to": last})
    assert [line["revision"] for line in lines] == [str(first), str(last)]
    assert base64.b64decode(lines[1]["before"]["value"]) == b"\xff\x00"
    assert base64.b64decode(lines[1]["key"]) == prefix
    assert [line["type"] for line in lines] == ["CREATE", "PUT"]


def test_an_export_says_what_is_missing(as_viewer, store, prefix, monkeypatch) -> None:
    first = store.put(prefix, b"1")
    made = [store.put(prefix, b"%d" % number) for number in range(4)]
    store.compact(first)
    monkeypatch.setattr(views, "EXPORT_EVENTS_MAX", 2)
    lines = exported(as_viewer, prefix=show(prefix), **{"from": first - 1})
    assert lines[0] == {"gap": "compacted", "compact_revision": str(first)}
    assert [line.get("revision") for line in lines[1:3]] == [str(made[0]), str(made[1])]
    assert lines[3] == {"gap": "not exported", "from_revision": str(made[2])}


# --- the socket ---------------------------------------------------------------------------------


class Watching:
    """A browser's side of the socket."""

    def __init__(self, session: str, prefix: bytes, **more: str) -> None:
        query = {"prefix": show(prefix)} | more
        self._socket = socket(session, query_url("/ws/c/one/watch", **query))
        self.text = ""

    async def open(self, start: int, **said: object) -> Watching:
        await self._socket.connect(timeout=10)
        await self.say({"from": str(start)} | said)
        return self

    async def say(self, message: dict[str, object]) -> None:
        await self._socket.send_to(json.dumps(message))

    async def frame(self) -> str:
        """The next frame, acknowledged as the page does."""
        text = await self._socket.receive_from(timeout=20)
        self.text = text + self.text
        await self.say({"ack": 1})
        return text

    async def until(self, condition) -> None:
        while not condition(self):
            await self.frame()

    @property
    def revisions(self) -> list[int]:
        return revisions(self.text)

    async def close(self) -> None:
        await self._socket.disconnect(timeout=20)


async def start_of(store: Store) -> int:
    return await sync_to_async(store.revision)() + 1


async def test_events_arrive_with_their_difference(server: Server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: 'data-live="on"' in w.text)
    a = await sync_to_async(store.put)(prefix, b"old\n")
    b = await sync_to_async(store.put)(prefix, b"new\n")
    c = await sync_to_async(store.delete)(prefix)
    await one.until(lambda w: len(w.revisions) == 3 and "<b>3</b> events" in w.text)
    assert one.revisions == [c, b, a]
    assert '<div class="add">' in one.text
    assert f'data-next="{c + 1}"' in one.text
    assert "<b>1</b> created" in one.text
    await one.close()


async def test_trap_8_a_browser_that_comes_back_goes_on_where_it_was(server, store, prefix):
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    first = await sync_to_async(store.put)(prefix, b"1")
    await one.until(lambda w: w.revisions == [first])
    await one.close()
    missed = await sync_to_async(store.put)(prefix, b"2")
    again = await Watching(session, prefix).open(first + 1)
    await again.until(lambda w: w.revisions == [missed])
    await again.close()


async def test_trap_8_what_was_compacted_meanwhile_is_a_gap_row(server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    for _ in range(3):
        newest = await sync_to_async(store.put)(prefix, b"v")
    await sync_to_async(store.compact)(newest - 1)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: w.revisions and "gap, compacted at" in w.text)
    assert one.revisions == [newest]
    assert f"gap, compacted at {newest - 1}" in one.text
    assert "<b>Gap.</b>" in one.text
    await one.close()


async def test_a_pause_freezes_the_list_and_fills_the_buffer(server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start, pause=True)
    made = [await sync_to_async(store.put)(prefix, b"%d" % number) for number in range(15)]
    await one.until(lambda w: "paused: 15 waiting" in words("<main>" + w.text))
    assert one.revisions == []
    await one.say({"pause": False})
    await one.until(lambda w: w.revisions)
    assert one.revisions == made[::-1]
    await one.close()


async def test_a_browser_that_does_not_keep_up_gets_one_frame(server, store, prefix) -> None:
    """No acknowledgement, no further frame; afterwards the newest and the count of the rest."""
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one._socket.receive_from(timeout=20)
    made = [await sync_to_async(store.put)(prefix, b"%d" % number) for number in range(50)]
    assert await one._socket.receive_nothing(timeout=0.5)
    await one.say({"ack": 1})
    await one.until(lambda w: made[-1] in w.revisions)
    assert len(one.revisions) < 50
    assert "came too fast to be shown one by one" in one.text
    await one.close()


@pytest.mark.parametrize("said", ["x", "[]", "null", '{"from": 5}', '{"from": "x"}', "[" * 300])
async def test_nonsense_from_a_browser_changes_nothing(server, store, prefix, said) -> None:
    session, start = await viewer(server), await start_of(store)
    one = Watching(session, prefix)
    await one._socket.connect(timeout=10)
    await one._socket.send_to(said)
    await one.say({"from": str(start)})
    made = await sync_to_async(store.put)(prefix, b"v")
    await one.until(lambda w: w.revisions == [made])
    await one.close()


async def test_a_range_that_is_none_ends_with_a_code_of_its_own(server: Server) -> None:
    session = await viewer(server)
    assert await closed_with(socket(session, "/ws/c/one/watch?key=b&end=a")) == 4400


async def test_more_watches_than_there_may_be_are_told_to_come_later(server, monkeypatch) -> None:
    session = await viewer(server)
    monkeypatch.setattr(consumer, "FEEDS_MAX", 0)
    assert await closed_with(socket(session, "/ws/c/one/watch")) == 1013


async def test_closing_the_socket_ends_the_watch(server: Server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: 'data-live="on"' in w.text)
    assert consumer.WatchConsumer.open_feeds == 1
    await one.close()
    assert consumer.WatchConsumer.open_feeds == 0


# --- the feed's bounds, alone -------------------------------------------------------------------


def event(revision: int, size: int = 1) -> kv_pb2.Event:
    value = kv_pb2.KeyValue(
        key=b"k", value=b"x" * size, mod_revision=revision, create_revision=1, version=2
    )
    return kv_pb2.Event(kv=value)


def test_a_feed_keeps_the_newest_and_counts_the_rest() -> None:
    feed = Feed(None, KeyRange(b"k", b"l"), start=1, puts=True, deletes=True)
    for first in range(2, 10_002, 100):
        feed._note(Events([event(revision) for revision in range(first, first + 100)]))
    assert feed.waiting == 10_000
    taken = feed.take()
    assert [one.revision for one in taken.events] == list(range(9_992, 10_002))
    assert taken.left_out == Tally(puts=9_990, first=2, last=9_991)
    assert feed.total.events == 10_000
    assert feed.take().events == ()


def test_a_feed_is_bounded_in_bytes_too(monkeypatch) -> None:
    monkeypatch.setattr("console.gateway.feed.KEPT_BYTES_MAX", 1000)
    feed = Feed(None, KeyRange(b"k", b"l"), start=1, puts=True, deletes=True)
    feed._note(Events([event(revision, 400) for revision in range(2, 7)]))
    taken = feed.take()
    assert [one.revision for one in taken.events] == [5, 6]
    assert taken.left_out.events == 3
