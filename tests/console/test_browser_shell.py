"""What every page has: the palette, the sheet of keys, the help, the letters (console.md §4)."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.console.browser import Visit, visit
from tests.console.serving import Served
from tests.console.test_browser import behind, served, signed_in  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

ACTIVE = '#palette-list [aria-selected="true"]'


def ask(at: Visit, text: str) -> None:
    """Typed into the open palette; all of the answer to it is there. The list of a part of it may
    look the same, and is replaced when somebody has moved in it already."""
    at.page.keyboard.type(text)
    expect(at.page.locator("#palette-list [data-of]")).to_have_attribute("data-of", text)
    expect(at.page.locator("#palette-list [aria-busy]")).to_have_count(0)


def active(page: Page) -> str:
    """What a screen reader is told, while the focus stays in the field."""
    named = page.locator("#palette-input").get_attribute("aria-activedescendant")
    assert page.evaluate("document.activeElement.id") == "palette-input"
    return page.locator(f"#{named} .grow").inner_text()


@pytest.mark.parametrize("path", ["/c/local", "/c/local/key?key=/app/config", "/accounts", "/nope"])
def test_the_palette_opens_on_every_page(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    path: str,
) -> None:
    with visit(chromium, served.base, storage_state=signed_in) as one:
        one.open(path)
        one.press("Control+k")
        expect(one.page.locator(ACTIVE)).to_contain_text("Keys")
        one.press("Escape")
        expect(one.page.locator("#palette")).not_to_be_visible()
        assert [text for text in one.complaints if "404" not in text] == []


def test_a_key_is_reached_by_keyboard_alone(at: Visit) -> None:
    at.open("/c/local")
    page = at.page
    at.press("Control+k")
    ask(at, "/app/")
    expect(page.locator(ACTIVE)).to_have_text("/app/config")
    at.assert_accessible()
    at.press("ArrowDown")
    assert active(page) == "/app/flags"
    at.press("ArrowUp")
    at.press("ArrowUp")
    assert active(page) == "All 3 keys that begin with /app/"
    at.press("ArrowDown")
    assert active(page) == "/app/config"
    at.press("Enter")
    expect(page).to_have_url(re.compile(r"/c/local/key\?key=/app/config$"))
    at.press("Control+k")
    ask(at, "rev 3")
    expect(page.locator(ACTIVE)).to_contain_text("Revision 3")
    at.press("Enter")
    expect(page.locator("h1")).to_contain_text("Revision 3")


def test_who_types_faster_than_is_answered_goes_where_it_was_typed(at: Visit) -> None:
    """Enter does not take what was found for a part of it."""
    page = at.page
    at.open("/c/local")
    at.press("Control+k")
    expect(page.locator(ACTIVE)).to_contain_text("Keys")
    held: list[Route] = []
    is_held = [True]
    asked = "**/go*q=%2Fapp%2Fconfig*"
    page.route(asked, lambda one: held.append(one) if is_held else one.continue_())
    with page.expect_request(asked):
        page.keyboard.type("/app/config")
    at.press("Enter")
    is_held.clear()
    for route in held:
        route.continue_()
    expect(page.locator("h1")).to_have_text("/app/config")


def test_hostile_keys_are_found_and_opened(at: Visit) -> None:
    at.open("/c/local")
    page = at.page
    at.press("Control+k")
    ask(at, "/hostile/<script>")
    expect(page.locator(ACTIVE)).to_contain_text("<script>document.title")
    at.press("Enter")
    expect(page.locator("h1")).to_contain_text("<script>")
    assert page.title() != "owned"


def test_the_palette_by_mouse_and_without_scripts(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    at: Visit,
) -> None:
    at.open("/c/local/leases")
    at.page.get_by_role("link", name="Go to…").click()
    at.page.get_by_role("option", name="Overview").click()
    expect(at.page.locator("h1")).to_have_text("Overview")
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        one.open("/c/local/leases")
        one.page.get_by_role("link", name="Go to…").click()
        one.page.get_by_role("searchbox").fill("/app/co")
        one.page.get_by_role("button", name="Find").click()
        one.page.get_by_role("link", name="/app/config").click()
        expect(one.page.locator("h1")).to_have_text("/app/config")
        one.assert_quiet()


def test_the_sheet_lists_what_the_page_has(at: Visit) -> None:
    page = at.page
    at.open("/c/local/key?key=/app/config")
    at.press("?")
    lines = page.locator("#shortcuts dl > div")
    expect(lines.filter(has_text="History").first).to_contain_text("h")
    expect(lines.filter(has_text="Edit")).to_have_count(1)
    expect(lines.filter(has_text="Pause")).to_have_count(0)
    at.assert_accessible()
    at.press("Escape")
    expect(page.locator("#shortcuts")).not_to_be_visible()
    at.open("/c/local/watch")
    at.press("?")
    expect(lines.filter(has_text="Pause")).to_have_count(1)
    expect(lines.filter(has_text="Edit")).to_have_count(0)


def test_the_help_says_what_the_page_is(at: Visit) -> None:
    at.open("/c/local/leases")
    page = at.page
    page.get_by_label("Help: what is this page?").click()
    expect(page.locator(".help-pop")).to_contain_text("A lease is a countdown")
    at.assert_accessible()
    at.press("Escape")
    expect(page.locator(".help-pop")).not_to_be_visible()


def test_letters_and_brackets_lead_on(at: Visit, behind) -> None:  # noqa: F811
    page = at.page
    for value in (b"1", b"2", b"3"):
        behind.put(b"/steps/key", value)
    at.open("/c/local/key?key=/steps/key")
    at.press("[")
    expect(page.locator("pre.value")).to_have_text("2")
    at.press("[")
    expect(page.locator("pre.value")).to_have_text("1")
    at.press("]")
    expect(page.locator("pre.value")).to_have_text("3")
    at.press("d")
    expect(page.locator("#compare .diff .add")).to_contain_text("3")
    at.press("h")
    expect(page.locator("#compare")).to_have_count(0)
    at.press("d")
    expect(page.locator("#compare .diff .add")).to_contain_text("3")
    at.press("[")
    expect(page.locator("#compare .diff .add")).to_contain_text("2")
    at.press("]")
    expect(page.locator("#compare .diff .add")).to_contain_text("3")
    at.press("w")
    expect(page).to_have_url(re.compile(r"/watch\?key="))
    for letter, title in (("k", "Keys"), ("l", "Leases"), ("o", "Overview"), ("a", "Audit")):
        at.chord("g", letter)
        expect(page.locator("h1")).to_have_text(title)


def test_two_letters_go_together_when_they_were_pressed_together(at: Visit) -> None:
    """However late a busy page hears of them."""
    page = at.page
    at.open("/c/local/leases")
    at.chord("g", "k", apart_seconds=2)
    at.press("?")
    expect(page.locator("#shortcuts")).to_be_visible()
    expect(page.locator("h1")).to_have_text("Leases")
    at.press("Escape")
    at.chord("g", "k", apart_seconds=1)
    expect(page.locator("h1")).to_have_text("Keys")


def test_what_was_refused_is_seen_though_the_focus_is_at_the_end(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
) -> None:
    """A plan that is not taken says why at its beginning; Cancel, at its end, has the focus."""
    window = {"width": 1000, "height": 320}
    with visit(chromium, served.base, storage_state=signed_in, viewport=window) as one:
        one.page.route("**/maintenance/compact*", refuse)
        one.open("/c/local/maintenance/compact?revision=1")
        expect(one.page.get_by_role("alert")).to_be_in_viewport(ratio=1)
        expect(one.page.locator("#last")).to_be_focused()


def refuse(route: Route) -> None:
    """The page, with words before it and something after it that takes the focus."""
    answer = route.fetch()
    words = '<p role="alert" class="banner danger">The cluster refused</p>'
    tall = "<p>much to read</p>" * 200 + '<a id="last" href="/" autofocus>Cancel</a>'
    page = answer.text().replace(" autofocus", "")
    body = re.sub(r"(<main[^>]*>)", rf"\1{words}{tall}", page, count=1)
    route.fulfill(response=answer, body=body)


def test_what_is_typed_is_no_shortcut(at: Visit) -> None:
    at.open("/c/local/keys/new")
    page = at.page
    page.get_by_label("Key", exact=True).fill("")
    page.keyboard.type("?gk[]hw/")
    expect(page.get_by_label("Key", exact=True)).to_have_value("?gk[]hw/")
    expect(page.locator("#shortcuts")).not_to_be_visible()


def test_a_session_that_ended_leads_to_the_sign_in_and_back(
    chromium: Browser,
    served: Served,  # noqa: F811
    behind,  # noqa: F811
) -> None:
    with visit(chromium, served.base) as one:
        page = one.page
        one.open("/login")
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(served.password or "")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("nav.rail")).to_be_visible()
        one.open("/c/local/keys")
        page.context.clear_cookies(name="keydeck_session")
        page.get_by_label("Prefix").fill("/app/")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill(served.password or "")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("h1")).to_have_text("Keys")
        page.locator("summary.who").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert [text for text in one.complaints if "401" not in text] == []
