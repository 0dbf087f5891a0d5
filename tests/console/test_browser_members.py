"""The members' room in a real browser on a cluster of three: a member that dies and comes back
while the overview is open, one that stands still, a dead one replaced by the assistant."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.console.browser import Visit, visit
from tests.console.serving import Served, in_front_of
from tests.support.servers import Server, command, free_ports, newest_kinds, running

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


@pytest.fixture(scope="module", params=newest_kinds())
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def base(kind: str, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("members")


@pytest.fixture(scope="module")
def three(kind: str, base: Path) -> Iterator[list[Server]]:
    with running(kind, base, size=3) as servers:
        yield servers


@pytest.fixture(scope="module")
def served(three: list[Server], base: Path) -> Iterator[Served]:
    with in_front_of(three, base) as one:
        yield one


def row(page: Page, name: str):
    return page.locator("#member-rows tr", has_text=name)


def assert_down(page: Page, name: str) -> None:
    """A row like any other, with what it said last and how old that is."""
    expect(page.locator("#health-sentence")).to_contain_text("2 of 3 healthy")
    expect(page.locator("#health-sentence")).to_contain_text(f"{name} does not answer")
    expect(page.locator("#health-sentence")).to_contain_text("One more failure and writes stop.")
    expect(row(page, name)).to_contain_text("unreachable")
    expect(row(page, name).locator("[data-label=Seen]")).to_have_text(re.compile(r"\d+\s.* ago"))
    expect(row(page, name).locator("[data-label=Revision]")).to_have_text(re.compile(r"\d"))


def test_a_member_dies_and_comes_back_while_the_overview_is_open(at: Visit, three) -> None:
    page = at.page
    at.open("/c/local")
    expect(page.locator("#live-chip")).to_have_text("live")
    expect(page.locator("#health-sentence")).to_contain_text("3 of 3 healthy")
    expect(row(page, "m2").locator("[data-label=Seen]")).to_have_text("now")
    three[2].kill()
    assert_down(page, "m2")
    at.assert_accessible()
    three[2].start()
    expect(page.locator("#health-sentence")).to_contain_text("3 of 3 healthy")
    expect(row(page, "m2").locator("[data-label=Seen]")).to_have_text("now")
    expect(page.locator("#live-chip")).to_have_text("live")  # through all of it


def test_a_member_that_stands_still_is_a_row_on_every_page(at: Visit, three) -> None:
    page = at.page
    os.kill(three[1].process.pid, signal.SIGSTOP)
    try:
        at.open("/c/local")
        assert_down(page, "m1")
        for path in ("members", "maintenance"):
            at.open(f"/c/local/{path}")
            standing = page.locator("table.members tr", has_text="m1").first
            expect(standing).to_contain_text("unreachable")
            expect(standing).to_contain_text(re.compile(r"\d+\s.* ago"))
        at.open("/c/local")
    finally:
        os.kill(three[1].process.pid, signal.SIGCONT)
    expect(page.locator("#health-sentence")).to_contain_text("3 of 3 healthy")


def test_a_dead_member_is_replaced_by_the_assistant(at: Visit, three, kind, base: Path) -> None:
    page = at.page
    three[2].kill()
    client_port, peer_port = free_ports(2)
    peer, url = f"http://127.0.0.1:{peer_port}", f"http://127.0.0.1:{client_port}"
    at.open("/c/local")
    assert_down(page, "m2")
    # It may have led: what is sent before the others have elected another one is lost.
    expect(page.locator("#health-sentence")).to_contain_text(re.compile(r"Leader m[01]\b"))
    at.open("/c/local/members")
    page.get_by_role("link", name="Replace a member").click()
    page.get_by_label("Which one goes").select_option(label="m2 · unreachable")
    page.get_by_label("Name of the new member").fill("m3")
    page.get_by_label(re.compile("^Its peer addresses")).fill(peer)
    page.get_by_role("button", name="Show the steps").click()
    steps = page.locator("#steps")
    steps.get_by_role("link", name="Remove m2").click()
    expect(page.locator(".quorum")).to_contain_text("Failures survived")
    page.get_by_label(re.compile("^Reason")).fill("its disk is gone")
    insist(page, "Remove m2")
    steps.get_by_role("link", name="Add m3 as a learner").click()
    insist(page, "Add as a learner")
    shown = steps.locator("pre").first.inner_text()
    flag = re.search(r"--initial-cluster=(\S+)", shown)
    assert flag and "m2=" not in flag[1]
    line = [*command(kind, "m3", base, url, peer, flag[1]), "--initial-cluster-state=existing"]
    third = Server("m3", url, peer, base, line)
    third.start()
    three.append(third)  # ended with the others
    steps.get_by_role("link", name="Promote m3").click()
    until_enabled(page, "Promote m3")
    insist(page, "Promote m3")
    expect(page.locator(".banner.ok")).to_contain_text("m3 has taken the place of m2")
    page.get_by_role("main").get_by_role("link", name="Members").first.click()
    expect(page.locator("#live")).to_contain_text("3 voters, 3 answer")
    expect(page.locator("#membership")).not_to_contain_text("m2")
    at.open("/audit")
    expect(page.locator("main")).to_contain_text("its disk is gone")
    at.complaints = [text for text in at.complaints if "422" not in text]


def until_enabled(page: Page, button: str) -> None:
    """A learner may be promoted once it has caught up; the plan does not look again by itself."""
    deadline = time.monotonic() + 120
    while page.get_by_role("button", name=button).is_disabled():
        assert time.monotonic() < deadline, f"{button} stays disabled"
        page.reload()


def insist(page: Page, button: str) -> None:
    """Links between members count as healthy some seconds after they came up; before that a change
    is refused (spec/cluster.md §3.6), and the page says so and keeps what was typed."""
    for _ in range(60):
        with page.expect_navigation():
            page.get_by_role("button", name=button).click()
        if urlsplit(page.url).path.endswith("/members/replace"):
            return
        expect(page.get_by_role("alert")).to_contain_text("The cluster refused")
    raise AssertionError(f"{button} is refused for ever")


def test_without_scripts_the_plan_is_a_form(chromium: Browser, served: Served, signed_in) -> None:
    with visit(chromium, served.base, storage_state=signed_in, java_script_enabled=False) as one:
        one.open("/c/local/members")
        one.page.get_by_role("link", name="Add a member").click()
        one.page.get_by_label(re.compile("^Peer addresses")).fill("http://127.0.0.1:1")
        one.page.get_by_role("button", name="Show the plan").click()
        expect(one.page.locator(".checks")).to_contain_text("There is a leader")
