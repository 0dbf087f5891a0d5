"""Every flow of the data side by keyboard alone, in the dark theme (console.md §4); the tests of
each room do the same by mouse in the light one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.console.conftest import Store
from tests.console.keyboard import Keyboard, hands
from tests.console.serving import Served
from tests.console.test_browser import behind as behind
from tests.console.test_browser import served, signed_in  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

EXPECTED = "409 .Conflict|404 .Not Found"
"""Answers that the browser itself reports as failed loads."""


@pytest.fixture
def keys(chromium: Browser, served: Served, signed_in) -> Iterator[Keyboard]:  # noqa: F811
    with hands(chromium, served.base, signed_in) as one:
        yield one
        one.at.forgive(EXPECTED)
        one.at.assert_quiet()


def test_signing_in_and_out(chromium: Browser, served: Served, behind: Store) -> None:  # noqa: F811
    with hands(chromium, served.base) as keys:
        keys.open("/c/local/keys")
        keys.field("Name", "admin", exact=True)
        keys.press("Tab")
        keys.type(served.password or "")
        keys.press("Enter")
        expect(keys.page.locator("h1")).to_have_text("Keys")
        keys.unfold("admin")
        keys.button("Sign out")
        expect(keys.page.get_by_role("button", name="Sign in")).to_be_visible()
        keys.at.assert_quiet()


def test_a_cluster_is_connected_tried_and_removed(keys: Keyboard, served: Served) -> None:  # noqa: F811
    page = keys.page
    keys.open("/c/local")
    keys.go("c", "Clusters")
    keys.link("Add connection")
    keys.field("Name", "by keys", exact=True)
    keys.choose("Environment", "st")
    keys.radio("violet", "teal")
    keys.field("Endpoints", served.client_url)
    keys.to("checkbox", "Read-only")
    keys.press("Space")
    keys.button("Test the connection")
    expect(page.locator("#probe")).to_contain_text("answers")
    keys.button("Add connection")
    expect(page.locator(".toast")).to_contain_text("by keys")
    keys.open("/c/by-keys/keys")
    expect(page.locator(".ro").first).to_have_text("READ-ONLY")
    keys.unfold("by keys")
    keys.link("local")
    expect(page.locator("h1")).to_have_text("Overview")
    keys.open("/clusters/by-keys")
    keys.link("Remove connection")
    keys.button("Remove connection")
    expect(page.locator("main")).not_to_contain_text("by keys")


def test_the_keys_are_browsed(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    for number in range(130):
        behind.put(b"/walk/%03d/v" % number, b"v%d" % number)
    keys.open("/c/local/keys")
    keys.press("/")
    keys.type("/walk/")
    expect(page).to_have_url(re.compile("prefix=%2Fwalk%2F"))
    expect(page.locator("#listing .pager")).to_contain_text("of 130")
    keys.press("Escape", "]")
    expect(page.locator("#listing .pager")).to_contain_text("101 – 130 of 130")
    keys.link("/walk/129/v", exact=True)
    expect(page.locator("h1")).to_have_text("/walk/129/v")
    keys.link("Hex", exact=True)
    expect(page.locator("pre.value")).to_contain_text("00000000  76")
    # The tree has one stop for Tab; inside it arrows go.
    keys.tree("v")
    keys.press("Home", "ArrowDown", "Enter")  # all of /walk/
    expect(page).to_have_url(re.compile("prefix=/walk/$"))
    keys.tree("/walk/")
    keys.press("ArrowDown", "ArrowDown", "ArrowRight")
    expect(page.locator("#tree :focus")).to_contain_text("001/")
    expect(page.locator("#tree :focus")).to_have_attribute("aria-expanded", "true")
    keys.press("ArrowRight", "Enter")
    expect(page.locator("h1")).to_have_text("/walk/001/v")
    expect(page.locator("h1")).to_be_focused()
    old = behind.put(b"/walk/001/v", b"newer") - 1
    keys.unfold("How it is read")
    keys.field("As of revision", str(old))
    keys.choose("Read", "ser")
    keys.button("Look")
    expect(page.locator("pre.value")).to_have_text("v1")
    expect(page.locator(".meta")).to_contain_text("serializable")
    keys.press("]")
    expect(page.locator("pre.value")).to_have_text("newer")


def test_a_key_from_its_making_to_its_end(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    keys.open("/c/local/keys")
    keys.press("n")
    keys.field("Key", r"/hand/\xff", exact=True)
    keys.field("Value", "one\ntwo\n")
    keys.button("Put key")
    expect(page.locator("h1")).to_have_text(r"/hand/\xff")
    keys.press("e")
    expect(page.get_by_label("Value")).to_be_focused()
    keys.field("Value", "one\nthree\n")
    keys.button("Review change")
    expect(page.locator(".diff .add")).to_contain_text("three")
    expect(page.get_by_role("button", name="Put value")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("pre.value")).to_have_text("one\nthree\n")
    keys.press("u")
    expect(page.locator("pre.value")).to_have_text("one\ntwo\n")
    for verb, name in (("Duplicate", "/hand/two"), ("Rename", "/hand/three")):
        keys.menu("More for this key")
        keys.link(f"{verb} key")
        keys.field("New name", name)
        keys.press("Enter")
        expect(page.locator("h1")).to_have_text(name)
    assert behind.get(b"/hand/two") is None
    keys.link("Delete key")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("link", name="Delete key")).to_be_focused()  # back where it was
    keys.press("Enter")
    keys.button("Delete key", within=dialog)
    expect(page.locator(".toast").last).to_contain_text("Deleted")
    assert behind.get(b"/hand/three") is None
    keys.press("u")
    expect(page.locator(".toast").last).to_contain_text("Undone")
    assert behind.get(b"/hand/three").value == b"one\ntwo\n"


def test_an_edit_that_meets_another_one(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    behind.put(b"/hand/race", b"a\nb\nc\nd\n")
    keys.open("/c/local/key?key=/hand/race")
    keys.press("e")
    keys.field("Value", "a\nb\nc\nmine\n")
    keys.button("Review change")
    expect(page.get_by_role("button", name="Put value")).to_be_focused()
    behind.put(b"/hand/race", b"theirs\nb\nc\nd\n")
    keys.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was written")
    keys.to("region", "Theirs", exact=True)
    keys.button("Review both put together")
    expect(page.get_by_role("button", name="Put value")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("pre.value")).to_have_text("theirs\nb\nc\nmine\n")


def test_a_range_is_deleted_and_brought_back(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    for number in range(3):
        behind.put(b"/hand-range/%d" % number, b"v")
    keys.open("/c/local/keys?prefix=/hand-range/")
    keys.menu("More for these keys")
    keys.link("Delete these keys")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    keys.unfold("The same with etcdctl")
    keys.radio("curl", "etcdctl")
    expect(page.locator("#command-curl")).to_be_visible()
    keys.button("Delete range")
    expect(page.locator("h1")).to_contain_text("3 keys deleted")
    keys.link("Bring them back")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    keys.radio("The lease it had then", "A key keeps the lease")
    keys.button("Rewind range")
    expect(page.locator("h1")).to_have_text("Rewind: done")
    assert behind.get(b"/hand-range/1").value == b"v"
    keys.link("Undo by a rewind")
    expect(page.locator(".points")).to_contain_text("3 that did not exist then go")


def test_a_file_goes_out_and_in(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    behind.put(b"/hand-out/a", b"1")
    page.on("filechooser", lambda _: None)  # Playwright has to know before it opens
    keys.open("/c/local/keys?prefix=/hand-out/")
    keys.menu("More for these keys")
    keys.to("link", "Export as NDJSON")
    with page.expect_download() as download:
        keys.press("Enter")
    exported = download.value.path().read_bytes()
    assert json.loads(exported)["key"] == "/hand-out/a"
    keys.link("Import keys")
    keys.to("button", "File", exact=True)
    with page.expect_file_chooser() as chooser:
        keys.press("Enter")
    file = {"name": "keys.ndjson", "mimeType": "", "buffer": exported.replace(b'"1"', b'"2"')}
    chooser.value.set_files(file)
    keys.radio("Stay as they are", "Are changed to the file's value")
    keys.press("ArrowUp")
    keys.button("Compare with the cluster")
    expect(page.locator(".points")).to_contain_text("0 are new, 1 change")
    keys.button("Import keys")
    expect(page.locator("h1")).to_have_text("Import: done")
    assert behind.get(b"/hand-out/a").value == b"2"
    keys.link("Back to the keys")
    expect(page.locator("h1")).to_have_text("Keys")


def test_a_transaction_is_built(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    keys.open("/c/local/keys")
    keys.menu("More for these keys")
    keys.link("Transaction")
    compare = page.get_by_role("group", name="Compare 1")
    keys.choose("Of the key", "ver", within=compare)
    keys.field("Key", "/hand/txn", within=compare, exact=True)
    keys.field("Given", "0", within=compare)
    then = page.get_by_role("group", name="Then 1")
    keys.choose("Operation", "put", within=then)
    keys.field("Key", "/hand/txn", within=then, exact=True)
    keys.field("Value", "made", within=then)
    keys.button("Add lines")
    then = page.get_by_role("group", name="Then 2")
    keys.choose("Operation", "get", within=then)
    keys.field("Key", "/hand/", within=then, exact=True)
    keys.choose("Range", "every", within=then)
    keys.button("Review transaction")
    expect(page.get_by_role("button", name="Send transaction")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("h1")).to_have_text("Transaction: then")
    assert behind.get(b"/hand/txn").value == b"made"


def test_keys_and_values_are_searched(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    behind.put(b"/hand/needle", b"in a haystack")
    keys.open("/c/local/keys?prefix=/hand/")
    keys.press("s")
    expect(page.get_by_label("Text")).to_be_focused()
    keys.type("NEEDLE")
    keys.to("checkbox", "a = A")
    keys.press("Space", "Enter")
    expect(page.locator("#scan-rows tr")).to_have_count(1)
    keys.field("Text", "haystack", role="searchbox")
    keys.choose("In", "val")
    keys.button("Search")
    expect(page.locator("mark")).to_have_text("haystack")
    keys.link("/hand/needle", exact=True)
    expect(page.locator("h1")).to_have_text("/hand/needle")


def test_versions_are_compared_and_put_back(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    made = [behind.put(b"/hand/old", b"line %d\n" % number) for number in range(3)]
    behind.put(b"/hand/lost", b"bye\n")
    behind.delete(b"/hand/lost")
    keys.open("/c/local/key?key=/hand/old")
    keys.press("h")
    keys.radio(f"Compare from revision {made[0]}", f"Compare from revision {made[1]}")
    keys.button("Compare a with b")
    expect(page.locator(".diff .del")).to_have_text("−line 0")
    keys.link(f"Put back revision {made[0]}")
    keys.button("Put back version 1")
    expect(page.get_by_role("status")).to_contain_text("Put back /hand/old")
    keys.press("u")
    expect(page.get_by_role("status")).to_contain_text("Undone")
    keys.open("/c/local/keys")
    keys.go("h", "History")
    keys.press("/")
    keys.type("/hand/")
    keys.press("Enter")
    keys.link("Deleted keys")
    keys.link("Put back /hand/lost")
    keys.button("Put back version 1")
    expect(page.get_by_role("status")).to_contain_text("Put back /hand/lost")
    assert behind.get(b"/hand/lost").value == b"bye\n"
    keys.open("/c/local/history?prefix=/hand/old")
    keys.link(str(made[1]), exact=True)
    expect(page.locator("h1")).to_contain_text("Revision")
    keys.press("[")
    expect(page).to_have_url(re.compile(f"/revision/{made[0]}$"))
    keys.press("]")
    expect(page).to_have_url(re.compile(f"/revision/{made[1]}$"))


def test_a_watch_from_its_start_to_its_export(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    rows = page.locator("#watch-rows > li").filter(has_text=re.compile("/eye/|/ear/"))
    chip = page.locator("#watch-chips")
    keys.open("/c/local/keys")
    keys.go("w", "Watch")
    for prefix in ("/eye/", "/ear/"):
        keys.press("/")
        keys.type(prefix)
        keys.press("Enter")
        expect(page.locator(".ranges")).to_contain_text(f"{prefix}…")
        expect(chip).to_have_text("live")
        keys.press("Escape")
    behind.put(b"/eye/a", b"old\n")
    behind.put(b"/ear/a", b"v")
    expect(rows).to_have_count(2)
    keys.link("Stop watching /ear/…")
    expect(page.locator(".ranges")).not_to_contain_text("/ear/…")
    expect(chip).to_have_text("live")
    keys.press("p")
    expect(page.locator("#watch-counts")).to_contain_text("paused: 0 waiting")
    behind.put(b"/eye/a", b"new\n")
    expect(page.locator("#watch-counts")).to_contain_text("paused: 1 waiting")
    keys.press("p")
    expect(rows).to_have_count(3)
    keys.unfold("/eye/a")
    expect(page.locator(".diff .add").first).to_have_text("+new")
    keys.to("link", "Export as NDJSON")
    with page.expect_download() as download:
        keys.press("Enter")
    assert b"/eye/a" in download.value.path().read_bytes()
    keys.field("Text in the key", "other", role="searchbox")
    keys.choose("Events", "del")
    keys.button("Watch", exact=True)
    expect(page).to_have_url(re.compile("text=other"))
    expect(chip).to_have_text("live")


def test_a_lease_from_its_grant_to_its_end(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    keys.open("/c/local/keys")
    keys.go("l", "Leases")
    keys.press("n")
    keys.field("Time to live", "900")
    keys.field("Id", "5eed")
    keys.press("Enter")
    expect(page).to_have_url(re.compile("/lease/5eed$"))
    behind.put(b"/hand/leased", b"v", 0x5EED)
    keys.press("r")
    expect(page.get_by_role("status")).to_contain_text("lives for another 900 s")
    keys.link("Revoke lease")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    expect(dialog).to_contain_text("/hand/leased")
    keys.button("Revoke lease", within=dialog)
    expect(page.get_by_role("status")).to_contain_text("1 key went with it")
    assert behind.get(b"/hand/leased") is None


def test_accounts_and_what_the_audit_says_of_them(keys: Keyboard, served: Served) -> None:  # noqa: F811
    page = keys.page
    keys.open("/accounts")
    keys.link("New account")
    keys.field("Name", "keyra", exact=True)
    keys.choose("local", "ed")
    keys.button("Create account")
    expect(page.locator("#password-once")).not_to_be_empty()
    keys.link("Done")
    keys.link("keyra")
    keys.choose("local", "op")
    keys.button("Save account")
    expect(page.locator("main")).to_contain_text("operator on local")
    keys.go("a", "Audit")
    keys.press("/")
    keys.type("keyra")
    keys.press("Enter")
    expect(page).to_have_url(re.compile("q=keyra"))
    expect(page.locator("table.audit tbody tr")).not_to_have_count(0)
    keys.choose("Outcome", "do")
    keys.button("Show")
    expect(page).to_have_url(re.compile("outcome=done"))
    keys.to("link", "Export these rows")
    with page.expect_download() as download:
        keys.press("Enter")
    assert "keyra" in download.value.path().read_text()


def test_palette_sheet_help_theme_and_the_way_to_the_content(keys: Keyboard, behind: Store) -> None:
    page = keys.page
    keys.open("/c/local")
    keys.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    keys.press("Control+k")
    keys.type("/app/config")
    expect(page.locator('#palette-list [aria-selected="true"]')).to_contain_text("/app/config")
    keys.press("Enter")
    expect(page.locator("h1")).to_have_text("/app/config")
    keys.press("?")
    expect(page.locator("#shortcuts")).to_contain_text("History")
    keys.press("Escape")
    expect(page.locator("#shortcuts")).to_be_hidden()
    keys.menu("Help: what is this page?")
    expect(page.locator(".help-pop")).to_be_visible()
    keys.press("Escape")
    expect(page.locator(".help-pop")).to_be_hidden()
    keys.menu("Theme")
    keys.button("Light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    keys.menu("Theme")
    with page.expect_response("**/theme"):
        keys.button("As the system")
    expect(page.locator("html")).not_to_have_attribute("data-theme", "light")
