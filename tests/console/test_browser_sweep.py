"""Every page of the URL configuration in a real browser: both themes, a phone's width, zero
violations of accessibility or policy, zero script errors (console.md §4, §7).

A route that needs nothing but its cluster is here by itself. One that is about an object has its
addresses in OBJECTS; a new one without fails, so that no page is left out.
"""

from __future__ import annotations

import json
import re

import pytest
from django.urls import NoReverseMatch, reverse
from playwright.sync_api import Browser, expect

from kvserver.proto import auth_pb2
from tests.console.browser import Visit, visit
from tests.console.conftest import Store
from tests.console.serving import Served
from tests.console.test_access_table import ROUTES, rule_of
from tests.console.test_browser import behind, served, signed_in  # noqa: F401
from tests.support.auth import Hands

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

SCRIPT = "/hostile/<script>document.title='owned'</script>"
BYTES = r"/hostile/%5Cxff%5Cxfe%5Cx80"
NUL = r"/hostile/nul%5Cx00key"
KEY = "?key=/app/config"
LEASED = "?key=/app/leased"

OBJECTS: dict[str, list[str]] = {
    "keys": [
        "/c/local/keys" + query
        for query in (
            *("", "?prefix=/hostile/", "?prefix=nothing", "?prefix=/app&sep=p"),
            *("?prefix=/app/&sep=none", "?prefix=/hostile/&rev={revision}&read=serializable"),
        )
    ],
    "key": [
        "/c/local/key" + query
        for query in (
            *(LEASED, KEY + "&rev=2", "?key=/hostile/empty", "?key=/hostile/megabyte"),
            *(f"?key={BYTES}", f"?key={NUL}", f"?key={SCRIPT}"),
        )
    ],
    "edit_key": ["/c/local/key/edit" + LEASED],
    "delete_key": ["/c/local/key/delete" + KEY],
    "rename_key": ["/c/local/key/rename" + KEY],
    "duplicate_key": ["/c/local/key/duplicate" + LEASED],
    "delete_range": ["/c/local/keys/delete?prefix=/app/"],
    "rewind": ["/c/local/keys/rewind?prefix=/app/" + more for more in ("", "&to={revision}")],
    "key_history": ["/c/local/key/history" + KEY, f"/c/local/key/history?key={SCRIPT}"],
    "restore_key": ["/c/local/key/restore" + KEY + "&rev={revision}"],
    "key_raw": ["/c/local/key/raw" + KEY],
    "key_access": ["/c/local/key/access" + KEY],
    "key_search": ["/c/local/keys/search" + more for more in ("", "?q=/app/", "?q=%3C&in=values")],
    "revision": ["/c/local/revision/{revision}"],
    "history": ["/c/local/history", "/c/local/history?show=deleted"],
    "watch": ["/c/local/watch", "/c/local/watch?prefix=/hostile/&prefix=/app/&rev=1"],
    "lease": ["/c/local/lease/{lease}"],
    "revoke_lease": ["/c/local/lease/{lease}/revoke"],
    "lens": ["/c/local/maintenance/lens" + KEY],
    "defragment": ["/c/local/maintenance/defragment?member={member}"],
    "disarm": ["/c/local/maintenance/disarm?kind=NOSPACE&member={member}"],
    "browse_snapshot": ["/c/local/maintenance/snapshots/browse?file={file}"],
    "remove_upload": ["/c/local/maintenance/snapshots/remove?file={upload}"],
    "snapshot_key": ["/c/local/maintenance/snapshots/key?file={file}&key=/app/config"],
    "start_member": ["/c/local/members/start?member={member}"],
    "promote_member": ["/c/local/members/promote?member={member}"],
    "update_member": ["/c/local/members/update?member={member}"],
    "remove_member": ["/c/local/members/remove?member={member}"],
    "move_leader": ["/c/local/members/move-leader?member={member}"],
    "job": ["/c/local/maintenance/jobs/{job}"],
    "job_live": ["/c/local/maintenance/jobs/{job}/live"],
    "key_job": ["/c/local/keys/jobs/{key_job}"],
    "key_job_live": ["/c/local/keys/jobs/{key_job}/live"],
    "etcd_user": ["/c/local/user?name=ada"],
    "delete_user": ["/c/local/user/delete?name=ada"],
    "user_password": ["/c/local/user/password?name=ada"],
    "user_role": ["/c/local/user/role?user=ada&role=readers"],
    "etcd_role": ["/c/local/role?name=readers"],
    "delete_role": ["/c/local/role/delete?name=readers"],
    "grant_permission": ["/c/local/role/grant?name=readers"],
    "revoke_permission": ["/c/local/role/revoke?name=readers&key=/app/&range_end=/app0"],
    "edit_cluster": ["/clusters/local"],
    "remove_cluster": ["/clusters/local/remove"],
    "account": ["/accounts/1"],
    "reset_password": ["/accounts/1/password"],
    "palette": ["/go", "/go?q=/hostile/"],
}
REFUSED = {
    "at_moment": 400,  # it leads on; without a page to lead to it says so
    "disarm": 400,  # the alarm is not raised: the page that says so is the one there is
}
GET_ROUTES = [name for name in ROUTES if "GET" in rule_of(name).methods]


def addresses(name: str) -> list[str]:
    if name in OBJECTS:
        return OBJECTS[name]
    for args in ([], ["local"]):
        try:
            return [reverse(name, args=args)]
        except NoReverseMatch:
            continue
    raise AssertionError(f"{name} is about an object: it needs an address in OBJECTS")


@pytest.fixture(scope="module")
def objects(chromium: Browser, served: Served, signed_in, behind: Store) -> dict[str, str]:  # noqa: F811
    """What the addresses name: made once, some of it by hand in the console."""
    hands = Hands(behind.client)
    hands.role("readers", (auth_pb2.Permission.READ, b"/app/", b"/app0"))
    hands.user("ada")
    found = {"revision": str(behind.get(b"/app/config").mod_revision)}
    found["lease"] = f"{behind.get(b'/app/leased').lease:x}"
    with visit(chromium, served.base, storage_state=signed_in) as one:
        one.open("/c/local/maintenance")
        one.page.get_by_role("link", name=re.compile("^Defragment (?!all)")).click()
        found["member"] = named(one, "member=")
        one.page.get_by_role("button", name=re.compile("^Defragment ")).click()
        expect(one.page.locator("#job .sentence")).to_contain_text("done")
        found["job"] = one.page.url.rpartition("/")[2]
        found["key_job"] = import_hostile(one)
        one.open("/c/local/maintenance/snapshots")
        one.page.get_by_role("button", name="Save a snapshot now").click()
        expect(one.page.locator("#job .sentence")).to_contain_text("done")
        one.open("/c/local/maintenance/snapshots")
        one.page.get_by_role("link", name="Look into the snapshot").first.click()
        found["file"] = named(one, "file=")
        one.page.get_by_role("button", name="Open the snapshot").click()
        expect(one.page.locator("#job .sentence")).to_contain_text("done")
        one.open("/c/local/maintenance/snapshots")
        saved = served.data_dir / "snapshots" / "local" / found["file"]
        one.page.get_by_label("File").set_input_files(saved)
        one.page.get_by_role("button", name="Open the backup").click()
        expect(one.page.locator("#job .sentence")).to_contain_text("done")
        one.page.get_by_role("link", name="Look into it").click()
        found["upload"] = named(one, "browse?file=")
    return found


def named(one: Visit, before: str) -> str:
    """What the address that a click leads to ends with."""
    expect(one.page).to_have_url(re.compile(re.escape(before)))
    return one.page.url.rpartition(before)[2]


def import_hostile(one: Visit) -> str:
    """An import of hostile keys from a file with such a name: the job whose page shows both."""
    entry = {"key": SCRIPT, "value_base64": "/w=="}
    file = {"name": SCRIPT.rpartition("/")[2], "mimeType": "", "buffer": json.dumps(entry).encode()}
    one.open("/c/local/keys/import")
    one.page.get_by_label("File", exact=True).set_input_files(file)
    one.page.get_by_role("button", name="Compare with the cluster").click()
    one.page.get_by_role("button", name="Import keys").click()
    expect(one.page.locator("h1")).to_have_text("Import: done")
    return one.page.url.rpartition("/")[2]


@pytest.mark.parametrize("name", GET_ROUTES)
def test_every_page_is_accessible_in_both_themes_and_fits_a_phone(
    name: str,
    chromium: Browser,
    served: Served,  # noqa: F811
    signed_in,  # noqa: F811
    objects: dict[str, str],
) -> None:
    state = None if name == "login" else signed_in
    with visit(chromium, served.base, storage_state=state, reduced_motion="reduce") as one:
        for address in addresses(name):
            path = address.format(**objects)
            answer = one.page.request.get(served.base + path)
            assert answer.status == REFUSED.get(name, 200), path
            if "<!doctype html" in answer.text()[:100]:  # no fragment, no download
                sweep(one, path, is_refused=name in REFUSED)


def sweep(one: Visit, path: str, *, is_refused: bool) -> None:
    one.page.emulate_media(color_scheme="light")
    one.page.set_viewport_size({"width": 1280, "height": 844})
    one.open(path)
    # What is folded away is judged too; menus of the frame would cover each other.
    one.page.evaluate("document.querySelectorAll('main details').forEach(d => { d.open = true })")
    for scheme, width in (("dark", 1280), ("light", 390)):
        one.page.emulate_media(color_scheme=scheme)
        one.page.set_viewport_size({"width": width, "height": 844})
        one.assert_accessible()
        one.assert_fits()
    assert [text for text in one.complaints if not (is_refused and "400" in text)] == [], path
    assert one.page.title() != "owned"
