"""The tree of folders: the arithmetic against a plain model, calls counted, pages served."""

from __future__ import annotations

import html
import re

import pytest
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from console.gateway import Reader
from console.gateway.records import Key, Part
from console.keys.byte_text import show
from console.keys.paging import KeyRange
from console.keys.tree import (
    NODES_MAX,
    Branch,
    base_of,
    folder_of,
    folders_of,
    read_branch,
)
from tests.console.conftest import SLOW_MACHINE, Store

ON_EVERY_SERVER = True


class Model:
    """Keys in a list, read as a server reads them (spec/kv.md R3, R4, R9); every call counted."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = sorted(set(keys))
        self.calls = 0

    def __call__(self, keys: KeyRange, limit: int, revision: int) -> Part:
        self.calls += 1
        assert self.calls == 1 or revision == 7  # one revision after the first answer
        inside = [key for key in self.keys if key in keys]
        found = tuple(Key(key, None, 1, 1, 1, 0) for key in inside[:limit])
        return Part(found, len(inside), 7, len(inside) > limit)


def expected(keys: list[bytes], prefix: bytes, separator: bytes) -> list[tuple[bytes, int | None]]:
    """The rows of a level, the slow way: (path, keys in it or None for a key)."""
    rows: dict[bytes, int | None] = {}
    for key in sorted(set(keys)):
        if not key.startswith(prefix):
            continue
        folder = folder_of(key, prefix, separator)
        if folder is None:
            rows[key] = None
        else:
            rows[folder] = (rows.get(folder) or 0) + 1
    return list(rows.items())


def all_pages(model: Model, prefix: bytes, separator: bytes) -> list[Branch]:
    pages, start = [], None
    while True:
        model.calls = 0
        page = read_branch(model, prefix, separator, start=start, revision=7 if start else 0)
        assert model.calls == page.calls <= 51
        assert len(page.nodes) <= NODES_MAX
        pages.append(page)
        start = page.rest
        if start is None:
            return pages


def rows_of(pages: list[Branch]) -> list[tuple[bytes, int | None]]:
    return [(n.path, n.count if n.is_folder else None) for page in pages for n in page.nodes]


KEYS = st.lists(
    st.binary(min_size=1, max_size=6).map(lambda b: bytes(b"/a\xffb"[c % 4] for c in b))
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(
    KEYS, st.sampled_from([b"", b"/", b"a", b"/a/", b"\xff"]), st.sampled_from([b"/", b"a", b"//"])
)
def test_a_level_is_what_the_keys_say(keys, prefix, separator) -> None:
    model = Model(keys)
    pages = all_pages(model, prefix, separator)
    assert rows_of(pages) == expected(keys, prefix, separator)
    assert pages[0].total == sum(1 for key in model.keys if key.startswith(prefix))


def test_a_level_of_huge_folders_takes_one_range_a_folder() -> None:
    keys = [b"/f%02d/%04d" % (f, n) for f in range(30) for n in range(500)]
    model = Model(keys)
    page = read_branch(model, b"", b"/")
    assert [(n.path, n.count) for n in page.nodes] == [(b"/f%02d/" % f, 500) for f in range(30)]
    assert model.calls <= 31


@pytest.mark.parametrize(
    "keys",
    [
        [b"/%05d/x/%d" % (f, n) for f in range(300) for n in range(9)],
        [b"/%05d" % n for n in range(5000)],
        [b"/%05d/x" % n for n in range(3000)],
        [b"flat-%05d" % n for n in range(3000)],
    ],
    ids=["folders", "keys", "folders of one", "no separator"],
)
def test_pages_of_a_long_level_are_bounded_and_whole(keys: list[bytes]) -> None:
    pages = all_pages(Model(keys), b"", b"/")
    rows = rows_of(pages)
    assert rows == expected(keys, b"", b"/")


def test_a_level_that_takes_too_long_ends_early_and_goes_on_later() -> None:
    model = Model([b"/f%02d/%d" % (f, n) for f in range(20) for n in range(50)])
    page = read_branch(model, b"", b"/", is_spent=lambda: model.calls >= 3)
    assert page.calls == 3
    assert page.rest is not None
    assert page.nodes[-1].count is None  # not known, not guessed
    again = read_branch(model, b"", b"/", start=page.rest, revision=page.revision)
    assert [n.path for n in (*page.nodes, *again.nodes)] == [b"/f%02d/" % f for f in range(20)]


def test_a_folder_that_is_also_a_key_is_both() -> None:
    page = read_branch(Model([b"/a", b"/a/", b"/a/x", b"/a//y"]), b"", b"/")
    assert [(n.path, n.is_folder, n.count) for n in page.nodes] == [
        (b"/a", False, None),
        (b"/a/", True, 3),
    ]
    assert page.nodes[1].key is not None
    inside = read_branch(Model([b"/a/", b"/a/x", b"/a//y"]), b"/a/", b"/")
    assert [(n.path, n.name) for n in inside.nodes] == [
        (b"/a/", b""),
        (b"/a//", b"/"),
        (b"/a/x", b"x"),
    ]


def test_folders_of_a_path() -> None:
    assert folders_of(b"/app/pay/cfg", b"/") == [b"/app/", b"/app/pay/"]
    assert folders_of(b"/app/pay/", b"/") == [b"/app/", b"/app/pay/"]
    assert folders_of(b"a::b::c", b"::") == [b"a::", b"a::b::"]
    assert folders_of(b"/a//b", b"/") == [b"/a/", b"/a//"]
    assert folders_of(b"/", b"/") == folders_of(b"x", b"/") == folders_of(b"/a/b", b"") == []
    assert base_of(b"/app/pa", b"/") == b"/app/"


# --- served ---------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch) -> list[object]:
    """Every range the console asks for."""
    seen: list[object] = []
    real = Reader._range

    def counting(self, request):
        seen.append(request)
        return real(self, request)

    monkeypatch.setattr(Reader, "_range", counting)
    return seen


def rows_on(text: str) -> list[str]:
    return [
        html.unescape(re.sub(r"<[^>]*>", " ", row)).split()[0]
        for row in re.findall(r'<a role="treeitem"[^>]*class="mono[^>]*>(.*?)</a>', text, re.S)
    ]


def opened(browser, **params: object) -> str:
    answer = browser.get(reverse("keys", args=["one"]), params)
    assert answer.status_code == 200
    return answer.text


def test_a_folder_opens_by_its_address_with_the_folders_around_it(as_viewer, store, prefix) -> None:
    for name in (b"a/deep/x", b"a/deep/y", b"a/other", b"b"):
        store.put(prefix + name, b"v")
    stem = show(prefix)
    text = opened(as_viewer, prefix=stem + "a/")
    [test, mine] = folders_of(prefix, b"/")
    assert rows_on(text) == [show(test), show(mine[len(test) :]), "a/", "deep/", "other"]
    assert 'aria-expanded="true"' in text
    deep = re.search(r'href="([^"]*)" hx-get="[^"]*" aria-level="4" aria-expanded="false"', text)
    assert deep and deep[1].endswith(stem + "a/deep/")
    assert "deep/</span><span" in text.replace("\n", "")


@pytest.mark.parametrize("width", [20, 400], ids=["few", "many"])
def test_every_page_of_the_tree_is_a_bounded_number_of_calls(
    as_viewer, store, prefix, calls, width
) -> None:
    for number in range(width):
        for leaf in (b"x", b"y"):
            store.put(prefix + b"%04d/" % number + leaf, b"v")
    seen: list[str] = []
    url = reverse("keys", args=["one"]) + f"?prefix={show(prefix)}"
    while url:
        calls.clear()
        text = as_viewer.get(url).text
        assert len(calls) <= 64  # the listing, 51 for a level, 12 for the folders around
        assert all(call.limit or call.count_only for call in calls)
        seen += rows_on(text)[2:]  # behind the two folders around
        more = re.search(r'class="others" href="([^"]*)"[^>]*data-more', text)
        url = html.unescape(more[1]) if more else ""
    assert seen == [f"{number:04d}/" for number in range(width)]


def test_a_deep_path_is_bounded_too(as_viewer, store, prefix, calls) -> None:
    deep = prefix + b"d/" * 60
    store.put(deep + b"x", b"v")
    calls.clear()
    text = opened(as_viewer, prefix=show(deep))
    assert len(calls) <= 64
    assert "50 folders above" in text


def test_trap_5_no_marker_keys_and_every_key_has_a_row(as_viewer, store: Store, prefix) -> None:
    """Whatever the bytes: folders are only a view, and looking writes nothing."""
    names = [b"a\xff/b", b"a\xff/\x00", b"//", b"/", b"x:y", b"<script>/x", b"\xff"]
    for name in names:
        store.put(prefix + name, b"v")
    before = store.raft_index()
    stem = show(prefix)
    for separator in ("/", ":", ".", "none", "\\xff"):
        text = opened(as_viewer, prefix=stem, sep=separator)
        assert "<script>/x" not in text
    text = opened(as_viewer, prefix=stem)
    assert rows_on(text)[2:] == ["/", "<script>/", "a\\xff/", "x:y", "\\xff"]
    assert rows_on(opened(as_viewer, prefix=stem + "a\\xff/"))[3:] == ["\\x00", "b"]
    by_ff = [b"/", b"//", b"<script>/x", b"a\xff", b"x:y", b"\xff"]
    found = rows_on(opened(as_viewer, prefix=stem, sep="\\xff"))
    assert found == [show(prefix + name) for name in by_ff]
    assert store.raft_index() == before


def test_no_separator_is_a_flat_list(as_viewer, store, prefix, calls) -> None:
    store.put(prefix + b"a/b/c", b"v")
    calls.clear()
    text = opened(as_viewer, prefix=show(prefix), sep="none")
    assert 'role="tree"' not in text
    assert len(calls) == 1
    assert "sep=none" in text  # kept on what is clicked next


def test_a_megabyte_value_costs_the_tree_nothing(as_viewer, store, prefix, calls) -> None:
    store.put(prefix + b"big/v", b"x" * 1_000_000)
    calls.clear()
    opened(as_viewer, prefix=show(prefix))
    tree_calls = calls[1:]
    assert tree_calls
    assert all(call.keys_only or call.count_only for call in tree_calls)


def test_the_tree_and_the_list_show_one_revision(as_viewer, store, prefix, calls) -> None:
    store.put(prefix + b"a/x", b"v")
    calls.clear()
    opened(as_viewer, prefix=show(prefix))
    assert {call.revision for call in calls[1:]} == {store.revision()}


def test_a_branch_comes_as_a_fragment_and_as_a_page_without_scripts(
    as_viewer, store, prefix
) -> None:
    store.put(prefix + b"a/x", b"v")
    params = {"prefix": show(prefix) + "a/", "level": 4}
    url = reverse("key_tree", args=["one"])
    fragment = as_viewer.get(url, params, headers={"HX-Request": "true"}).text
    assert rows_on(fragment) == ["x"]
    assert "<html" not in fragment
    assert 'aria-level="4"' in fragment
    answer = as_viewer.get(url, params)
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("keys", args=["one"]) + "?prefix=")


@pytest.mark.parametrize("params", [{"prefix": "\\"}, {"pin": "x"}, {"sep": "\\q"}, {"key": "\\"}])
def test_a_branch_of_nothing_sensible_is_refused(as_viewer, params) -> None:
    url = reverse("key_tree", args=["one"])
    assert as_viewer.get(url, params, headers={"HX-Request": "true"}).status_code == 400


def test_a_key_page_has_its_tree_a_click_or_a_request_away(as_viewer, store, prefix) -> None:
    store.put(prefix + b"a/x", b"v")
    text = as_viewer.get(reverse("key", args=["one"]), {"key": show(prefix + b"a/x")}).text
    url = html.unescape(re.search(r'hx-get="([^"]*/keys/tree[^"]*)" hx-trigger="load"', text)[1])
    tree = as_viewer.get(url, headers={"HX-Request": "true"}).text
    assert rows_on(tree)[-1] == "x"
    assert re.search(r'href="[^"]*a/x"[^>]*aria-current="true"', tree)
    assert f'Open the folder <span class="mono">{show(prefix)}a/' in text


# --- as of a revision, and who answers ------------------------------------------------------------


def test_the_lens_is_kept_on_every_link(as_viewer, store, prefix) -> None:
    old = store.put(prefix + b"a:x", b"v")
    store.put(prefix + b"a:y", b"v")
    text = opened(as_viewer, prefix=show(prefix), sep=":", rev=old, read="serializable")
    links = re.findall(r'href="([^"]*\?(?:key|prefix)=[^"]*)"', text)
    assert len(links) > 3
    for link in map(html.unescape, links):
        assert "sep=:" in link or "/export?" in link, link  # a file has no folders
        assert "read=serializable" in link, link
    assert f"rev={old}" in text
    assert "a:y" not in text


def test_every_range_is_read_as_the_lens_says(as_viewer, store, prefix, calls) -> None:
    old = store.put(prefix + b"a/x", b"v")
    for view, params in (
        ("keys", {"prefix": show(prefix)}),
        ("key", {"key": show(prefix + b"a/x")}),
        ("key_raw", {"key": show(prefix + b"a/x")}),
        ("key_tree", {"prefix": show(prefix)}),
    ):
        for read, wanted in (("serializable", True), ("", False)):
            calls.clear()
            url = reverse(view, args=["one"])
            header = {"HX-Request": "true"} if view == "key_tree" else {}
            answer = as_viewer.get(url, {**params, "rev": old, "read": read}, headers=header)
            assert answer.status_code == 200
            assert calls
            assert all(call.serializable is wanted for call in calls), view
            assert all(call.revision == old for call in calls), view
            if view in {"keys", "key"}:
                assert ("serializable</span>" in answer.text) is wanted


def test_the_past_is_not_edited(as_editor, store, prefix) -> None:
    old = store.put(prefix + b"x", b"one")
    store.put(prefix + b"x", b"two")
    text = as_editor.get(reverse("keys", args=["one"]), {"prefix": show(prefix), "rev": old}).text
    assert "You are looking at the past" in text
    assert reverse("new_key", args=["one"]) not in text
    page = as_editor.get(
        reverse("key", args=["one"]), {"key": show(prefix + b"x"), "rev": old}
    ).text
    assert reverse("edit_key", args=["one"]) not in page
    assert reverse("delete_key", args=["one"]) not in page
    assert reverse("restore_key", args=["one"]) in page
