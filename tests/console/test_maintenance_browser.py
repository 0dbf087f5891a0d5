"""Maintenance of one member in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from kvserver.client import Client, ClientConfig, Endpoint
from tests.console.browser import Visit, sign_in, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.support.servers import kinds, program

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


@pytest.fixture(scope="module", params=kinds()[-1:])
def served(request, tmp_path_factory) -> Iterator[Served]:
    one = Served(tmp_path_factory.mktemp("kept") / "data", member=program(request.param))
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def behind(served: Served) -> Iterator[Store]:
    client = Client(ClientConfig((Endpoint.parse(served.client_url),)))
    store = Store(client)
    for i in range(40):
        revision = store.put(b"/fill", bytes(20_000 + i))
    store.compact(revision)
    yield store
    client.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, served: Served, behind: Store) -> dict[str, object]:
    return sign_in(chromium, served.base, served.password or "")


def assert_whole(one: Visit) -> None:
    """Zero violations in both themes, and nothing wider than a phone."""
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        one.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        one.page.set_viewport_size({"width": width, "height": 844})
        one.assert_accessible(None if width == 390 or scheme == "light" else "color-contrast")
        one.assert_fits()


def test_defragment_by_mouse_and_see_the_sizes(at: Visit) -> None:
    page = at.page
    at.open("/c/local")
    page.get_by_role("link", name="Maintenance").click()
    expect(page.locator("h1")).to_have_text("Maintenance")
    assert_whole(at)
    page.get_by_role("link", name=re.compile("^Defragment (?!all)")).click()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    assert_whole(at)
    page.get_by_role("button", name=re.compile("^Defragment ")).click()
    expect(page).to_have_url(re.compile(r"/maintenance/jobs/\d+$"))
    expect(page.locator("#job .sentence")).to_contain_text("done")
    expect(page.locator("#live-chip")).to_contain_text("live")
    expect(page.locator('#job [data-label="After"]')).to_contain_text(re.compile("[KM]iB"))
    assert_whole(at)


def test_hashes_are_compared(at: Visit) -> None:
    at.open("/c/local/maintenance")
    at.page.get_by_role("link", name="Compare hashes").click()
    expect(at.page.locator(".sentence")).to_contain_text("nothing to compare it with")
    assert_whole(at)


def test_without_scripts_a_plain_form_does_it(chromium: Browser, served: Served, signed_in) -> None:
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        one.open("/c/local/maintenance")
        one.page.get_by_role("link", name=re.compile("^Defragment (?!all)")).click()
        one.page.get_by_role("button", name=re.compile("^Defragment ")).click()
        expect(one.page).to_have_url(re.compile(r"/maintenance/jobs/\d+$"))
