"""Every page says what it is (console.md §4 Keyboard, §7)."""

from __future__ import annotations

import re

import pytest

from console.help import PAGES, ROOMS, help_of
from tests.console.test_access_table import ROUTES, rule_of

WITHOUT_PAGE = {"home"}
"""They answer GET with a redirect only."""


@pytest.mark.parametrize(
    "name", [n for n in ROUTES if "GET" in rule_of(n).methods and n not in WITHOUT_PAGE]
)
def test_every_route_has_a_text(name: str) -> None:
    view = ROUTES[name].callback
    assert help_of(name, view.__module__), f"{name}: its room {view.__module__} has no text"


def test_no_text_is_for_a_page_that_is_gone() -> None:
    assert PAGES.keys() <= ROUTES.keys()
    assert all(
        paragraph.endswith((".", "?"))
        for text in (*ROOMS.values(), *PAGES.values())
        for paragraph in text
    )


def test_a_page_shows_its_text(as_viewer, cluster) -> None:
    text = as_viewer.get("/c/one/leases").text
    shown = re.sub(r"\s+", " ", re.sub("<[^>]*>", "", text))
    assert ROOMS["leases"][0] in shown
