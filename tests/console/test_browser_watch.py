"""A live watch in a real browser: events as they come, a pause, a flood, a broken socket."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser, WebSocketRoute, expect

from kvserver.proto import rpc_pb2
from tests.console.browser import Visit, visit
from tests.console.conftest import CALL_SECONDS_MAX, Store
from tests.console.serving import Served
from tests.console.test_browser import behind, served, signed_in  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

CHIP = "#watch-chips"
ROWS = "#watch-rows > li"
RANGES = ".range .mono"


def flood(store: Store, keys: int, rounds: int) -> None:
    """`keys` puts a txn, as fast as they go."""
    ops = [
        rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"/flood/%d" % n, value=b"v"))
        for n in range(keys)
    ]
    for _ in range(rounds):
        store.client.write(lambda s: s.kv.Txn, rpc_pb2.TxnRequest(success=ops), CALL_SECONDS_MAX)


class Flooding:
    """A flood for the length of a `with`, and until there were 40 000 events at least."""

    EVENTS_MIN = 40_000

    def __init__(self, store: Store) -> None:
        self.events = 0
        self._store = store
        self._is_seen = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flood")

    def __enter__(self) -> Flooding:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_seen.set()
        self._running.result()
        self._pool.shutdown()

    def _run(self) -> None:
        while self.events < self.EVENTS_MIN or not self._is_seen.is_set():
            flood(self._store, keys=100, rounds=10)
            self.events += 1000


@pytest.mark.parametrize(
    "path",
    ["?key=a&end=b&show=deletes", "?prefix=/app/&key=b&end=a", "?key=b&end=a"],
)
def test_every_page_is_accessible_and_fits(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    path: str,
) -> None:
    with visit(chromium, served.base, storage_state=signed_in, reduced_motion="reduce") as one:
        one.open("/c/local/watch" + path)
        if path != "?key=b&end=a":  # nothing else is watched on that one
            expect(one.page.locator(CHIP)).to_have_text("live")
        for scheme, width, rule in (
            ("light", 1280, "color-contrast"),
            ("dark", 1280, None),
            ("light", 390, None),
        ):
            one.page.emulate_media(color_scheme=scheme)
            one.page.set_viewport_size({"width": width, "height": 844})
            one.assert_accessible(rule)
            one.assert_fits()
        assert [text for text in one.complaints if "400" not in text] == []


def test_events_come_by_themselves_and_open_by_keyboard(at: Visit, behind) -> None:  # noqa: F811
    at.open("/c/local/keys")
    page = at.page
    at.chord("g", "w")
    expect(page).to_have_url(re.compile("/watch$"))
    at.press("/")
    page.keyboard.type("/live/")
    page.keyboard.press("Enter")
    expect(page.locator(RANGES)).to_have_text(["/live/…"])
    expect(page.locator(CHIP)).to_have_text("live")
    behind.put(b"/live/<u>one", b"old\n")
    behind.put(b"/live/<u>one", b"new\n")
    expect(page.locator(f"{ROWS}:has-text('/live/')")).to_have_count(2)
    expect(page.locator(ROWS).first).to_contain_text("/live/<u>one")
    page.locator(f"{ROWS} summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".diff .add").first).to_have_text("+new")
    at.assert_accessible()
    behind.delete(b"/live/<u>one")
    expect(page.locator(f"{ROWS}:has-text('/live/')")).to_have_count(3)
    expect(page.locator(".diff .add").first).to_be_visible()
    expect(page.locator("#watch-counts")).to_contain_text("1 deleted")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as NDJSON").click()
    assert len(download.value.path().read_text().splitlines()) == 3


def test_ranges_come_and_go_and_the_list_stays(at: Visit, behind) -> None:  # noqa: F811
    at.open("/c/local/watch?prefix=/one/")
    page = at.page
    expect(page.locator(CHIP)).to_have_text("live")
    first = behind.put(b"/one/a", b"v")
    expect(page.locator(ROWS)).to_have_count(1)
    page.get_by_label("Add a prefix").fill("/two/")
    page.keyboard.press("Enter")
    expect(page.locator(RANGES)).to_have_text(["/one/…", "/two/…"])
    expect(page.locator(CHIP)).to_have_text("live")
    behind.put(b"/two/a", b"v")
    last = behind.put(b"/one/b", b"v")
    expect(page.locator(ROWS)).to_have_count(3)
    at.assert_accessible()
    page.get_by_role("link", name="Stop watching /one/…").click()
    expect(page.locator(RANGES)).to_have_text(["/two/…"])
    expect(page.locator(CHIP)).to_have_text("live")
    behind.put(b"/one/c", b"v")
    behind.put(b"/two/b", b"v")
    expect(page.locator(ROWS)).to_have_count(4)
    expect(page.locator(ROWS).first).to_contain_text("/two/b")
    expect(page.locator("#watch-counts")).to_contain_text("4 events")
    assert first < last
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(ROWS)).to_have_count(0)


def test_a_slip_in_a_new_range_leaves_the_watch_running(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    behind: Store,  # noqa: F811
) -> None:
    with visit(chromium, served.base, storage_state=signed_in) as one:
        one.open("/c/local/watch?prefix=/slip/")
        expect(one.page.locator(CHIP)).to_have_text("live")
        behind.put(b"/slip/a", b"v")
        expect(one.page.locator(ROWS)).to_have_count(1)
        one.page.get_by_label("Add a prefix").fill("\\")
        one.page.keyboard.press("Enter")
        expect(one.page.locator("#bad")).to_contain_text("a backslash is written")
        expect(one.page.get_by_label("Add a prefix")).to_have_value("\\")
        expect(one.page.locator(CHIP)).to_have_text("live")
        behind.put(b"/slip/b", b"v")
        expect(one.page.locator(ROWS)).to_have_count(2)
        assert [text for text in one.complaints if "400" not in text] == []


def test_a_session_that_ends_is_said_and_what_was_seen_stays(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    behind: Store,  # noqa: F811
) -> None:
    with visit(chromium, served.base, storage_state=signed_in) as one:
        one.page.route_web_socket(re.compile("/watch"), lambda ws: sockets.append(ws))
        sockets: list[WebSocketRoute] = []
        one.open("/c/local/watch?prefix=/app/")
        expect(one.page.locator(CHIP)).to_have_text("connecting")
        shown = one.page.locator(ROWS).count()
        sockets[0].close(code=4401)
        expect(one.page.locator(CHIP)).to_have_text("stopped: the session has ended, sign in again")
        assert one.page.locator(ROWS).count() == shown > 0
        one.assert_quiet()


def test_a_pause_freezes_the_view_and_fills_the_buffer(at: Visit, behind) -> None:  # noqa: F811
    at.open("/c/local/watch?prefix=/paused/")
    page = at.page
    expect(page.locator(CHIP)).to_have_text("live")
    at.press("p")
    expect(page.locator("#watch-counts")).to_contain_text("paused: 0 waiting")
    behind.put(b"/paused/a", b"v")
    behind.put(b"/paused/b", b"v")
    expect(page.locator("#watch-counts")).to_contain_text("paused: 2 waiting")
    expect(page.locator(ROWS)).to_have_count(0)
    at.assert_accessible()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(ROWS)).to_have_count(2)


def test_a_flood_is_counted_and_the_page_stays_live(
    at: Visit,
    behind: Store,  # noqa: F811
    served: Served,  # noqa: F811
) -> None:
    """40 000 events and more as fast as they go: 10 000 a second and more on a usual machine."""
    at.open("/c/local/watch?prefix=/flood/")
    page = at.page
    expect(page.locator(CHIP)).to_have_text("live")
    before = served.console_rss_bytes()
    count = page.locator("#watch-counts b").first
    with Flooding(behind) as flooding:
        for _ in range(3):  # the page does not stand still while it lasts
            expect(count).not_to_have_text(count.inner_text())
    behind.put(b"/flood/last", b"v")
    expect(count).to_have_text(str(flooding.events + 1))
    expect(page.locator(f"{ROWS}:has-text('/flood/last')")).to_have_count(1)
    assert page.locator(ROWS).count() <= 300
    expect(page.locator(".events .note").first).to_contain_text("came too fast to be shown")
    assert served.console_rss_bytes() - before < 48 * 1024 * 1024


def test_a_broken_socket_comes_back_without_a_hole(at: Visit, behind) -> None:  # noqa: F811
    sockets: list[WebSocketRoute] = []

    def through(ws: WebSocketRoute) -> None:
        sockets.append(ws)
        ws.connect_to_server()

    page = at.page
    page.route_web_socket(re.compile("/watch"), through)
    at.open("/c/local/watch?prefix=/broken/")
    behind.put(b"/broken/1", b"v")
    expect(page.locator(ROWS)).to_have_count(1)
    sockets[0].close(code=1012)
    expect(page.locator(CHIP)).to_contain_text(re.compile("resuming from|connecting|live"))
    behind.put(b"/broken/2", b"v")
    expect(page.locator(ROWS)).to_have_count(2)
    assert len(sockets) > 1
    expect(page.locator(CHIP)).to_have_text("live")


def test_without_scripts_it_is_a_page_of_the_newest_events(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    behind: Store,  # noqa: F811
) -> None:
    behind.put(b"/plain/a", b"v")
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        one.open("/c/local/watch?prefix=/plain/")
        expect(one.page.locator(ROWS)).to_have_count(1)
        expect(one.page.get_by_role("button", name="Pause")).to_be_hidden()
        behind.put(b"/plain/b", b"v")
        one.page.get_by_role("link", name="Look again").click()
        expect(one.page.locator(ROWS)).to_have_count(2)
        one.assert_quiet()
