"""Charts in a real browser: filled by the recorder of a running console."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.console.browser import launch, sign_in, visit
from tests.console.serving import Served
from tests.support.servers import kinds, program

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

SHOTS = os.environ.get("KEYDECK_SHOTS", "")
"""A directory to leave pictures in, for who wants to look."""


@pytest.fixture(scope="module", params=kinds()[-1:])
def served(request, tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("samples") / "data", member=program(request.param))
    one.start()
    yield one
    one.stop()


def test_the_charts_fill_by_themselves(served: Served) -> None:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        state = sign_in(browser, served.base, served.password or "")
        with visit(browser, served.base, storage_state=state) as one:
            page = one.page
            one.open("/")
            page.get_by_role("link", name="Overview").first.click()
            page.get_by_role("link", name="Over time").click()
            # Sampled every ten seconds, and polled as often; a line takes two looks.
            expect(page.locator("figure.chart")).to_have_count(6, timeout=120_000)
            line = page.locator(".chart .line").first
            expect(line).to_have_attribute("d", re.compile("^M"), timeout=120_000)
            for scheme, width in (("dark", 1280), ("light", 390), ("light", 1280)):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.set_viewport_size({"width": width, "height": 844})
                one.assert_accessible("color-contrast" if scheme == "dark" else None)
                one.assert_fits()
                if SHOTS:
                    shot = Path(SHOTS) / f"over-time-{scheme}-{width}.png"
                    page.screenshot(path=str(shot), full_page=True)
            page.get_by_role("link", name="24 hours").click()
            expect(page.locator("figure.chart")).to_have_count(6)
            one.assert_quiet()
        browser.close()
