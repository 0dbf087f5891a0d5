"""Driving a page by keys alone: what cannot be reached with Tab, or is reached unseen, fails.

Nothing here clicks, focuses or fills an element by script: every step is a key that a person
presses. Wherever Tab arrives, the focus has to be visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.console.browser import Visit, visit

TABS_MAX = 250
"""Further than any page is long: who has not arrived by then never will."""
ARROWS_MAX = 40

NO_MOUSE = "addEventListener('pointerdown', () => console.error('a mouse was used'), true)"
LOOKS = """e => {
  const s = getComputedStyle(e);
  return [s.outlineStyle, s.outlineWidth, s.outlineColor, s.boxShadow, s.borderColor,
          s.backgroundColor].join('|');
}"""
HAS_FOCUS = "e => e === document.activeElement"
STEPS = """e => {
  const stops = [...document.querySelectorAll(
      'a[href], button, input, select, textarea, summary, [tabindex]')]
    .filter(s => s.tabIndex >= 0 && !s.disabled && s.checkVisibility()
      && !(s.type === 'radio' && !s.checked && s !== e));
  const here = document.activeElement;
  const before = here !== document.body
    && here.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_PRECEDING;
  const [first, last] = before ? [e, here] : [here, e];
  const between = stops.filter(s => s !== first && s !== last
    && (first === document.body
      || first.compareDocumentPosition(s) & Node.DOCUMENT_POSITION_FOLLOWING)
    && last.compareDocumentPosition(s) & Node.DOCUMENT_POSITION_PRECEDING);
  return [before ? -between.length - 1 : between.length + 1,
          here === document.body && Boolean(e.closest('main'))];
}"""
"""About how many stops of Tab it is to the element, and whether the skip link shortens the way."""


class Keyboard:
    """A pair of hands on a keyboard. `at` is for looking only."""

    def __init__(self, at: Visit) -> None:
        self.at = at
        self.page: Page = at.page

    def open(self, path: str) -> None:
        self.at.open(path)

    def press(self, *keys: str) -> None:
        self.at.press(*keys)

    def go(self, letter: str, title: str) -> None:
        self.at.chord("g", letter)
        expect(self.page.locator("h1")).to_have_text(title)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def to(
        self, role: Any, name: str, *, within: Locator | None = None, exact: bool = False
    ) -> None:
        """Tab, or Shift and Tab, until the one element with this role and name has the focus."""
        self.at.settle()
        target = (within or self.page).get_by_role(role, name=name, exact=exact)
        expect(target).to_have_count(1)
        self._tab_to(target, name)

    def _tab_to(self, target: Locator, name: str) -> None:
        if target.evaluate(HAS_FOCUS):
            return
        unfocused = target.evaluate(LOOKS)
        steps, is_skipped = target.evaluate(STEPS)
        if is_skipped and steps > 4:
            self.press("Tab")
            if self.page.get_by_role("link", name="Skip to the content").evaluate(HAS_FOCUS):
                self.press("Enter")
            steps, _ = target.evaluate(STEPS)
        key = "Tab" if steps > 0 else "Shift+Tab"
        for _ in range(min(abs(steps), TABS_MAX)):
            self.page.keyboard.press(key)
        for _ in range(TABS_MAX):
            if target.evaluate(HAS_FOCUS):
                break
            self.page.keyboard.press(key)
        else:
            raise AssertionError(f"{key} never comes to {name!r}")
        assert target.evaluate(LOOKS) != unfocused, f"nobody sees that {name!r} has the focus"

    def enter(self, role: Any, name: str, **how: Any) -> None:
        self.to(role, name, **how)
        self.press("Enter")

    def button(self, name: str, **how: Any) -> None:
        self.enter("button", name, **how)

    def link(self, name: str, **how: Any) -> None:
        self.enter("link", name, **how)

    def field(self, name: str, text: str, *, role: Any = "textbox", **how: Any) -> None:
        """What stands in it is replaced."""
        self.to(role, name, **how)
        self.press("Control+A")
        if text:
            self.type(text)
        else:
            self.press("Delete")

    def choose(self, name: str, option: str, **how: Any) -> None:
        """An option of a select, by its first letters."""
        self.to("combobox", name, **how)
        self.type(option)

    def radio(self, name: str, first: str | None = None) -> None:
        """One of a group: Tab comes to the one that is chosen, arrows choose another."""
        if first is not None:
            self.to("radio", first)
        target = self.page.get_by_role("radio", name=name)
        for _ in range(ARROWS_MAX):
            if target.evaluate(HAS_FOCUS):
                assert target.is_checked()
                return
            self.press("ArrowDown")
        raise AssertionError(f"no arrow comes to {name!r}")

    def tree(self, name: str) -> None:
        """The row of the tree that Tab comes to, which has this name."""
        self._tab_to(self.page.locator('#tree [role=treeitem][tabindex="0"]'), "the tree")
        expect(self.page.locator("#tree :focus")).to_contain_text(name)

    def unfold(self, words: str) -> None:
        """A `details`, by its summary."""
        self._tab_to(self.page.locator("summary", has_text=words).first, words)
        self.press("Enter")

    def menu(self, label: str) -> None:
        """A menu, by the label of its summary."""
        self._tab_to(self.page.locator(f"summary[aria-label^='{label}']"), label)
        self.press("Enter")


@contextmanager
def hands(browser: Browser, base: str, state: Any = None) -> Iterator[Keyboard]:
    """The dark theme: tests by mouse look at the light one."""
    options = {"color_scheme": "dark"}
    if state is not None:
        options["storage_state"] = state
    with visit(browser, base, **options) as one:
        one.page.add_init_script(NO_MOUSE)
        # Playwright takes dialogs for files over from the first listener on, and does not wait for
        # that: one that begins with the key that opens the dialog may be too late.
        one.page.on("filechooser", lambda chooser: None)
        yield Keyboard(one)
