"""Upkeep of three members in a real browser: compaction, alarms, lens, sizes, snapshots, and a
rolling defragmentation while somebody writes."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.client.backup import backup_status
from kvserver.proto import rpc_pb2
from tests.console.browser import Visit
from tests.console.conftest import CALL_SECONDS_MAX, Store
from tests.console.leading import lead, wait_level
from tests.console.serving import Served, in_front_of
from tests.console.test_maintenance import fill_and_free, wait_until_free
from tests.console.test_maintenance_browser import assert_whole
from tests.support.servers import Server, kinds, running

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

HERE = "/c/local/maintenance"


@pytest.fixture(scope="module", params=kinds()[-1:])
def three(request, tmp_path_factory) -> Iterator[list[Server]]:
    with running(request.param, tmp_path_factory.mktemp("upkeep"), size=3) as servers:
        wait_level(servers)
        yield servers


@pytest.fixture(scope="module")
def served(three: list[Server], tmp_path_factory) -> Iterator[Served]:
    with in_front_of(three, tmp_path_factory.mktemp("kept")) as one:
        yield one


@pytest.fixture(scope="module")
def store(three: list[Server]) -> Iterator[Store]:
    client = Client(ClientConfig(tuple(server.endpoint for server in three)))
    yield Store(client)
    client.close()


class Writing:
    """Somebody who writes all the time, to whichever member answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.written = 0
        self.failures: list[CallFailed] = []

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._store.put(b"/load/%d" % (self.written % 50), b"x" * 500)
                self.written += 1
            except CallFailed as error:
                self.failures.append(error)


def test_a_rolling_defragmentation_under_load_fails_no_write(at: Visit, store, three) -> None:
    fill_and_free(store)
    wait_until_free(store.client, three)
    page = at.page
    with Writing(store) as writing:
        at.open(HERE)
        page.get_by_role("link", name="Defragment all members").click()
        page.get_by_label("Skip members with less free").fill("0")
        before = writing.written
        page.get_by_role("button", name="Defragment all members").click()
        expect(page).to_have_url(re.compile(r"/maintenance/jobs/\d+$"))
        # Ended well or not: what it says then is what is judged.
        ended = page.locator("#job .sentence .chip", has_not_text="running")
        expect(ended).to_be_visible(timeout=180_000)
    expect(page.locator("#job .sentence")).to_contain_text("3 of 3 members")
    expect(page.locator('#job [data-label="State"]')).to_have_text(["done"] * 3)
    assert writing.failures == []
    assert writing.written > before
    at.open("/audit")
    expect(page.locator("main")).to_contain_text("move leader")


def test_compaction_is_previewed_and_done_by_keyboard(at: Visit, store) -> None:
    store.put(b"/compact/gone", b"x" * 3000)
    for i in range(8):
        store.put(b"/compact/hot", b"%d" % i * 500)
    revision = store.delete(b"/compact/gone")
    page = at.page
    at.open(f"{HERE}/compact")
    page.get_by_label("Compact at revision").fill(str(revision))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"revision={revision}"))
    expect(page.get_by_role("region", name="Deleted keys that vanish, table")).to_contain_text(
        "/compact/gone"
    )
    expect(page.get_by_role("region", name="Freed by prefix, table")).to_contain_text("/compact/")
    assert_whole(at)
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".toasts")).to_contain_text(f"Compacted at revision {revision}")
    store.put(b"/compact/hot", b"after")
    at.open(f"{HERE}/compact?revision={revision}")
    expect(page.locator(".error")).to_contain_text("A revision from")
    at.forgive("422 ")


def disarm(store: Store) -> None:
    """Whatever became of the test, the next one may write."""
    request = rpc_pb2.AlarmRequest(action=2, memberID=77, alarm=rpc_pb2.NOSPACE)
    store.client.write(lambda s: s.maintenance.Alarm, request, CALL_SECONDS_MAX)


def test_an_alarm_is_explained_and_disarmed_by_mouse(at: Visit, store, request) -> None:
    raised = rpc_pb2.AlarmRequest(action=1, memberID=77, alarm=rpc_pb2.NOSPACE)
    store.client.write(lambda s: s.maintenance.Alarm, raised, CALL_SECONDS_MAX)
    request.addfinalizer(lambda: disarm(store))
    page = at.page
    at.open(HERE)
    expect(page.locator(".alarms")).to_contain_text("Every member refuses puts")
    assert_whole(at)
    page.get_by_role("link", name="Disarm NOSPACE on 4d").click()
    expect(page.get_by_role("region", name="Checks")).to_contain_text("MiB")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    assert_whole(at)
    page.get_by_role("button", name="Disarm NOSPACE").click()
    expect(page.locator(".toasts")).to_contain_text("Disarmed NOSPACE on 4d")
    expect(page.locator(".alarms")).to_have_count(0)


def test_one_key_is_read_from_every_member_and_a_dead_one_is_a_row(at: Visit, store, three) -> None:
    store.put(b"/lens/key", b"<script>alert(1)</script>")
    page = at.page
    lead(three, three[0])  # who dies is not who leads, and nobody lags behind
    at.open(HERE)
    page.get_by_role("link", name="Consistency lens").click()
    page.get_by_role("searchbox", name="Key").fill("/lens/key")
    page.keyboard.press("Enter")
    at.look_until(".sentence", "all 3 members tell the same")
    expect(page.locator("#readings tbody tr")).to_have_count(9)
    assert_whole(at)
    three[2].kill()
    try:
        page.get_by_role("button", name="Read from every member").click()
        expect(page.locator(".sentence")).to_contain_text("did not answer")
        at.open(f"{HERE}/hashes")
        at.look_until(".sentence", "2 of 3 members gave a hash")
    finally:
        three[2].start()
        wait_level(three)


def test_a_scan_says_why_the_database_is_big(at: Visit, store) -> None:
    for i in range(150):
        store.put(b"/big/hot/key", b"%d" % (i % 10) * 2000)
    page = at.page
    at.open(HERE)
    page.get_by_role("link", name="Why is it big").click()
    page.get_by_role("button", name="Scan the keyspace").click()
    expect(page.locator("#job .sentence")).to_contain_text("done")
    expect(page.locator("#live-chip")).to_contain_text("live")
    assert_whole(at)
    page.get_by_role("link", name="What makes the database big").click()
    expect(page.locator("#prefixes")).to_contain_text("/big/hot/")
    expect(page.locator(".findings")).to_contain_text("is rewritten often")
    assert_whole(at)
    page.get_by_role("navigation", name="Depth of prefixes").get_by_role("link", name="1").click()
    expect(page.locator("#prefixes")).not_to_contain_text("/big/hot/")
    page.get_by_role("link", name="Plan a compaction").first.click()
    expect(page.locator("h1")).to_have_text("Compact existing cluster")


def save_a_snapshot(at: Visit) -> None:
    page = at.page
    at.open(HERE)
    page.get_by_role("link", name="Snapshots").click()
    page.get_by_role("button", name="Save a snapshot now").click()
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    page.get_by_role("link", name="All snapshots").click()


def test_snapshots_are_saved_and_downloaded_whole(at: Visit, store, three, tmp_path: Path) -> None:
    revision = store.put(b"/snapshot/key", b"x" * 1000)
    wait_level(three)
    page = at.page
    save_a_snapshot(at)
    expect(page.locator("#saved")).to_contain_text("verified")
    assert_whole(at)
    for number, name in enumerate(("Download a snapshot", "Download the snapshot of")):
        with page.expect_download() as started:
            page.get_by_role("button", name=re.compile(f"^{name}")).first.click()
        path = tmp_path / f"{number}.db"
        started.value.save_as(path)
        assert started.value.suggested_filename.startswith("local-")
        data = path.read_bytes()
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        assert backup_status(str(path)).revision >= revision


def test_a_key_is_taken_out_of_a_snapshot(at: Visit, store, three) -> None:
    """It is lost and found again."""
    store.put(b"/snapshot/key", b"x" * 1000)
    wait_level(three)
    page = at.page
    save_a_snapshot(at)
    store.delete(b"/snapshot/key")
    page.get_by_role("link", name="Look into the snapshot of").first.click()
    page.get_by_role("button", name="Open the snapshot").click()
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    page.get_by_role("link", name="Look into it").click()
    page.get_by_role("searchbox", name="Prefix").fill("/snapshot/")
    page.keyboard.press("Enter")
    expect(page.locator("#kept tbody tr")).to_have_count(1)
    assert_whole(at)
    page.get_by_role("link", name="/snapshot/key").click()
    expect(page.locator(".facts").first).to_contain_text("it does not exist now")
    assert_whole(at)
    page.get_by_role("button", name="Restore this value").click()
    expect(page.locator(".toasts")).to_contain_text("Restored /snapshot/key")
    assert store.get(b"/snapshot/key").value == b"x" * 1000


def test_a_schedule_set_by_keyboard_is_kept_over_a_restart(at: Visit, served: Served) -> None:
    page = at.page
    at.open(f"{HERE}/snapshots")
    saved = page.locator("#saved tbody tr")
    before = saved.count()
    page.get_by_label("Save snapshots by itself").focus()
    page.keyboard.press("Space")
    every = page.get_by_label("Every")
    every.fill("0")
    every.press("Enter")
    expect(page.locator("#every-error")).to_contain_text("A whole number from 1")
    at.forgive("422 ")
    every.fill("1")
    page.get_by_label("Unit").select_option("minutes")
    every.press("Enter")
    expect(page.locator(".toasts")).to_contain_text("Snapshots are saved: every 1 minutes, keep 7")
    served.stop()
    with served.database() as database:
        # Its turn came while nobody was there.
        database.execute("UPDATE console_snapshotschedule SET next_at = '2026-01-01 00:00:00'")
        # And jobs of every kind were running when the console was killed.
        newest = "SELECT max(id) FROM console_job GROUP BY lane"
        [killed] = database.execute(f"SELECT count(*) FROM ({newest})").fetchone()
        database.execute(f"UPDATE console_job SET state = 'running' WHERE id IN ({newest})")
    served.start()
    at.open(HERE)
    expect(page.locator("#jobs .chip", has_text="interrupted")).to_have_count(killed)
    at.open(f"{HERE}/snapshots")
    expect(page.get_by_label("Save snapshots by itself")).to_be_checked()

    def is_saved() -> bool:
        page.reload()
        row = saved.first.inner_text() if saved.count() > before else ""
        return "schedule" in row and "verified" in row

    served.wait_until(is_saved)
