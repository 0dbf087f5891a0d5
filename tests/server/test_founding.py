"""How a cluster comes to be, and what is refused (spec/cluster.md §2, cases 2, 4 and 5)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvserver import errors
from kvserver.bootstrap import Founding
from kvserver.errors import FatalError
from kvserver.membership import Member, cluster_id
from kvserver.peers.joining import (
    Joined,
    fetch_members,
    find_place,
    join,
    refuse_if_bootstrapped,
)
from tests.support.in_process import running

URLS = {f"m{port}": (f"http://127.0.0.1:{port}",) for port in (12380, 22380, 32380)}


def test_every_member_founds_the_same_cluster() -> None:
    """The vectors of §1, whatever the order of the flags."""
    wanted = [0x628170C800DBCEE, 0x9E737FEBB6B99EEE, 0xDDD67B312462FD7B]
    for name in URLS:
        cluster = dict(sorted(URLS.items(), reverse=name == "m22380"))
        members = Founding(name, URLS[name], "etcd-cluster", cluster).members()
        assert [member.id for member in members] == wanted
        assert cluster_id(wanted) == 0x73841B4A9097C907


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"name": "x", "initial_cluster": "y=http://127.0.0.1:1"}, "couldn't find local name"),
        (
            {"name": "y", "initial_cluster": "y=http://127.0.0.1:1,z=http://127.0.0.1:1"},
            "has duplicate url",
        ),
        (
            {"name": "y", "initial_cluster": "y=http://127.0.0.1:1,z=http://127.0.0.1:2"},
            "missing from --initial-advertise-peer-urls",
        ),
    ],
)
async def test_flags_that_contradict_each_other(
    tmp_path: Path, flags: dict[str, object], text: str
) -> None:
    advertised = ("http://127.0.0.1:3",)
    with pytest.raises(FatalError, match=text):
        async with running(tmp_path, initial_advertise_peer_urls=advertised, **flags):
            pytest.fail("it started")


MEMBERS = (
    Member(1, ("http://a:1",), "a"),
    Member(2, ("http://b:1", "http://b:2")),
)


def test_a_joiner_finds_itself_by_its_urls() -> None:
    cluster = {"a": ("http://a:1",), "b": ("http://b:2", "http://b:1")}
    assert find_place("b", cluster, 9, MEMBERS) == Joined(2, 9, MEMBERS)


@pytest.mark.parametrize(
    ("cluster", "text"),
    [
        ({"b": ("http://b:1",)}, "member count is unequal"),
        (
            {"a": ("http://a:1",), "b": ("http://b:3",)},
            r"PeerURLs: no match found for existing member \(2, \[http://b:1 http://b:2\]",
        ),
    ],
)
def test_a_joiner_with_another_list(cluster: dict[str, tuple[str, ...]], text: str) -> None:
    """Case 4."""
    with pytest.raises(FatalError, match=f"error validating peerURLs .*{text}"):
        find_place("b", cluster, 9, MEMBERS)


async def test_a_member_that_lost_its_data_does_not_come_back_as_new(tmp_path: Path) -> None:
    """§2.1: it is in the membership of whoever answers, with client URLs."""
    async with running(tmp_path) as member:
        url = "http://" + member.log.find("serving peer traffic")[0]["address"]
        found = await asyncio.to_thread(fetch_members, url, 60.0, None)
        assert found is not None
        _, (known,) = found
        assert known.name == "default"
        with pytest.raises(FatalError, match=f"member {known.id:x} has already been bootstrapped"):
            await asyncio.to_thread(refuse_if_bootstrapped, known.id, [url], None)
        await asyncio.to_thread(refuse_if_bootstrapped, 4711, [url], None)
        with pytest.raises(FatalError, match="member count is unequal"):
            listed = {"default": (url,), "other": ("http://127.0.0.1:1",)}
            await asyncio.to_thread(join, "other", listed, None)
    assert await asyncio.to_thread(fetch_members, url, 1.0, None) is None


async def test_a_leader_that_is_behind_publishes_later(tmp_path: Path) -> None:
    """It learns that it leads from within an apply, where a refusal must not be raised."""
    async with running(tmp_path) as member:
        loop, cluster = member.server._core.member, member.server._cluster
        before = loop.applied_index
        loop._proposals.refusal = errors.RequestTooManyRequests
        cluster.became_leader()
        loop._proposals.refusal = None
        async with asyncio.timeout(60):
            while loop.applied_index == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
