"""History in a real browser: versions compared and put back, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.console.browser import Visit, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.console.test_browser import behind, served, signed_in  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

KEY = b"/history/<b>key"


@pytest.fixture(scope="module")
def versions(behind: Store) -> list[int]:  # noqa: F811
    made = [behind.put(KEY, b"line one\nline %d\n" % number) for number in range(3)]
    behind.put(b"/history/gone", b"bye\n")
    behind.delete(b"/history/gone")
    return made


PAGES = [
    "/c/local/key/history?key=/history/<b>key",
    "/c/local/key/history?key=/history/<b>key&a={0}&b={2}",
    "/c/local/key/history?key=/history/nothing",
    "/c/local/key/restore?key=/history/<b>key&rev={0}",
    "/c/local/history",
    "/c/local/history?prefix=/history/&show=deleted",
    "/c/local/revision/{0}",
    r"/c/local/key/history?key=/hostile/%5Cxff%5Cxfe%5Cx80",
]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_accessible_and_fits(
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    versions,
    path: str,
) -> None:
    with visit(chromium, served.base, storage_state=signed_in, reduced_motion="reduce") as one:
        one.open(path.format(*versions))
        for scheme, width, rule in (
            ("light", 1280, "color-contrast"),
            ("dark", 1280, None),
            ("light", 390, None),
        ):
            one.page.emulate_media(color_scheme=scheme)
            one.page.set_viewport_size({"width": width, "height": 844})
            one.assert_accessible(rule)
            one.assert_fits()
        one.assert_quiet()


def test_two_versions_are_compared_by_mouse(at: Visit, versions) -> None:
    at.open("/c/local/key?key=/history/<b>key")
    page = at.page
    page.get_by_role("link", name="History h").click()
    page.get_by_label(f"Compare from revision {versions[0]}").check()
    page.get_by_role("button", name="Compare a with b").click()
    expect(page.locator(".diff .del")).to_have_text("−line 0")
    expect(page.locator(".diff .add")).to_have_text("+line 2")


def test_a_version_is_put_back_by_keyboard_and_undone(at: Visit, behind, versions) -> None:  # noqa: F811
    at.open("/c/local/key?key=/history/<b>key")
    page = at.page
    at.press("h")
    expect(page).to_have_url(re.compile("key/history"))
    page.get_by_label(f"Put back revision {versions[0]}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Put back version 1")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Put back /history/<b>key")
    assert behind.get(KEY).value == b"line one\nline 0\n"
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("Undone")
    assert behind.get(KEY).value == b"line one\nline 2\n"


def test_a_deleted_key_is_found_and_put_back(at: Visit, behind, versions) -> None:  # noqa: F811
    at.open("/c/local/keys")
    page = at.page
    at.chord("g", "h")
    expect(page).to_have_url(re.compile("/history$"))
    page.get_by_role("link", name="Deleted keys").click()
    page.get_by_label("Put back /history/gone").click()
    page.get_by_role("button", name="Put back version 1").click()
    expect(page.get_by_role("status")).to_contain_text("Put back /history/gone")
    assert behind.get(b"/history/gone").value == b"bye\n"


def test_from_revision_to_revision_by_keyboard(at: Visit, versions) -> None:
    at.open(f"/c/local/revision/{versions[1]}")
    page = at.page
    at.press("[")
    expect(page).to_have_url(re.compile(f"/revision/{versions[0]}$"))
    at.press("]")
    expect(page).to_have_url(re.compile(f"/revision/{versions[1]}$"))
