"""The console in a real browser: what people do, both themes, phone width, zero complaints.

The console runs as it is run by people, `manage.py serve` with a member of its own; the tests
talk to that member behind its back where somebody else has to be quicker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from kvserver.client import Client, ClientConfig, Endpoint
from tests.console.browser import Visit, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.support.servers import kinds, program

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

KEYS: dict[bytes, bytes] = {
    b"/app/config": b'{"currency": "EUR", "retries": 3, "tags": ["<b>", null, true, 1.50]}',
    b"/app/flags": b"new-checkout: true\nrefunds: false\n",
    b"/hostile/<script>document.title='owned'</script>": b"<img src=x onerror=alert(1)>",
    "/hostile/\u202etxt.exe".encode(): "\u202eright to left".encode(),
    b"/hostile/nul\x00key": b"\x00",
    b"/hostile/\xff\xfe\x80": bytes(range(256)),
    b"/hostile/empty": b"",
    b"/hostile/megabyte": b"0123456789abcdef" * 65536,
    b"/hostile/" + b"long-segment-" * 30: b"x" * 3000,
    b"no-slash": b"plain",
}


@pytest.fixture(scope="module", params=kinds()[-1:])
def served(request, tmp_path_factory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served") / "data"
    one = Served(directory, member=program(request.param))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def behind(served: Served) -> Iterator[Store]:
    client = Client(ClientConfig((Endpoint.parse(served.client_url),)))
    store = Store(client)
    for key, value in KEYS.items():
        store.put(key, value)
    store.put(b"/app/leased", b"node-7", store.grant_lease(3600))
    yield store
    client.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, served: Served, behind: Store) -> dict[str, object]:
    """Cookies of an admin's session, made by signing in once as a person does."""
    with visit(chromium, served.base) as one:
        one.open("/c/local/keys")
        one.page.get_by_label("Name").fill("admin")
        one.page.get_by_label("Password").fill(served.password or "")
        one.assert_accessible()
        one.page.get_by_role("button", name="Sign in").click()
        expect(one.page).to_have_url(served.base + "/c/local/keys")
        one.assert_quiet()
        return one.page.context.storage_state()


def test_browse_filter_and_open_a_key(at: Visit) -> None:
    at.open("/c/local/keys")
    page = at.page
    at.press("/")
    page.keyboard.type("/app/")
    expect(page).to_have_url(re.compile(r"prefix=%2Fapp%2F"))
    rows = page.locator("table.keys tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator(".facts")).to_contain_text("[/app/, /app0)")
    page.get_by_role("link", name="/app/config").click()
    expect(page.locator("h1")).to_have_text("/app/config")
    expect(page.locator("pre.value .nt").first).to_have_text('"currency"')
    page.get_by_role("link", name="Hex").click()
    expect(page.locator("pre.value")).to_contain_text("00000000  7b 22")
    page.go_back()
    expect(page.locator("pre.value")).to_contain_text('"currency": "EUR"')
    page.locator("h1").get_by_role("link", name="app/").click()
    expect(page.locator("#prefix")).to_have_value("/app/")


def test_put_edit_undo_and_delete(at: Visit, behind: Store) -> None:
    page = at.page
    at.open("/c/local/keys")
    page.get_by_role("link", name="New key").click()
    page.get_by_label("Key", exact=True).fill(r"/made/\xff here")
    page.get_by_label("Value").fill("one\ntwo\n")
    page.get_by_role("button", name="Put key").click()
    expect(page.locator(".toast")).to_contain_text(r"Put /made/\xff here at revision")
    assert behind.get(b"/made/\xff here").value == b"one\ntwo\n"

    at.press("e")
    page.get_by_label("Value").fill("one\nthree\n")
    page.get_by_role("button", name="Review change").click()
    expect(page.locator(".diff .del")).to_contain_text("two")
    expect(page.locator(".diff .add")).to_contain_text("three")
    at.assert_accessible()
    page.get_by_role("button", name="Put value").click()
    expect(page.locator("pre.value")).to_have_text("one\nthree\n")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("pre.value")).to_have_text("one\ntwo\n")

    page.get_by_role("link", name="Delete key").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(r"/made/\xff here")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    at.assert_accessible()
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert behind.get(b"/made/\xff here") is not None
    page.get_by_role("link", name="Delete key").click()
    dialog.get_by_role("button", name="Delete key").click()
    expect(page.locator(".toast")).to_contain_text("Deleted")
    assert behind.get(b"/made/\xff here") is None


def test_an_edit_conflict_shows_all_three(at: Visit, behind: Store) -> None:
    """Trap 2 as a person meets it."""
    behind.put(b"/race", b"base\n")
    page = at.page
    at.open("/c/local/key/edit?key=/race")
    page.get_by_label("Value").fill("mine\n")
    page.get_by_role("button", name="Review change").click()
    behind.put(b"/race", b"theirs\n")
    # The answer is 409, which the browser itself reports as a failed load.
    page.get_by_role("button", name="Put value").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was written")
    for name, text in (("Base", "base\n"), ("Theirs", "theirs\n"), ("Yours", "mine\n")):
        expect(page.get_by_role("region", name=name, exact=True)).to_have_text(text)
    at.assert_accessible()
    assert behind.get(b"/race").value == b"theirs\n"
    page.get_by_role("button", name="Put yours over theirs").click()
    expect(page.locator("pre.value")).to_have_text("mine\n")
    at.forgive("409 .Conflict")


def test_the_overview_follows_the_cluster_live(at: Visit, behind: Store) -> None:
    page = at.page
    at.open("/c/local")
    expect(page.locator("#live-chip")).to_have_text("live")
    revision = behind.put(b"/live", b"v")
    expect(page.locator("#figures")).to_contain_text(str(revision))
    expect(page.locator("#member-rows tr")).to_have_count(1)
    expect(page.locator("#member-rows td[data-label=Revision]")).to_have_text(str(revision))
    at.assert_accessible()


def test_without_websockets_the_overview_is_polled(at: Visit, behind: Store) -> None:
    page = at.page
    page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=1011))
    page.clock.install()
    at.open("/c/local")
    expect(page.locator("#live-chip")).to_have_text("every 5 s")
    revision = behind.put(b"/polled", b"v")
    page.clock.run_for(6000)
    expect(page.locator("#figures")).to_contain_text(str(revision))


def test_everything_works_without_javascript(
    chromium: Browser, served: Served, signed_in, behind: Store
) -> None:
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        page = one.page
        one.open("/c/local/keys")
        page.get_by_label("Prefix").fill("/app/")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="/app/flags").click()
        page.get_by_role("link", name="Edit").click()
        page.get_by_label("Value").fill("refunds: true\n")
        page.get_by_role("button", name="Review change").click()
        page.get_by_role("button", name="Put value").click()
        toast = page.locator(".toast").last
        expect(toast).to_contain_text("Put /app/flags")
        assert behind.get(b"/app/flags").value == b"refunds: true\n"
        page.get_by_role("button", name="Undo").click()
        expect(toast).to_contain_text("Undone")
        page.get_by_role("link", name="Delete key").click()
        page.get_by_role("button", name="Delete key").click()
        expect(toast).to_contain_text("Deleted /app/flags")
        assert behind.get(b"/app/flags") is None
        page.get_by_role("button", name="Undo").click()
        expect(toast).to_contain_text("Undone")
        assert behind.get(b"/app/flags").value == KEYS[b"/app/flags"]
        page.locator("summary[aria-label^=Theme]").click()
        page.get_by_role("button", name="Dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.locator("summary", has_text="admin").click()
        page.get_by_role("link", name="Change password").click()
        expect(page.locator("h1")).to_have_text("Change password")
        one.assert_quiet()


def test_the_theme_changes_in_place_and_stays(at: Visit) -> None:
    page = at.page
    at.open("/c/local/keys/new")
    page.get_by_label("Value").fill("half a thought")
    page.locator("summary[aria-label^=Theme]").click()
    with page.expect_response("**/theme"):
        page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_label("Value")).to_have_value("half a thought")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_typing_a_prefix_that_is_no_byte_text_yet(at: Visit) -> None:
    page = at.page
    at.open("/c/local/keys")
    box = page.get_by_label("Prefix")
    box.press_sequentially("/hostile/\\")
    expect(page.locator("#listing")).to_contain_text("This prefix is not byte text")
    expect(box).to_be_focused()
    box.press_sequentially("xff")
    expect(page.locator("table.keys tbody tr")).to_have_count(1)


def test_menus_and_keyboard(at: Visit) -> None:
    page = at.page
    at.open("/c/local")
    at.chord("g", "k")
    expect(page).to_have_url(re.compile("/c/local/keys$"))
    at.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    at.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    menu = page.locator("details.cluster-menu")
    menu.locator("summary").click()
    expect(menu).to_have_attribute("open", "")
    at.assert_accessible()
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")


def test_a_session_that_ends_leads_to_the_sign_in(at: Visit) -> None:
    page = at.page
    at.open("/c/local/keys")
    page.context.clear_cookies()
    page.get_by_label("Prefix").fill("/app/")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    at.forgive("401 .Unauthorized")
