"""The key browser in a real browser, against every kind of server: by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browser import Visit, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.console.test_browser import behind as behind
from tests.console.test_browser import signed_in  # noqa: F401
from tests.support.servers import kinds, program

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

KEYS: dict[bytes, bytes] = {
    b"/tree/a": b"a key",
    b"/tree/a/": b"a key and a folder",
    b"/tree/a/deep/x": b'{"x": 1}',
    b"/tree/a/deep/y": b"why",
    b"/tree/a//empty": b"an empty name",
    b"/tree/\xff/\x00": bytes(range(256)),
    b"/tree/<script>document.title='owned'</script>/k": b"v",
    b"tree:with:colons": b"v",
    b"/tree/z": b"last",
} | {b"/tree/wide/%03d/v" % number: b"v" for number in range(130)}


@pytest.fixture(scope="module", params=kinds())
def served(request, tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("served") / "data", member=program(request.param))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def keys(behind: Store) -> Store:
    for key, value in KEYS.items():
        behind.put(key, value)
    return behind


def row(page: Page, name: str):
    return page.get_by_role("treeitem").filter(
        has=page.locator(".nm", has_text=re.compile(f"^{re.escape(name)}$"))
    )


def test_the_tree_by_mouse(at: Visit, keys: Store) -> None:
    page = at.page
    at.open("/c/local/keys")
    row(page, "/tree/").locator(".tw").click()  # opens, goes nowhere
    expect(page).to_have_url(re.compile("/c/local/keys$"))
    expect(row(page, "/tree/")).to_have_attribute("aria-expanded", "true")
    expect(row(page, "wide/")).to_contain_text("130")
    row(page, "a/").click()
    expect(page).to_have_url(re.compile("prefix=/tree/a/$"))
    expect(page.locator("#listing")).to_contain_text("[/tree/a/, /tree/a0)")
    expect(row(page, "the key of this name")).to_be_visible()
    row(page, "deep/").click()
    row(page, "x").click()
    expect(page.locator("h1")).to_have_text("/tree/a/deep/x")
    expect(page.locator("#crumbs")).to_contain_text("/tree/a/deep/x")
    expect(row(page, "wide/")).to_be_visible()  # the tree stays as it was
    expect(row(page, "x")).to_have_attribute("aria-current", "true")
    at.assert_accessible()
    row(page, "/tree/").locator(".tw").click()
    expect(row(page, "wide/")).to_be_hidden()
    page.reload()
    expect(row(page, "x")).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.locator("#prefix")).to_have_value("/tree/a/deep/")


def test_the_tree_by_keyboard(at: Visit, keys: Store) -> None:
    page = at.page
    at.open("/c/local/keys?prefix=/tree/")
    here = page.locator("#tree :focus")
    row(page, "/tree/").focus()
    page.keyboard.press("ArrowDown")
    expect(here).to_contain_text("<script>")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    expect(here).to_contain_text("/tree/")
    page.keyboard.press("w")  # type-ahead
    expect(here).to_contain_text("wide/")
    page.keyboard.press("ArrowRight")
    expect(row(page, "000/")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(here).to_contain_text("000/")
    page.keyboard.press("ArrowLeft")
    expect(here).to_contain_text("wide/")
    page.keyboard.press("ArrowLeft")
    expect(row(page, "000/")).to_be_hidden()
    page.keyboard.press("z")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    expect(page.locator("h1")).to_have_text("/tree/z")
    at.press("e")  # the letters of the page again
    expect(page.get_by_label("Value")).to_have_value("last")


def test_more_of_a_long_level(at: Visit, keys: Store) -> None:
    page = at.page
    at.open("/c/local/keys?prefix=/tree/wide/")
    more = page.get_by_role("treeitem", name="more…")
    expect(more).to_be_visible()
    shown = page.locator("#tree .folder").count()
    assert 0 < shown < 132
    more.focus()
    page.keyboard.press("Enter")
    expect(row(page, "129/")).to_be_visible()
    expect(more).to_have_count(0)
    expect(page.locator("#tree .folder")).to_have_count(132)


def test_the_past_by_the_bar(at: Visit, keys: Store) -> None:
    page = at.page
    old = keys.put(b"/tree/moving", b"before")
    keys.put(b"/tree/moving", b"after")
    at.open("/c/local/key?key=/tree/moving")
    page.get_by_text("How it is read").click()
    page.get_by_label("As of revision").fill(str(old))
    page.get_by_role("button", name="Look").click()
    expect(page.locator("pre.value")).to_have_text("before")
    expect(page.get_by_role("button", name="Edit")).to_be_disabled()
    row(page, "z").click()
    expect(page.locator("h1")).to_have_text("/tree/z")
    expect(page).to_have_url(re.compile(f"rev={old}"))
    page.get_by_role("link", name="Back to the newest").click()
    expect(page).not_to_have_url(re.compile("rev="))
    keys.delete(b"/tree/moving")


def test_one_pane_at_a_time_on_a_phone(
    chromium: Browser,
    served: Served,
    signed_in,  # noqa: F811
    keys: Store,
) -> None:
    phone = {"width": 390, "height": 844}
    with visit(chromium, served.base, storage_state=signed_in, viewport=phone) as one:
        page = one.page
        one.open("/c/local/keys?prefix=/tree/")
        expect(page.locator("#listing")).to_be_hidden()
        row(page, "z").click()
        expect(page.locator("h1")).to_have_text("/tree/z")
        expect(page.get_by_role("tree")).to_be_hidden()
        page.locator(".back a").click()
        expect(page.get_by_role("tree")).to_be_visible()
        page.get_by_role("link", name="List", exact=True).click()
        expect(page.locator("#listing")).to_be_visible()
        expect(page.get_by_role("tree")).to_be_hidden()
        one.assert_quiet()


def test_folders_are_links_without_javascript(
    chromium: Browser,
    served: Served,
    signed_in,  # noqa: F811
    keys: Store,
) -> None:
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        page = one.page
        one.open("/c/local/keys?prefix=/tree/")
        row(page, "a/").click()
        row(page, "deep/").click()
        row(page, "y").click()
        expect(page.locator("pre.value")).to_have_text("why")
        page.get_by_role("link", name="Open the folder /tree/a/deep/").click()
        expect(row(page, "x")).to_be_visible()
        one.open("/c/local/keys?prefix=/tree/wide/")
        page.get_by_role("treeitem", name="more…").click()
        expect(row(page, "129/")).to_be_visible()


def test_a_search_runs_to_the_end_and_stops(at: Visit, keys: Store) -> None:
    """A scan of more than a step: visible, stopped, continued."""
    if not keys.get(b"/many/20999"):
        for start in range(0, 21_000, 100):
            keys.put_all({b"/many/%05d" % n: b"v" for n in range(start, start + 100)})
    page = at.page
    at.open("/c/local/keys?prefix=/many/")
    at.press("s")
    page.get_by_label("Text").fill("0999")
    page.keyboard.press("Enter")
    # A step is bounded in time too: a busy machine comes less far.
    expect(page.locator(".scan-line")).to_contain_text(re.compile(r"scanned (?!21000)\d+ of 21000"))
    at.assert_accessible()
    page.get_by_role("button", name="Scan to the end").click()
    expect(page.locator(".scan-line")).to_contain_text("21000 of 21000")
    expect(page.locator(".scan-line")).to_contain_text("13 matches")
    expect(page.locator("#scan-rows tr")).to_have_count(13)
    expect(page.locator("#scan-run")).to_have_count(0)


def test_a_key_is_renamed_and_duplicated(at: Visit, keys: Store) -> None:
    page = at.page
    keys.put(b"/named/one", b"v")
    at.open("/c/local/key?key=/named/one")
    page.locator("summary[aria-label='More for this key']").click()
    page.get_by_role("link", name="Duplicate key").click()
    page.get_by_label("New name").fill("/named/two")
    page.get_by_role("button", name="Duplicate key").click()
    expect(page.locator("h1")).to_have_text("/named/two")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".toast").last).to_contain_text("Undone")
    expect(page.locator("#prefix")).to_have_value("/named/")
    assert keys.get(b"/named/two") is None
    at.open("/c/local/key/rename?key=/named/one")
    page.get_by_label("New name").fill("/named/three")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("/named/three")
    assert keys.get(b"/named/one") is None


def test_a_range_is_deleted_by_plan_and_brought_back(at: Visit, keys: Store) -> None:
    page = at.page
    for number in range(3):
        keys.put(b"/range/%d" % number, b"v")
    at.open("/c/local/keys?prefix=/range/")
    page.locator("summary[aria-label='More for these keys']").click()
    page.get_by_role("link", name="Delete these keys").click()
    expect(page.locator("h1")).to_contain_text("Delete 3 keys of local?")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    page.get_by_text("The same with etcdctl").click()
    page.get_by_label("curl").check()
    expect(page.locator("#command-curl")).to_contain_text("/v3/kv/txn")
    expect(page.locator("#command-text")).to_be_hidden()
    at.assert_accessible()
    page.get_by_role("button", name="Delete range").click()
    expect(page.locator("h1")).to_contain_text("3 keys deleted")
    at.assert_accessible()
    assert keys.get(b"/range/1") is None
    page.get_by_role("link", name="Bring them back").click()
    expect(page.locator(".points")).to_contain_text("3 come back")
    page.get_by_role("button", name="Rewind range").click()
    expect(page.locator("h1")).to_contain_text("Rewind: done")
    at.assert_accessible()
    assert keys.get(b"/range/1").value == b"v"


def test_an_export_downloads_and_is_imported(at: Visit, keys: Store) -> None:
    """Through the console as it is served, where responses are streamed off the loop."""
    page = at.page
    for number in range(450):
        keys.put(b"/out/%03d\xff" % number, b"\x00\xff")
    at.open("/c/local/keys?prefix=/out/")
    page.locator("summary[aria-label='More for these keys']").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as NDJSON").click()
    path = download.value.path()
    assert path.read_bytes().count(b"\n") == 450
    keys.delete(b"/out/007\xff")
    keys.put(b"/out/008\xff", b"other")
    at.open("/c/local/keys/import")
    page.get_by_label("File", exact=True).set_input_files(path)
    page.get_by_role("button", name="Compare with the cluster").click()
    expect(page.locator(".points")).to_contain_text("1 are new, 1 change, 448 are the same")
    at.assert_accessible()
    page.get_by_role("button", name="Import keys").click()
    expect(page.locator("h1")).to_contain_text("Import: done")
    assert keys.get(b"/out/007\xff").value == keys.get(b"/out/008\xff").value == b"\x00\xff"


def test_a_txn_by_keyboard(at: Visit, keys: Store) -> None:
    page = at.page
    keys.delete(b"/txn/new")
    at.open("/c/local/keys/txn")
    page.get_by_role("group", name="Compare 1").get_by_label("Key", exact=True).fill("/txn/new")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("0")
    page.get_by_role("group", name="Then 1").get_by_label("Key", exact=True).fill("/txn/new")
    page.get_by_role("group", name="Then 1").get_by_label("Value").fill("made")
    page.get_by_role("button", name="Review transaction").press("Enter")
    expect(page.locator(".said")).to_contain_text("mod /txn/new = 0")
    expect(page.get_by_role("button", name="Send transaction")).to_be_focused()
    at.assert_accessible()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Transaction: then")
    at.assert_accessible()
    assert keys.get(b"/txn/new").value == b"made"
