"""Users, roles and authentication in a real browser, on three members of Keydeck and of etcd 3.5:
what is clicked together there holds for who really signs in, at every member."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.errors import Code
from kvserver.proto import rpc_pb2
from tests.console.browser import Visit, visit
from tests.console.conftest import CALL_SECONDS_MAX, Store
from tests.console.serving import Served, in_front_of
from tests.console.test_browser import signed_in  # noqa: F401
from tests.support.auth import Hands
from tests.support.servers import KEYDECK, Server, newest_kinds, running

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

PASSWORD = "a password, typed"


@pytest.fixture(scope="module", params=newest_kinds())
def three(request, tmp_path_factory) -> Iterator[list[Server]]:
    directory = tmp_path_factory.mktemp("access")
    with running(request.param, directory, size=3, flags=["--bcrypt-cost=4"]) as servers:
        yield servers


@pytest.fixture(scope="module")
def served(three: list[Server], tmp_path_factory) -> Iterator[Served]:
    with in_front_of(three, tmp_path_factory.mktemp("console")) as one:
        yield one


def client(three: list[Server], user: str | None = None, password: str = PASSWORD) -> Client:
    endpoints = tuple(server.endpoint for server in three)
    return Client(ClientConfig(endpoints, user=user, password=password if user else None))


@pytest.fixture(scope="module")
def behind(three: list[Server]) -> Iterator[Store]:
    one = client(three)
    store = Store(one)
    for key in (b"/app/config", b"/apple", b"/pub/a"):
        store.put(key, b"v")
    yield store
    one.close()


@pytest.fixture
def hands(behind: Store) -> Hands:
    """No users, no roles, nobody is asked."""
    one = Hands(behind.client)
    one.clear()
    return one


def puts(three: list[Server], user: str, key: bytes) -> bool:
    """Whether the servers let this user put the key, signed in for real at each of them."""
    [said] = {puts_at(server, user, key) for server in three}
    return said


def puts_at(server: Server, user: str, key: bytes) -> bool:
    one = client([server], user)
    try:
        one.write(lambda s: s.kv.Put, rpc_pb2.PutRequest(key=key), CALL_SECONDS_MAX)
    except CallFailed as error:
        assert error.code is Code.PERMISSION_DENIED
        return False
    finally:
        one.close()
    return True


def rail(page: Page, words: str) -> None:
    page.locator("nav.rail").get_by_role("link", name=words, exact=True).click()


def create_user(page: Page, name: str) -> None:
    rail(page, "Users")
    page.get_by_role("link", name="Create user").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Create user").click()
    expect(page.get_by_role("status")).to_contain_text(f"Created user {name}")


def assert_whole(one: Visit) -> None:
    """Themes differ in colours only, a phone in widths only."""
    one.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    one.assert_accessible()
    one.assert_fits()
    one.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    one.assert_accessible("color-contrast")
    one.page.set_viewport_size({"width": 390, "height": 844})
    one.assert_fits()
    one.page.set_viewport_size({"width": 1280, "height": 844})


def test_by_mouse_a_role_is_made_tested_enforced_and_switched_off_again(
    at: Visit,
    hands: Hands,
    three: list[Server],
) -> None:
    page = at.page
    at.open("/c/local/users")
    expect(page.locator("main")).to_contain_text("Nothing here yet")
    page.get_by_role("link", name="Create the user root").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("root")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Create user").click()
    page.get_by_label("Grant role").select_option("root")
    page.get_by_role("button", name="Grant role…").click()
    expect(page.locator("main")).to_contain_text("root may do everything")
    page.get_by_role("button", name="Grant role").click()
    expect(page.locator(".toasts")).to_contain_text("Granted role root")

    rail(page, "Roles")
    page.get_by_role("link", name="Create role").click()
    page.get_by_label("Name", exact=True).fill("app")
    page.get_by_role("button", name="Create role").click()
    page.get_by_label("Allows").select_option("readwrite")
    page.get_by_label("Key", exact=True).press_sequentially("/app")
    expect(page.locator("#bounds")).to_contain_text("[/app, /apq)")
    page.get_by_label("Key", exact=True).press_sequentially("/")
    expect(page.locator("#bounds")).to_contain_text("[/app/, /app0)")
    page.get_by_role("button", name="Preview permission").click()
    expect(page.locator("main")).to_contain_text("1 key of existing cluster now")
    page.get_by_role("button", name="Grant permission").click()
    expect(page.locator("table.log")).to_contain_text("[/app/, /app0)")

    create_user(page, "amy")
    rail(page, "Users")
    page.get_by_role("link", name="Grant app to amy").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("read and write [/app/, /app0)")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    at.assert_accessible()
    dialog.get_by_role("button", name="Grant role").click()
    expect(page.get_by_role("link", name="Revoke app from amy")).to_be_visible()

    rail(page, "Permissions")
    for key, verdict in (("/app/x", "yes"), ("/apple", "no")):
        page.get_by_label("User").fill("amy")
        page.get_by_label("May", exact=True).select_option("put")
        page.get_by_label("Range").select_option("key")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Test permission").click()
        expect(page.locator("#answer .sentence")).to_contain_text(verdict)
    expect(page.locator("#answer")).to_contain_text("the nearest interval that is missing")

    enable_by_mouse(at)
    assert (puts(three, "amy", b"/app/x"), puts(three, "amy", b"/apple")) == (True, False)
    rail(page, "Keys")  # as root, with what it stores
    expect(page.locator("main")).to_contain_text("keys")
    rail(page, "Users")
    page.get_by_role("link", name="Disable authentication…").click()
    expect(page.get_by_role("link", name="Cancel")).to_be_focused()
    page.get_by_label("Reason").fill("the exercise is over")
    page.get_by_role("button", name="Disable authentication").click()
    expect(page.locator("main")).to_contain_text("Authentication is off.")


def fill_credentials(page: Page) -> None:
    """On the connection's form, whose sign-in is folded away until it has one."""
    expect(page.get_by_label("Endpoints")).to_be_visible()
    if not page.get_by_label("User", exact=True).is_visible():
        page.get_by_text("Sign-in to etcd").press("Enter")
    page.get_by_label("User", exact=True).fill("root")
    page.get_by_label("Password", exact=True).fill(PASSWORD)


def enable_by_mouse(at: Visit) -> None:
    page = at.page
    rail(page, "Users")
    page.get_by_role("link", name="Enable authentication…").click()
    if page.get_by_role("button", name="Enable authentication").is_disabled():
        page.get_by_role("link", name="Change the connection").click()
        fill_credentials(page)
        page.get_by_role("button", name="Save connection").click()
        expect(page).to_have_url(re.compile("/clusters$"))
        at.open("/c/local/users")
        page.get_by_role("link", name="Enable authentication…").click()
    expect(page.locator(".checks .met")).to_have_count(5)
    page.get_by_label("Reason").fill("only who is known")
    page.get_by_role("button", name="Enable authentication").click()
    expect(page.locator("main .head")).to_contain_text("authentication on")


def test_signing_in_to_etcd_as_oneself(
    chromium: Browser,
    hands: Hands,
    served: Served,
    three: list[Server],
    signed_in,  # noqa: F811
) -> None:
    hands.role("reader", (0, b"/pub/", b"/pub0"))
    hands.user("rita", "reader", password=PASSWORD)
    hands.user("root", "root", password=PASSWORD)
    enabled = rpc_pb2.AuthEnableRequest()
    hands.client.write(lambda s: s.auth.AuthEnable, enabled, CALL_SECONDS_MAX)
    try:
        with visit(chromium, served.base, storage_state=signed_in) as one:
            as_rita(one, three)
            one.forgive("status of 40[13] ")
            one.assert_quiet()
    finally:
        root = client(three, "root")
        disabled = rpc_pb2.AuthDisableRequest()
        root.write(lambda s: s.auth.AuthDisable, disabled, CALL_SECONDS_MAX)
        root.close()


def as_rita(one: Visit, three: list[Server]) -> None:
    page = one.page
    one.open("/clusters/new")
    page.get_by_label("Name", exact=True).fill("ours")
    page.get_by_label("Endpoints").fill(" ".join(server.client_url for server in three))
    page.get_by_text("Sign-in to etcd").click()
    page.get_by_label("Sign in as yourself").check()
    page.get_by_role("button", name="Add connection").click()
    expect(page.locator("h1")).to_have_text("Sign in to ours as yourself")
    assert_whole(one)
    page.get_by_label("etcd user").fill("rita")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in to etcd").click()
    expect(page.get_by_role("alert")).to_contain_text("invalid user ID or password")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/c/ours$"))
    expect(page.locator("[data-live='on']")).to_be_visible()  # the socket comes as rita too
    rail(page, "Keys")
    page.get_by_role("link", name="/pub/", exact=True).click()
    expect(page.locator("main")).to_contain_text("/pub/")
    rail(page, "Users")
    expect(page.get_by_role("alert")).to_contain_text("comes as rita")
    page.get_by_role("link", name="See what rita may do").click()
    expect(page.locator(".reach")).to_contain_text("[/pub/, /pub0)")
    one.assert_accessible()
    page.get_by_role("button", name="Sign out of ours").click()
    expect(page.locator("h1")).to_have_text("Sign in to ours as yourself")
    one.open("/c/ours/keys")
    expect(page.locator("h1")).to_have_text("Sign in to ours as yourself")


PAGES = [
    "/users",
    "/users/new",
    "/user?name=amy",
    "/user/role?user=amy&role=audit",
    "/user/password?name=amy",
    "/roles",
    "/role?name=app",
    "/role/grant?name=app&kind=readwrite&shape=prefix&key=/orders",
    "/role/grant?name=app&kind=readwrite&shape=range&key=b&end=a",
    "/role/delete?name=app",
    "/permissions?user=amy&verb=put&shape=prefix&key=/app/&prev=on",
    "/permissions/txn?user=amy&txn=compare+/app/x%0Adel+/zzz",
    "/permissions/who?shape=prefix&key=/app/",
    "/permissions/findings",
    "/access",
    "/key/access?key=/app/config",
    "/auth/enable",
]


def test_every_page_is_accessible_in_both_themes_and_fits_a_phone(
    at: Visit,
    hands: Hands,
    request,
) -> None:
    if request.node.callspec.params["three"] != KEYDECK:
        pytest.skip("what a page looks like does not hang on the server")
    grants = ((2, b"/app/", b"/app0"), (0, b"/app/config", b""), (0, b"/shared", b"/sharee"))
    hands.role("app", *grants, (1, b"\xff\x00", b"\xff" * 40))
    hands.role("audit", (0, b"\x00", b"\x00"))
    hands.role("root")
    hands.role("a-role-of-a-very-long-name-that-somebody-made-by-a-script-" * 3)
    hands.user("root", "root")
    hands.user("amy", "app")
    hands.user("<script>document.title='owned'</script>" + "long-name-" * 12, "audit", "app")
    for path in PAGES:
        at.open("/c/local" + path)
        assert_whole(at)
        assert at.page.title() != "owned"
