"""Watch pages, their socket and their export, against real servers (console.md §4, §7)."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib import import_module

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.urls import reverse

from console import live
from console.gateway import Reader
from console.gateway.feed import Feed, Part, Tally, feed_of
from console.keys.addresses import query_url
from console.keys.byte_text import show
from console.keys.paging import KeyRange, prefix_range
from console.models import Account, Cluster
from console.watch import consumer, views, views_export
from console.watch.cursors import Cursor, Place, pack
from console.watch.present import url
from kvserver.client import Events
from kvserver.proto import kv_pb2
from tests.console.conftest import Store
from tests.console.test_history import words
from tests.console.test_keys import HOSTILE
from tests.console.test_live import SECONDS_MAX, closed_with, socket, viewer
from tests.support.servers import Server
from tests.support.servers_proc import wait_until

ON_EVERY_SERVER = True
CLOSE = "websocket.close"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nobody_else_watches(monkeypatch) -> None:
    """What a test that failed has left open is not counted in the next one."""
    monkeypatch.setattr(consumer.WatchConsumer, "ranges_open", 0)


# --- the page without scripts, and the export ---------------------------------------------------


def page(browser, *pairs: tuple[str, str], **query: str):
    return browser.get(url(reverse("watch", args=["one"]), [*pairs, *query.items()]))


def place_in(text: str) -> dict:
    return json.loads(html.unescape(re.search(r'data-place="([^"]*)"', text)[1]))


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
    [[start, _, revision]] = place_in(page(as_viewer, prefix=show(prefix)).text)["at"]
    assert (bytes.fromhex(start), int(revision)) == (prefix, made[-1] + 1)


def test_several_ranges_are_one_list(as_viewer, store: Store, prefix) -> None:
    made = [store.put(prefix + part, b"v") for part in (b"a/1", b"b/1", b"c/1", b"a/2")]
    ranges = [("prefix", show(prefix + part)) for part in (b"a/", b"c/", b"a/1")]
    text = page(as_viewer, *ranges).text
    assert revisions(text) == [made[3], made[2], made[0]]
    assert len(place_in(text)["at"]) == 2  # one range lies in another
    without = re.search(r'<a href="([^"]*)" aria-label="Stop watching [^"]*/c/…"', text)[1]
    assert revisions(as_viewer.get(html.unescape(without)).text) == [made[3], made[0]]


def test_a_text_in_the_key_is_looked_for_in_either_case(as_viewer, store, prefix) -> None:
    made = [store.put(prefix + key, b"v") for key in (b"ORDERS/1", b"users/1", b"orders/\xff")]
    text = page(as_viewer, prefix=show(prefix), text="orders/").text
    assert revisions(text) == [made[2], made[0]]
    assert revisions(page(as_viewer, prefix=show(prefix), text=r"\xff").text) == [made[2]]
    assert "Nothing matches" in page(as_viewer, prefix=show(prefix), text="none").text


def test_a_start_revision_is_read_from_on_and_said_when_gone(as_viewer, store, prefix) -> None:
    made = [store.put(prefix, b"%d" % number) for number in range(4)]
    text = page(as_viewer, prefix=show(prefix), rev=str(made[1])).text
    assert revisions(text) == made[:0:-1]
    store.compact(made[2])
    text = page(as_viewer, prefix=show(prefix), rev=str(made[1])).text
    assert revisions(text) == [made[3]]
    assert f"The revisions {made[1]} to {made[2]} have been compacted" in words(text)
    later = page(as_viewer, prefix=show(prefix), rev=str(made[3] + 10)).text
    assert "is still to come" in later
    assert place_in(later)["at"][0][2] == str(made[3] + 10)


def test_more_than_a_page_reads_at_once_is_said(as_viewer, store, prefix, monkeypatch) -> None:
    monkeypatch.setattr(views, "ROWS_AT_FIRST", 2)
    monkeypatch.setattr(views, "LOOK_REVISIONS", 3)
    made = [store.put(prefix, b"%d" % number) for number in range(6)]
    text = page(as_viewer, prefix=show(prefix)).text
    assert revisions(text) == [made[5], made[4]]
    assert "1 earlier event" in words(text)
    text = page(as_viewer, prefix=show(prefix), rev=str(made[0])).text
    assert revisions(text) == [made[2], made[1]]
    later = re.search(r'<a href="([^"]*)">Later events', text)[1]
    assert revisions(as_viewer.get(html.unescape(later)).text) == [made[5], made[4]]


def test_a_page_asks_the_cluster_twice_a_range(as_viewer, store, prefix, monkeypatch) -> None:
    calls = []
    for name in ("newest_revision", "history"):
        asked = getattr(Reader, name)
        monkeypatch.setattr(
            Reader,
            name,
            lambda *args, asked=asked, **more: calls.append(1) or asked(*args, **more),
        )
    page(as_viewer, ("prefix", show(prefix + b"a")), ("prefix", show(prefix + b"b")))
    assert len(calls) == 4


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
    assert "ws-connect" not in answer.text  # a slip does not watch every key
    answer = page(as_viewer, ("prefix", "/t/"), *query.items())
    assert answer.status_code == 400
    assert "Not all of this can be watched" in answer.text
    assert "ws-connect" in answer.text


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
    monkeypatch.setattr(views_export, "EXPORT_EVENTS_MAX", 2)
    lines = exported(as_viewer, prefix=show(prefix), **{"from": first - 1})
    assert lines[0] == {"gap": "compacted", "compact_revision": str(first)}
    assert [line.get("revision") for line in lines[1:3]] == [str(made[0]), str(made[1])]
    assert lines[3] == {"gap": "not exported", "from_revision": str(made[2])}


def test_the_export_of_several_ranges_is_in_order(as_viewer, store, prefix) -> None:
    made = [store.put(prefix + part, b"v") for part in (b"a/1", b"b/1", b"a/2", b"x/1")]
    ranges = [("prefix", show(prefix + part)) for part in (b"b/", b"a/")]
    path = url(reverse("watch_export", args=["one"]), [*ranges, ("from", str(made[0]))])
    lines = [json.loads(line) for line in as_viewer.get(path).content.splitlines()]
    assert [line["revision"] for line in lines] == [str(one) for one in made[:3]]


# --- the socket ---------------------------------------------------------------------------------


class Watching:
    """A browser's side of the socket."""

    def __init__(self, session: str, *prefixes: bytes, **more: str) -> None:
        pairs = [("prefix", show(prefix)) for prefix in prefixes]
        self._socket = socket(session, url("/ws/c/one/watch", pairs + list(more.items())))
        self._ranges = [prefix_range(prefix) for prefix in prefixes]
        self.text = ""

    async def open(self, start: int, had: str = "", **said: object) -> Watching:
        """`start`: where the page was made. `had`: the place of a browser that comes back."""
        await self._socket.connect(timeout=SECONDS_MAX)
        page = Place(tuple(Cursor(keys, start) for keys in self._ranges), start)
        await self.say({"page": pack(page), "had": had or None} | said)
        return self

    @property
    def place(self) -> str:
        return html.unescape(re.search(r'data-place="([^"]*)"', self.text)[1])

    async def say(self, message: dict[str, object]) -> None:
        await self._socket.send_to(json.dumps(message))

    async def frame(self) -> str:
        """The next frame, acknowledged as the page does."""
        text = await self._socket.receive_from(timeout=SECONDS_MAX)
        self.text = text + self.text
        await self.say({"ack": 1})
        return text

    async def closed_with(self) -> int:
        while (message := await self._socket.receive_output(timeout=SECONDS_MAX))["type"] != CLOSE:
            await self.say({"ack": 1})
        return message["code"]

    async def until(self, condition) -> None:
        while not condition(self):
            await self.frame()

    @property
    def revisions(self) -> list[int]:
        return revisions(self.text)

    async def close(self) -> None:
        await self._socket.disconnect(timeout=SECONDS_MAX)


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
    assert json.loads(one.place)["at"][0][2] == str(c + 1)
    assert json.loads(one.place)["counted"] == ["1", "1", "1"]
    assert "<b>1</b> created" in one.text
    await one.close()


async def test_trap_8_a_browser_that_comes_back_goes_on_where_it_was(server, store, prefix):
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    first = await sync_to_async(store.put)(prefix, b"1")
    await one.until(lambda w: w.revisions == [first])
    await one.close()
    missed = await sync_to_async(store.put)(prefix, b"2")
    again = await Watching(session, prefix).open(start, one.place)
    await again.until(lambda w: w.revisions == [missed])
    assert json.loads(again.place)["counted"] == ["1", "1", "0"]
    await again.close()


async def test_trap_8_a_pause_that_breaks_off_loses_nothing(server, store, prefix) -> None:
    """What a pause holds back has not been shown: after a reconnect it comes again."""
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start, pause=True)
    made = [await sync_to_async(store.put)(prefix, b"%d" % number) for number in range(3)]
    await one.until(lambda w: "paused: 3 waiting" in words("<main>" + w.text))
    assert json.loads(one.place)["at"] == [
        [prefix.hex(), prefix_range(prefix).end.hex(), str(start)]
    ]
    await one.close()
    again = await Watching(session, prefix).open(start, one.place)
    await again.until(lambda w: len(w.revisions) == 3)
    assert again.revisions == made[::-1]
    await again.close()


async def test_several_ranges_share_a_socket_and_one_may_join(server, store, prefix) -> None:
    """Trap 8 for ranges: the one that grows shows neither again what was seen nor leaves out
    what was not; the new one begins where the page does."""
    session, start = await viewer(server), await start_of(store)
    a, b, c = (prefix + part for part in (b"a/1/", b"b/", b"a/2/"))
    one = await Watching(session, a, b).open(start)
    made = [await sync_to_async(store.put)(key, b"1") for key in (a, b, c)]
    await one.until(lambda w: len(w.revisions) == 2)
    assert sorted(one.revisions) == made[:2]
    await one.close()
    missed = await sync_to_async(store.put)(a, b"2")
    page = await start_of(store)
    again = await Watching(session, prefix + b"a/", prefix + b"n/").open(page, one.place)
    fresh = await sync_to_async(store.put)(prefix + b"n/", b"v")
    await again.until(lambda w: fresh in w.revisions and missed in w.revisions)
    assert made[0] not in again.revisions
    assert again.revisions.count(missed) == 1
    assert len(json.loads(again.place)["at"]) == 2
    await again.close()


async def test_the_text_filter_is_the_sockets_too(server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix, text="Wanted").open(start)
    await sync_to_async(store.put)(prefix + b"other", b"v")
    made = await sync_to_async(store.put)(prefix + b"wanted", b"v")
    await one.until(lambda w: w.revisions and "without the text" in w.text)
    assert one.revisions == [made]
    await one.close()


@pytest.mark.parametrize(("key", "value"), HOSTILE.items())
async def test_hostile_events_arrive_as_text(server, store, prefix, key, value) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    for _ in range(2):
        await sync_to_async(store.put)(prefix + key, value)
    await one.until(lambda w: len(w.revisions) == 2)
    assert show(prefix + key) in html.unescape(one.text)
    for bad in ("<script>alert", "<img src=x", "\u202e", "\x00"):
        assert bad not in one.text
    await one.close()


async def test_trap_8_what_was_compacted_meanwhile_is_a_gap_row(server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    for _ in range(3):
        newest = await sync_to_async(store.put)(prefix, b"v")
    await sync_to_async(store.compact)(newest - 1)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: w.revisions and "gap, compacted at" in w.text)
    assert one.revisions == [newest]
    assert f"gap, compacted at {newest - 1}" in one.text
    assert f"The revisions {start} to {newest - 1} were compacted" in words("<main>" + one.text)
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


async def test_a_browser_that_does_not_keep_up_gets_one_frame(
    server, store, prefix, monkeypatch
) -> None:
    """No acknowledgement, no further frame; afterwards the newest and the count of the rest."""
    feeds: list[Feed] = []
    made_feed = Reader.feed

    def noted(*args, **more):
        feeds.append(made_feed(*args, **more))
        return feeds[0]

    monkeypatch.setattr(Reader, "feed", noted)
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one._socket.receive_from(timeout=SECONDS_MAX)
    made = [await sync_to_async(store.put)(prefix, b"%d" % number) for number in range(50)]
    arrived = sync_to_async(wait_until)
    await arrived(lambda: feeds[0].arrived == 50, SECONDS_MAX, "all of them have come in")
    assert await one._socket.receive_nothing(timeout=0.5)
    await one.say({"ack": 1})
    await one.until(lambda w: made[-1] in w.revisions)
    assert len(one.revisions) < 50
    assert "came too fast to be shown one by one" in one.text
    await one.close()


@pytest.mark.parametrize(
    "said",
    ["x", "[]", "null", '{"page": 5}', '{"page": "x"}', '{"page": "[]"}', "[" * 300, "x" * 200_000],
)
async def test_nonsense_from_a_browser_changes_nothing(server, store, prefix, said) -> None:
    session, start = await viewer(server), await start_of(store)
    one = Watching(session, prefix)
    await one._socket.connect(timeout=SECONDS_MAX)
    await one._socket.send_to(said)
    page = Place((Cursor(prefix_range(prefix), start),), start)
    await one.say({"page": pack(page)})
    made = await sync_to_async(store.put)(prefix, b"v")
    await one.until(lambda w: w.revisions == [made])
    await one.close()


async def test_a_range_that_is_none_ends_with_a_code_of_its_own(server: Server) -> None:
    session = await viewer(server)
    assert await closed_with(socket(session, "/ws/c/one/watch?key=b&end=a")) == 4400


async def test_more_watches_than_there_may_be_are_told_to_come_later(server, monkeypatch) -> None:
    session = await viewer(server)
    monkeypatch.setattr(consumer, "RANGES_OPEN_MAX", 0)
    assert await closed_with(socket(session, "/ws/c/one/watch")) == 1013


async def test_closing_the_socket_ends_the_watch(server: Server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: 'data-live="on"' in w.text)
    assert consumer.WatchConsumer.ranges_open == 1
    await one.close()
    assert consumer.WatchConsumer.ranges_open == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_a_foreign_origin_may_not_watch(server: Server, origin: str) -> None:
    session = await viewer(server)
    assert await closed_with(socket(session, "/ws/c/one/watch", origin=origin)) == 4403
    assert await closed_with(socket(None, "/ws/c/one/watch")) == 4401


@pytest.mark.parametrize("loss", ["signed out", "role taken", "connection changed"])
async def test_what_is_lost_while_open_ends_the_watch(
    server: Server, prefix, store, monkeypatch, loss: str
) -> None:
    monkeypatch.setattr(live, "RECHECK_SECONDS", 0.05)
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    await one.until(lambda w: 'data-live="on"' in w.text)

    @sync_to_async
    def lose() -> None:
        if loss == "signed out":
            import_module(settings.SESSION_ENGINE).SessionStore(session).delete()
        elif loss == "role taken":
            Account.objects.get(username="vera").grants.all().delete()
        else:
            Cluster.objects.get().save()  # the next socket asks the cluster it means now

    await lose()
    code = {"signed out": 4401, "role taken": 4403, "connection changed": 1012}[loss]
    assert await one.closed_with() == code
    await one.close()
    assert consumer.WatchConsumer.ranges_open == 0


async def test_a_frame_stays_small_whatever_the_keys_and_values_are(server, store, prefix) -> None:
    session, start = await viewer(server), await start_of(store)
    one = await Watching(session, prefix).open(start)
    for number in range(4):
        await sync_to_async(store.put)(prefix + b"%d" % number + b"\xff" * 100_000, b"x" * 500_000)
    await one.until(lambda w: len(w.revisions) == 4)
    assert len(one.text) < 150_000
    assert "a key of 97.7" in one.text
    await one.close()


# --- the feed's bounds, alone -------------------------------------------------------------------


def event(revision: int, size: int = 1) -> kv_pb2.Event:
    value = kv_pb2.KeyValue(
        key=b"k", value=b"x" * size, mod_revision=revision, create_revision=1, version=2
    )
    return kv_pb2.Event(kv=value)


def feed_with(*events: kv_pb2.Event, **wanted) -> Feed:
    """A feed of one range that the events came in for."""
    feed = feed_of(
        None, [(KeyRange(b"k", b"l"), 1)], puts=True, deletes=True, **{"kept_max": 10, **wanted}
    )
    [part] = feed.parts
    for first in range(0, len(events), 100):
        come_in(part, *events[first : first + 100])
    return feed


def come_in(part: Part, *events: kv_pb2.Event) -> None:
    part.follow.next_revision = events[-1].kv.mod_revision + 1
    part.note(Events(list(events)))


def test_a_feed_keeps_the_newest_and_counts_the_rest() -> None:
    feed = feed_with(*(event(revision) for revision in range(2, 10_002)))
    assert feed.waiting == 10_000
    taken = feed.take()
    assert [one.revision for one in taken.events] == list(range(9_992, 10_002))
    assert taken.left_out == Tally(puts=9_990, first=2, last=9_991)
    assert taken.total.events == 10_000
    assert taken.reached == ((KeyRange(b"k", b"l"), 10_002),)
    assert not feed.take().has_rows


def test_a_feed_is_bounded_in_bytes_too(monkeypatch) -> None:
    monkeypatch.setattr("console.gateway.feed.KEPT_BYTES_MAX", 2000)
    taken = feed_with(*(event(revision, 400) for revision in range(2, 7))).take()
    assert [one.revision for one in taken.events] == [5, 6]
    assert taken.left_out.events == 3


def test_what_a_feed_has_reached_is_what_was_taken() -> None:
    """An event that comes in behind a taking is behind its place too: no hole, nothing twice."""
    feed = feed_with(event(2))
    first = feed.take()
    come_in(feed.parts[0], event(3))
    assert first.reached[0][1] == 3
    assert [one.revision for one in feed.take().events] == [3]


def test_what_was_seen_or_is_not_wanted_is_not_kept() -> None:
    feed = feed_with(
        event(2), event(3), is_new=lambda key, revision: revision > 2, wants=lambda key: True
    )
    assert [one.revision for one in feed.take().events] == [3]
    feed = feed_with(event(2), event(3), wants=lambda key: False)
    assert feed.take().total.events == 0
    assert feed.passed_over == 2
