"""Driving a real browser: one Chromium, pages that fail the test on any complaint, axe-core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_core_python
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, expect

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


WAIT_MS = 20_000
"""For what a page is expected to come to: an upper bound, also of a busy machine."""


def launch(playwright: Playwright) -> Browser:
    expect.set_options(timeout=WAIT_MS)
    assert Path(CHROMIUM).exists(), f"the browser tests need {CHROMIUM}"
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@dataclass(slots=True)
class Visit:
    """One page and what the browser had to complain about on it."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def hear(self, message: ConsoleMessage) -> None:
        # A search that a newer one takes the place of is aborted, and htmx tells so; how often
        # that happens is how fast the machine is. Requests that fail have names of their own.
        replaced = message.text.startswith(("htmx:sendAbort", "htmx:afterRequest"))
        if message.type == "error" and not replaced:
            self.complaints.append(message.text)

    def assert_quiet(self) -> None:
        """No console error, no uncaught exception, no violation of the policy."""
        assert self.complaints == []

    def assert_accessible(self, only: str | None = None) -> None:
        """Zero axe violations, of one rule or of all. Evaluated over the debugging protocol,
        which no policy binds."""
        if not self.page.evaluate("!!window.axe"):
            self.page.evaluate(AXE)
        options = {"runOnly": [only]} if only else {}
        result: dict[str, Any] = self.page.evaluate(
            "options => axe.run(document, options)", options
        )
        found = [
            f"{violation['id']}: {node['html'][:160]} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
        assert found == [], f"{self.page.url}:\n" + "\n".join(found)

    def assert_fits(self) -> None:
        """Nothing makes the page itself scroll sideways."""
        wide = self.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide, f"{self.page.url} is wider than the window"


def sign_in(browser: Browser, base: str, password: str) -> Any:
    """The first admin signs in as a person does; what the browser then holds, for later visits."""
    with visit(browser, base) as one:
        one.open("/login")
        one.page.get_by_label("Name").fill("admin")
        one.page.get_by_label("Password").fill(password)
        one.page.get_by_role("button", name="Sign in").click()
        expect(one.page.locator("nav.rail")).to_be_visible()
        return one.page.context.storage_state()


@contextmanager
def visit(browser: Browser, base: str, **options: Any) -> Iterator[Visit]:
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    one = Visit(page, base)
    page.on("console", lambda message: one.hear(message))
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    try:
        yield one
    finally:
        context.close()
