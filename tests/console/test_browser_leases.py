"""Leases in a real browser: grant, keep alive, revoke, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.console.browser import Visit, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.console.test_browser import behind, served, signed_in  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

LEASE = 0x77


@pytest.fixture(scope="module")
def lease(behind: Store) -> int:  # noqa: F811
    behind.grant_lease(3000, LEASE)
    behind.put(b"/leased/<i>key", b"v", LEASE)
    return LEASE


@pytest.mark.parametrize(
    "path", ["/leases", "/leases/grant", "/lease/77", "/lease/77/revoke", "/lease/1234"]
)
def test_every_page_is_accessible_and_fits(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    lease,
    path: str,
) -> None:
    with visit(chromium, served.base, storage_state=signed_in, reduced_motion="reduce") as one:
        one.open("/c/local" + path)
        for scheme, width, rule in (
            ("light", 1280, "color-contrast"),
            ("dark", 1280, None),
            ("light", 390, None),
        ):
            one.page.emulate_media(color_scheme=scheme)
            one.page.set_viewport_size({"width": width, "height": 844})
            one.assert_accessible(rule)
            one.assert_fits()
        assert [text for text in one.complaints if "404" not in text] == []


def test_grant_keep_alive_and_revoke_by_keyboard(at: Visit, behind: Store) -> None:  # noqa: F811
    at.open("/c/local/keys")
    page = at.page
    at.chord("g", "l")
    expect(page).to_have_url(re.compile("/leases$"))
    at.press("n")
    expect(page.get_by_label("Time to live")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("900")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/lease/[0-9a-f]+$"))
    lease = int(page.url.rsplit("/", 1)[1], 16)
    behind.put(b"/leased/by-keyboard", b"v", lease)
    at.press("r")
    expect(page.get_by_role("status")).to_contain_text("lives for another 900 s")
    page.get_by_role("link", name="Revoke lease…").focus()
    at.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("/leased/by-keyboard")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    at.assert_accessible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert behind.get(b"/leased/by-keyboard") is not None
    page.get_by_role("link", name="Revoke lease…").click()
    dialog.get_by_role("button", name="Revoke lease").click()
    expect(page.get_by_role("status")).to_contain_text("1 key went with it")
    assert behind.get(b"/leased/by-keyboard") is None


def test_the_countdown_counts(at: Visit, lease) -> None:
    at.open("/c/local/lease/77")
    clock = at.page.locator("dl.meta time")
    first = clock.text_content()
    expect(clock).not_to_have_text(first or "")
