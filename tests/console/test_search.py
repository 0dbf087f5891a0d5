"""Search as an honest scan: everything once, one revision, bounded steps."""

from __future__ import annotations

import html
import re

import pytest
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from console.gateway.records import Key, Part
from console.keys import search
from console.keys.byte_text import show
from console.keys.paging import FROM_NUL, KeyRange
from console.keys.search import Needle, scan
from tests.console.conftest import SLOW_MACHINE, Store
from tests.console.test_tree import calls as calls

ON_EVERY_SERVER = True
EVERYTHING = KeyRange(FROM_NUL, FROM_NUL)


def asked(pairs: dict[bytes, bytes]):
    def ask(keys: KeyRange, limit: int, revision: int) -> Part:
        inside = sorted(key for key in pairs if key in keys)
        found = tuple(Key(key, pairs[key], 1, 1, 1, 0) for key in inside[:limit])
        return Part(found, len(inside), 9, len(inside) > limit)

    return ask


def whole(pairs: dict[bytes, bytes], needle: Needle) -> list[bytes]:
    found: list[bytes] = []
    scanned, last, steps = 0, None, 0
    while True:
        step = scan(asked(pairs), EVERYTHING, needle, last_key=last, revision=9 if last else 0)
        assert scanned + step.left == len(pairs)
        scanned += step.scanned
        found += [match.key.key for match in step.matches]
        last, steps = step.last_key, steps + 1
        if last is None:
            assert scanned == len(pairs)
            return found


PAIRS = st.dictionaries(
    st.binary(min_size=1, max_size=4).map(lambda b: bytes(b"aAb\xff"[c % 4] for c in b)),
    st.binary(max_size=3),
    max_size=40,
)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW_MACHINE)
@given(PAIRS, st.binary(min_size=1, max_size=2), st.booleans(), st.booleans())
def test_a_scan_finds_what_is_there_and_nothing_twice(pairs, data, case, values) -> None:
    needle = Needle(data, case, values)

    def holds(text: bytes) -> bool:
        return data.lower() in text.lower() if case else data in text

    expected = [key for key in sorted(pairs) if holds(pairs[key] if values else key)]
    assert whole(pairs, needle) == expected


def test_steps_are_bounded_by_calls_matches_bytes_and_time(monkeypatch) -> None:
    pairs = {b"%06d" % n: b"x" * 1000 for n in range(30_000)}
    step = scan(asked(pairs), EVERYTHING, Needle(b"nothing"))
    assert (step.scanned, step.calls) == (20_000, search.CALLS_A_STEP)
    few = {key: pairs[key] for key in list(pairs)[:5000]}
    assert len(scan(asked(few), EVERYTHING, Needle(b"0")).matches) == search.MATCHES_A_STEP
    assert scan(asked(few), EVERYTHING, Needle(b"nope"), is_spent=lambda: True).calls == 1
    monkeypatch.setattr(search, "BYTES_A_STEP", 150_000)
    assert scan(asked(few), EVERYTHING, Needle(b"nope", in_values=True)).scanned == 200
    assert whole(few, Needle(b"0")) == sorted(few)  # the bound on matches loses none


def test_an_excerpt_stands_around_the_hit() -> None:
    value = b"a" * 100 + b"NEEDLE" + b"b" * 100
    found = Needle(b"needle", ignores_case=True, in_values=True).find(Key(b"k", value, 1, 1, 1, 0))
    assert found is not None
    assert (found.hit, len(found.before), len(found.behind)) == (b"NEEDLE", 48, 48)
    assert found.is_cut_before
    assert found.is_cut_behind


# --- served ---------------------------------------------------------------------------------------


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


@pytest.fixture
def small_steps(monkeypatch) -> None:
    monkeypatch.setattr(search, "KEYS_A_CALL", 5)
    monkeypatch.setattr(search, "CALLS_A_STEP", 2)
    monkeypatch.setattr(search, "VALUES_A_CALL", 5)
    monkeypatch.setattr(search, "VALUE_CALLS_A_STEP", 2)


@pytest.mark.parametrize("where", ["", "values"])
def test_trap_6_a_search_says_what_it_scanned_and_goes_on_at_the_same_revision(
    as_viewer, store: Store, prefix, calls, small_steps, where
) -> None:
    for number in range(25):
        mark = b"needle-" if number in {3, 12, 24} else b""
        name, value = (b"", mark) if where else (mark, b"")
        store.put(prefix + name + b"%02d" % number, value + b"v")
    pinned = store.revision()
    url = reverse("key_search", args=["one"]) + f"?prefix={show(prefix)}&q=needle&in={where}"
    said, found = [], []
    while url:
        calls.clear()
        page = as_viewer.get(url).text
        assert len(calls) <= 2
        said.append(re.search(r"scanned (\d+) of (\d+)", plain(page)).groups())
        found += re.findall(r'<th scope="row"><a class="mono" href="([^"]*)"', page)
        assert f"at revision {pinned}" in plain(page)
        store.put(prefix + b"00-late-needle", b"needle")  # another revision's business
        link = re.search(r'href="([^"]*)" rel="next"', page)
        url = html.unescape(link[1]) if link else ""
    assert said == [("10", "25"), ("20", "25"), ("25", "25")]
    assert len(found) == 3
    assert "3 matches" in plain(page)
    assert "complete" in plain(page)


def test_hostile_text_is_looked_for_and_shown_as_text(as_viewer, store, prefix) -> None:
    store.put(prefix + b"<script>\xff", b"v")
    url = reverse("key_search", args=["one"])
    page = as_viewer.get(url, {"prefix": show(prefix), "q": "<script>\\xff"}).text
    assert "1 match" in plain(page)
    assert "<script>\\xff" not in page
    assert "Nothing matches" in as_viewer.get(url, {"prefix": show(prefix), "q": "zzz"}).text
    assert as_viewer.get(url, {"q": "\\"}).status_code == 400
    assert "there is no index" in as_viewer.get(url).text


def test_a_search_of_the_past_looks_there(as_viewer, store, prefix) -> None:
    old = store.put(prefix + b"needle-a", b"v")
    store.delete(prefix + b"needle-a")
    store.put(prefix + b"needle-b", b"v")
    url = reverse("key_search", args=["one"])
    page = as_viewer.get(url, {"prefix": show(prefix), "q": "needle", "rev": old}).text
    assert "needle</mark>-a" in page
    assert "needle</mark>-b" not in page
    assert f"as of revision {old}" in plain(page)


def test_a_search_whose_revision_was_compacted_says_so(as_viewer, store, prefix) -> None:
    old = store.put(prefix, b"v")
    store.put(prefix, b"w")
    store.compact(store.revision())
    url = reverse("key_search", args=["one"])
    answer = as_viewer.get(url, {"prefix": show(prefix), "q": "x", "pin": old, "after": "a"})
    assert answer.status_code == 410
