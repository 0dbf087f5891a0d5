"""The members' room in a real browser: a member added as a learner and removed again, by mouse and
by keyboard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.console.browser import Visit, launch, sign_in, visit
from tests.console.serving import Served
from tests.support.servers import free_ports, kinds, program

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

SHOTS = os.environ.get("KEYDECK_SHOTS", "")
"""A directory to leave pictures in, for who wants to look."""


@pytest.fixture(scope="module", params=kinds()[-1:])
def served(request, tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("members") / "data", member=program(request.param))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, served: Served) -> dict[str, object]:
    return sign_in(chromium, served.base, served.password or "")


@pytest.fixture
def at(chromium: Browser, served: Served, signed_in) -> Iterator[Visit]:
    with visit(chromium, served.base, storage_state=signed_in) as one:
        yield one
        one.assert_quiet()


def assert_whole(one: Visit, name: str) -> None:
    """Zero violations in both themes, and nothing wider than a phone."""
    for scheme, width in (("dark", 1280), ("light", 390), ("light", 1280)):
        one.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        one.page.set_viewport_size({"width": width, "height": 844})
        one.assert_accessible("color-contrast" if scheme == "dark" else None)
        one.assert_fits()
        if SHOTS:
            shot = Path(SHOTS) / f"{name}-{scheme}-{width}.png"
            one.page.screenshot(path=str(shot), full_page=True)


def test_a_learner_comes_and_goes(at: Visit) -> None:
    page = at.page
    peer = f"http://127.0.0.1:{free_ports(1)[0]}"
    at.open("/c/local")
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.locator("h1")).to_have_text("Members")
    assert_whole(at, "members")
    page.get_by_role("link", name="Add a member").click()
    page.get_by_label(re.compile("^Name")).fill("m2")
    page.get_by_label(re.compile("^Peer addresses")).fill(peer)
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    expect(page.locator(".quorum")).to_contain_text("Needed for a quorum")
    assert_whole(at, "add")
    page.keyboard.press("Shift+Tab")  # from Cancel back to the button that acts
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Start m2")
    expect(page.locator("pre").first).to_contain_text(f"m2={peer}")
    assert_whole(at, "start")
    page.get_by_role("main").get_by_role("link", name="Members").click()
    row = page.locator("tr", has_text=peer)
    expect(row).to_contain_text("not started")
    row.get_by_role("link", name=re.compile("^Promote")).click()
    expect(page.get_by_role("button", name=re.compile("^Promote"))).to_be_disabled()
    assert_whole(at, "promote")
    page.get_by_role("link", name="Cancel").click()
    page.locator("tr", has_text=peer).get_by_role("link", name=re.compile("^Remove")).click()
    page.get_by_label(re.compile("^Reason")).fill("it was only a try")
    assert_whole(at, "remove")
    page.get_by_role("button", name=re.compile("^Remove")).click()
    expect(page.locator("h1")).to_have_text("Members")
    expect(page.locator("#live")).not_to_contain_text(peer)


def test_the_assistant_shows_where_it_is(at: Visit) -> None:
    page = at.page
    at.open("/c/local/members/replace")
    page.get_by_label("Which one goes").select_option(index=1)
    page.get_by_label("Name of the new member").fill("m3")
    page.get_by_label(re.compile("^Its peer addresses")).fill("http://127.0.0.1:1")
    page.get_by_role("button", name="Show the steps").click()
    expect(page.locator('#steps [aria-current="step"]')).to_contain_text("Remove")
    assert_whole(at, "replace")


def test_without_scripts_the_plan_is_a_form(chromium: Browser, served: Served, signed_in) -> None:
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        one.open("/c/local/members")
        one.page.get_by_role("link", name="Add a member").click()
        one.page.get_by_label(re.compile("^Peer addresses")).fill("http://127.0.0.1:1")
        one.page.get_by_role("button", name="Show the plan").click()
        expect(one.page.locator(".checks")).to_contain_text("There is a leader")
