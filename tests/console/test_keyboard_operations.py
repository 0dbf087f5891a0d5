"""The operations side by keyboard alone, on a cluster of three: never a click (console.md §4)."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from kvserver.client import Client, ClientConfig
from kvserver.client.backup import backup_status
from kvserver.proto import rpc_pb2
from tests.console.conftest import CALL_SECONDS_MAX, Store
from tests.console.keyboard import Keyboard, hands
from tests.console.leading import SECONDS_MAX, lead, wait_level
from tests.console.serving import Served, in_front_of
from tests.support.servers import Server, command, free_ports, kinds, running
from tests.support.servers_proc import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

KIND = kinds()[-1]
PASSWORD = "typed by hand"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("keyboard")


@pytest.fixture(scope="module")
def three(base: Path) -> Iterator[list[Server]]:
    with running(KIND, base, size=3, flags=["--bcrypt-cost=4"]) as servers:
        wait_level(servers)
        yield servers


@pytest.fixture(scope="module")
def served(three: list[Server], base: Path) -> Iterator[Served]:
    with in_front_of(three, base) as one:
        yield one


@pytest.fixture(scope="module")
def store(three: list[Server]) -> Iterator[Store]:
    client = Client(ClientConfig(tuple(server.endpoint for server in three)))
    yield Store(client)
    client.close()


HAS_FOCUS = "document.activeElement !== document.body"


class Operator(Keyboard):
    """Hands in the content of the page; the rail has words of the same sound."""

    def to(self, role: Any, name: str, *, within: Locator | None = None, exact: bool = False):
        self.skip()
        super().to(role, name, within=within or self.page.get_by_role("main"), exact=exact)

    def enter(self, role: Any, name: str, *, stays: bool = False, **how: Any) -> None:
        """`stays`: what it opens is no other page."""
        self.to(role, name, **how)
        if stays:
            self.press("Enter")
        else:
            self.submit()

    def submit(self) -> None:
        with self.page.expect_navigation():
            self.press("Enter")

    def insist(self, verb: str, *, reason: str = "") -> None:
        """`confirm`, until the cluster takes it: links between members count as healthy some
        seconds after they came up, and before that a change is refused (spec/cluster.md §3.6). The
        page says so and keeps what was typed."""
        for _ in range(REFUSALS_MAX):
            self.confirm(verb, reason=reason)
            if not self.page.get_by_role("button", name=verb).count():
                return
            expect(self.page.get_by_role("alert")).to_contain_text("The cluster refused")
            self.at.forgive("422 ")
        raise AssertionError(f"{verb} is refused for ever")

    def skip(self) -> None:
        """Past the frame of a fresh page, as people do."""
        self.at.settle()
        if not self.page.evaluate(HAS_FOCUS):
            self.press("Tab", "Enter")
            expect(self.page.locator("#main")).to_be_focused()

    def labelled(self, label: str, text: str, *, exact: bool = False) -> None:
        """A field that has no role of its own, such as one for a password."""
        self.reach(self.page.get_by_label(label, exact=exact), label)
        self.press("Control+A")
        self.type(text)

    def reach(self, target: Locator, name: str) -> None:
        self.skip()
        self._tab_to(target, name)

    def tick(self, name: str) -> None:
        self.to("checkbox", name)
        self.press("Space")

    def confirm(self, verb: str, *, reason: str = "") -> None:
        """On a plan page: the focus is on Cancel, what acts is one step before it."""
        expect(self.page.get_by_role("link", name="Cancel")).to_be_focused()
        if reason:
            self.field("Reason", reason)
        self.button(verb)


@pytest.fixture
def keys(chromium: Browser, served: Served, signed_in) -> Iterator[Operator]:
    with hands(chromium, served.base, signed_in) as found:
        yield Operator(found.at)
        found.at.assert_quiet()


@pytest.fixture
def page(keys: Operator) -> Page:
    return keys.page


ROOMS = {
    "o": "Overview",
    "e": "Members",
    "m": "Maintenance",
    "s": "Users",
    "r": "Roles",
    "p": "Permissions",
}
STOPS_MAX = 150
REFUSALS_MAX = 60
SEEN = """() => {
  const focused = document.activeElement;
  const box = focused.getBoundingClientRect();
  const style = getComputedStyle(focused);
  const isInside = box.bottom > 0 && box.top < innerHeight && box.right > 0;
  const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  return isSeen && isInside ? "" : focused.outerHTML.slice(0, 200);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_stop_of_every_room_is_seen(keys: Operator, page: Page, scheme: str) -> None:
    """From the top of each page to its end: whatever takes the focus shows it."""
    page.emulate_media(color_scheme=scheme)
    keys.open("/c/local/access")
    for letter, title in ROOMS.items():
        keys.go(letter, title)
        keys.at.settle()
        page.evaluate("document.activeElement.blur()")
        stops = 0
        keys.press("Tab")
        while page.evaluate(HAS_FOCUS):
            assert page.evaluate(SEEN) == "", title
            stops += 1
            assert stops < STOPS_MAX, title
            page.keyboard.press("Tab")
        assert stops > 20 or letter == "p", title


def test_the_focus_stays_where_it_is_while_the_page_lives(keys: Operator, page: Page) -> None:
    """What is swapped in by itself takes neither the focus nor what was unfolded."""
    page.clock.install()
    for path, name in (
        ("/members", "Change the addresses of m1"),
        ("/maintenance", "Defragment m1"),
    ):
        keys.open(f"/c/local{path}")
        keys.to("link", name)
        live_on(page, 6_000)
        expect(page.get_by_role("link", name=name)).to_be_focused()
    keys.open("/c/local")
    keys.unfold("As a table")
    live_on(page, 11_000)
    expect(page.locator("main details[open] summary")).to_be_focused()
    keys.press("Tab")  # what has no id of its own, too
    values = page.locator("main details[open]").get_by_role("region")
    expect(values).to_be_focused()
    live_on(page, 11_000)
    expect(values).to_be_focused()


def live_on(page: Page, milliseconds: int) -> None:
    """What has the focus is swapped for its successor meanwhile."""
    page.evaluate("document.activeElement.dataset.before = 'yes'")
    page.clock.run_for(milliseconds)
    expect(page.locator("[data-before]")).to_have_count(0)


def test_a_learner_is_added_promoted_moved_and_removed(keys, page, three, base: Path) -> None:
    client_port, peer_port = free_ports(2)
    peer, url = f"http://127.0.0.1:{peer_port}", f"http://127.0.0.1:{client_port}"
    keys.open("/c/local")
    keys.go("e", "Members")
    keys.link("Add a member")
    keys.field("Name", "m4")
    keys.field("Peer addresses", peer)
    keys.button("Show the plan")
    keys.insist("Add as a learner")
    expect(page.locator("h1")).to_have_text("Start m4")
    flag = re.search(r"--initial-cluster=(\S+)", page.locator("pre").first.inner_text())
    assert flag
    line = [*command(KIND, "m4", base, url, peer, flag[1]), "--initial-cluster-state=existing"]
    fourth = Server("m4", url, peer, base, line)
    fourth.start()
    try:
        keys.link("Members")
        expect(page.get_by_role("link", name="Promote m4")).to_be_visible()
        keys.link("Promote m4")
        until_offered(page, "Promote m4")  # it has caught up
        keys.insist("Promote m4")
        expect(page.locator(".toasts")).to_contain_text("m4 votes now")
        keys.link("Change the addresses of m4")
        keys.field("Peer addresses", peer)
        keys.button("Change m4")
        expect(page.locator(".toasts")).to_contain_text("m4 is dialled at")
        for name in ("m4", "m0"):
            keys.link(f"Make {name} the leader")
            until_offered(page, f"Make {name} the leader")
            keys.confirm(f"Make {name} the leader")
            expect(page.locator(".toasts")).to_contain_text(f"{name} leads now")
            expect(page.locator("tr", has_text=name)).to_contain_text("leader")
        keys.link("Remove m4")
        keys.insist("Remove m4", reason="only an exercise")
        expect(page.locator(".toasts")).to_contain_text("m4 is no member any more")
    finally:
        fourth.stop()


def until_offered(page: Page, verb: str) -> None:
    """The page is looked at again until what it is about may be done."""
    button = page.get_by_role("button", name=verb)

    def is_offered() -> bool:
        page.reload()
        return button.is_enabled()

    wait_until(is_offered, SECONDS_MAX, f"{verb} is offered")


def test_the_assistant_is_followed(keys: Operator, page: Page) -> None:
    keys.open("/c/local/members")
    keys.link("Replace a member")
    keys.choose("Which one goes", "m2")
    keys.field("Name of the new member", "m5")
    keys.field("Its peer addresses", "http://127.0.0.1:1")
    keys.button("Show the steps")
    keys.link("Remove m2")
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    keys.submit()  # the safe way out, back to the assistant
    expect(page.locator('#steps [aria-current="step"]')).to_contain_text("Remove m2")


def test_defragmentation_of_one_of_all_and_an_abort(keys, page: Page, three) -> None:
    lead(three, three[0])  # who stands still is not who leads
    keys.open("/c/local")
    keys.go("m", "Maintenance")
    keys.link("Defragment m1")
    keys.confirm("Defragment m1")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    keys.link("Maintenance")
    keys.link("Defragment all members")
    keys.field("Skip members with less free", "100", role="spinbutton")
    keys.button("Defragment all members")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    expect(page.locator("#job-steps")).to_contain_text("skipped")
    os.kill(three[2].process.pid, signal.SIGSTOP)
    try:
        keys.open("/c/local/maintenance/defragment-all")
        keys.confirm("Defragment all members")
        # It waits before the first member until all of them answer.
        expect(page.locator("#job-steps")).to_contain_text("waits: m2 is unreachable")
        keys.button("Abort after this member")
        expect(page.locator("#job .sentence .chip")).to_have_text("aborted")
    finally:
        os.kill(three[2].process.pid, signal.SIGCONT)


def test_an_alarm_is_disarmed(keys: Operator, page: Page, store: Store) -> None:
    raised = rpc_pb2.AlarmRequest(action=1, memberID=77, alarm=rpc_pb2.NOSPACE)
    store.client.write(lambda s: s.maintenance.Alarm, raised, CALL_SECONDS_MAX)
    keys.open("/c/local")
    keys.go("m", "Maintenance")
    keys.link("Disarm NOSPACE on 4d")
    keys.confirm("Disarm NOSPACE")
    expect(page.locator(".toasts")).to_contain_text("Disarmed NOSPACE on 4d")


def test_lens_hashes_sizes_and_compaction(keys, page: Page, store: Store, three) -> None:
    for number in range(5):
        revision = store.put(b"/keyboard/key", b"%d" % number)
    wait_level(three)
    keys.open("/c/local/maintenance")
    keys.link("Consistency lens")
    expect(page.locator("h1")).to_have_text("Consistency lens")
    keys.press("/")
    keys.type("/keyboard/key")
    keys.submit()
    keys.at.look_until(".sentence", "all 3 members tell the same")
    keys.link("Compare hashes")
    keys.at.look_until(".sentence", "hold the same data")
    keys.link("Maintenance")
    keys.link("Why is it big")
    keys.button("Scan the keyspace")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    keys.link("What makes the database big")
    keys.link("Writes")
    expect(page.locator("#prefixes")).to_contain_text("/keyboard/")
    keys.go("m", "Maintenance")
    keys.link("Compact…")
    keys.field("Compact at revision", str(revision - 1))
    keys.submit()
    expect(page).to_have_url(re.compile(rf"revision={revision - 1}"))
    keys.confirm("Compact cluster")
    expect(page.locator(".toasts")).to_contain_text("Compacted at revision")


def test_snapshots_saved_downloaded_opened_and_scheduled(
    keys, page, store, three, tmp_path
) -> None:
    store.put(b"/keyboard/key", b"v")
    wait_level(three)
    keys.open("/c/local/maintenance")
    keys.link("Snapshots")
    keys.button("Save a snapshot now")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    keys.link("All snapshots")
    with page.expect_download() as started:
        keys.button("Download a snapshot", stays=True)
    started.value.save_as(tmp_path / "mine.db")
    assert backup_status(str(tmp_path / "mine.db")).total_keys
    keys.link("Look into the snapshot")
    keys.button("Open the snapshot")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    keys.link("Look into it")
    expect(page.locator("main")).to_contain_text("as of revision")
    keys.press("/")
    keys.type("/keyboard/")
    keys.submit()
    keys.link("/keyboard/key")
    keys.button("Restore this value")
    expect(page.locator(".toasts")).to_contain_text("Restored /keyboard/key")
    keys.open("/c/local/maintenance/snapshots")
    keys.tick("Save snapshots by itself")
    keys.field("Keep the newest", "3")
    keys.button("Save the schedule")
    expect(page.locator(".toasts")).to_contain_text("keep 3")
    keys.tick("Save snapshots by itself")
    keys.button("Save the schedule")
    expect(page.locator(".toasts")).to_contain_text("No schedule any more")


def test_a_backup_of_ones_own_is_opened_and_removed(keys, page, store, three, tmp_path) -> None:
    store.put(b"/keyboard/key", b"v")
    wait_level(three)
    backup = tmp_path / "mine.db"
    parts = store.client.stream(
        store.client.config.endpoints[0],
        lambda s: s.maintenance.Snapshot,
        rpc_pb2.SnapshotRequest(),
        CALL_SECONDS_MAX,
    )
    backup.write_bytes(b"".join(part.blob for part in parts))
    keys.open("/c/local/maintenance/snapshots")
    keys.reach(page.get_by_label("File"), "File")
    with page.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files(backup)
    keys.button("Open the backup")
    expect(page.locator("#job .sentence .chip")).to_have_text("done")
    keys.link("Look into it")
    expect(page.locator("#kept")).to_contain_text("/keyboard/key")
    keys.link("Remove…")
    keys.confirm("Remove backup")
    expect(page.locator(".toasts")).to_contain_text("Removed upload-")


def test_users_roles_and_authentication(keys: Operator, page: Page) -> None:
    keys.open("/c/local")
    for user in ("root", "amy"):
        create_user(keys, user)
    keys.go("s", "Users")
    keys.link("root", exact=True, within=page.locator(".matrix tbody"))
    keys.choose("Grant role", "root")
    keys.button("Grant role…")
    keys.button("Grant role")
    expect(page.locator(".toasts")).to_contain_text("Granted role root")
    keys.go("r", "Roles")
    keys.press("n")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    keys.type("app")
    keys.submit()
    keys.choose("Allows", "read and")
    keys.field("Key", "/app/", exact=True)
    expect(page.locator("#bounds")).to_contain_text("[/app/, /app0)")
    keys.submit()
    keys.button("Grant permission")
    expect(page.locator("table.log")).to_contain_text("read and write")
    keys.go("s", "Users")
    keys.link("Grant app to amy", stays=True)
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    keys.press("Shift+Tab", "Enter")
    expect(page.get_by_role("link", name="Revoke app from amy")).to_be_visible()
    keys.link("Revoke app from amy", stays=True)
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    keys.press("Escape")
    expect(dialog).to_be_hidden()
    keys.go("p", "Permissions")
    keys.type("amy")
    keys.choose("May", "put", exact=True)
    keys.field("Key", "/app/x", exact=True)
    keys.submit()
    expect(page.locator("#answer .sentence")).to_contain_text("yes")
    keys.link("Oddities")
    expect(page.locator("main")).to_contain_text("Authentication is off")
    keys.go("s", "Users")
    keys.link("amy", exact=True, within=page.locator(".matrix tbody"))
    keys.link("Set password")
    keys.labelled("Password", PASSWORD + "!", exact=True)
    keys.labelled("The same again", PASSWORD + "!")
    keys.button("Set password")
    expect(page.locator(".toasts")).to_contain_text("Set the password of amy")
    give_the_connection_a_user(keys)
    for verb in ("Enable", "Disable"):
        keys.open("/c/local/users")
        keys.link(f"{verb} authentication")
        keys.confirm(f"{verb} authentication", reason="by keyboard")
        expect(page).to_have_url(re.compile("/users(#main)?$"))
    for room, name, noun in (("s", "amy", "user"), ("r", "app", "role")):
        keys.go(room, f"{noun.capitalize()}s")
        keys.link(name, exact=True, within=page.locator("tbody th"))
        keys.link(f"Delete {noun}")
        keys.confirm(f"Delete {noun}")
        expect(page.locator(".toasts")).to_contain_text(f"Deleted {noun} {name}")


def create_user(keys: Operator, name: str) -> None:
    keys.go("s", "Users")
    keys.press("n")
    expect(keys.page.get_by_label("Name", exact=True)).to_be_focused()
    keys.type(name)
    keys.labelled("Password", PASSWORD, exact=True)
    keys.labelled("The same again", PASSWORD)
    keys.submit()
    expect(keys.page.locator(".toasts")).to_contain_text(f"Created user {name}")


def give_the_connection_a_user(keys: Operator) -> None:
    keys.open("/clusters/local")
    keys.unfold("Sign-in to etcd")
    keys.field("User", "root", exact=True)
    keys.labelled("Password", PASSWORD, exact=True)
    keys.submit()
    expect(keys.page).to_have_url(re.compile("/clusters(#main)?$"))
