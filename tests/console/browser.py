"""Driving a real browser: one Chromium, pages that fail the test on any complaint, axe-core."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import axe_core_python
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    expect,
)

from tests.support.servers_proc import wait_until

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


WAIT_MS = 60_000
"""For what a page is expected to come to: an upper bound, also of a busy machine."""

READY = """{
  // Until its scripts have run a page is the one without scripts, which tests of its own look at.
  const veil = new CSSStyleSheet();
  veil.replaceSync("html { pointer-events: none }");
  document.adoptedStyleSheets = [veil];
  const lift = () => { document.adoptedStyleSheets = []; };
  if (document.readyState === "complete") lift();
  else addEventListener("load", lift);
}"""
"""What is clicked before that waits: a link to a dialog would lead to a page."""

AT_REST = """document.getAnimations()
  .filter(each => each.effect.getComputedTiming().endTime !== Infinity)
  .forEach(each => each.finish())"""
"""Half on its way a thing has the contrast of nothing that anybody designed."""


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

    def settle(self) -> None:
        """Scripts have run, and what is to have the focus at first has it: the browser gives it
        with a frame after the load."""
        while True:
            self.page.wait_for_load_state()
            try:
                self.page.evaluate("new Promise(requestAnimationFrame)")
                return
            except Error as error:  # the page of before, which was on its way out
                if "context was destroyed" not in error.message:
                    raise

    def press(self, *keys: str) -> None:
        """A page hears keys when its scripts have run, which is after it is seen."""
        self.settle()
        for key in keys:
            self.page.keyboard.press(key)

    def chord(self, first: str, second: str, apart_seconds: float = 0.05) -> None:
        """Two letters, one after the other as a hand presses them: how long the page was busy
        between them is none of the hand's doing."""
        self.settle()
        hand = self.page.context.new_cdp_session(self.page)
        at = time.time()
        for number, letter in enumerate((first, second)):
            key = {"key": letter, "code": f"Key{letter.upper()}", "timestamp": at}
            key["windowsVirtualKeyCode"] = ord(letter.upper())
            hand.send("Input.dispatchKeyEvent", {"type": "keyDown", "text": letter, **key})
            if not number:  # the page of the second may be gone before it is let go
                hand.send("Input.dispatchKeyEvent", {"type": "keyUp", **key})
            at += apart_seconds
        hand.detach()

    def look_until(self, selector: str, text: str) -> None:
        """What asks every member waits for them so long and no longer, and says who was silent: a
        person looks again."""
        said = self.page.locator(selector)

        def is_said() -> bool:
            if text in said.inner_text():
                return True
            self.page.reload()
            return False

        wait_until(is_said, WAIT_MS / 1000, f"{text!r} in {selector}")

    def forgive(self, expected: str) -> None:
        """Answers that a test asks for, and which the browser itself reports as failed loads."""
        is_expected = re.compile(expected).search
        self.complaints = [text for text in self.complaints if not is_expected(text)]

    def assert_quiet(self) -> None:
        """No console error, no uncaught exception, no violation of the policy."""
        assert self.complaints == []

    def assert_accessible(self, only: str | None = None) -> None:
        """Zero axe violations, of one rule or of all. Evaluated over the debugging protocol,
        which no policy binds."""
        self.settle()
        self.page.evaluate(AT_REST)
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
    """Motion is reduced unless a test wants it."""
    context: BrowserContext = browser.new_context(**{"reduced_motion": "reduce", **options})
    context.set_default_timeout(WAIT_MS)
    if options.get("java_script_enabled", True):
        context.add_init_script(READY)
    page = context.new_page()
    one = Visit(page, base)
    page.on("console", lambda message: one.hear(message))
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    try:
        yield one
    finally:
        context.close()
