"""Member and cluster ids against vectors of live clusters (spec/cluster.md §1)."""

import pytest

from kvserver.membership.ids import RequestIds, cluster_id, format_id, member_id

CLUSTERS = [
    (["http://127.0.0.1:2680"], "etcd-cluster", ["38fda407af20b32b"], "77529bf985bfa411"),
    (
        ["http://127.0.0.1:12380", "http://127.0.0.1:22380", "http://127.0.0.1:32380"],
        "etcd-cluster",
        ["628170c800dbcee", "9e737febb6b99eee", "ddd67b312462fd7b"],
        "73841b4a9097c907",
    ),
    (
        ["http://127.0.0.1:2690", "http://127.0.0.1:2692", "http://127.0.0.1:2694"],
        "tk1",
        ["62c91a06654251ad", "4923d2e789805615", "a396f853e5214f8"],
        "4964a53909e96c40",
    ),
    (["http://localhost:2380"], "etcd-cluster", ["8e9e05c52164694d"], "cdf818194e3a8c32"),
]


@pytest.mark.parametrize(("urls", "token", "members", "cluster"), CLUSTERS)
def test_ids_of_live_clusters(
    urls: list[str], token: str, members: list[str], cluster: str
) -> None:
    ids = [member_id([url], token) for url in urls]
    assert sorted(map(format_id, ids)) == sorted(members)
    assert format_id(cluster_id(ids)) == cluster


def test_a_member_id_does_not_depend_on_the_order_of_its_urls() -> None:
    urls = ["http://b:1", "http://a:1"]
    assert member_id(urls, "t") == member_id(urls[::-1], "t")


def test_a_member_added_at_run_time_has_the_time_in_its_id() -> None:
    urls = ["http://a:1"]
    assert member_id(urls, "", 1700000000) != member_id(urls, "", 1700000001)


def test_request_ids_keep_the_members_prefix_and_are_unique() -> None:
    """spec/raft-wire.md §3, test case 9: 300 calls in one millisecond."""
    ids = RequestIds(0x58D52BB3814A8973, 1_700_000_000_000)
    made = [ids.next() for _ in range(300)]
    assert len(set(made)) == 300
    assert {number >> 48 for number in made} == {0x8973}
    assert made[1] - made[0] == 1


def test_lease_ids_are_positive() -> None:
    ids = RequestIds(0xFFFF, 1_700_000_000_000)
    assert 0 < ids.next_lease_id() < 2**63
