"""Founding members from DNS (spec/cluster.md §8.1, case 28)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kvserver.clock import SystemClock
from kvserver.config import Config
from kvserver.discovery import discover
from kvserver.discovery.srv import SystemDns
from kvserver.errors import FatalError
from kvserver.listeners import Listeners
from kvserver.logs import Logger
from tests.discovery.dns_server import DnsServer
from tests.support.certificates import Authority
from tests.support.in_process import Lines, config

ADDRESSES = {
    "a.example.com": "10.0.0.1",
    "b.example.com": "10.0.0.2",
    "c.example.com": "10.0.0.3",
    "10.0.0.1": "10.0.0.1",
}
TWO = {"_etcd-server._tcp.example.com": ["1 0 2380 a.example.com.", "2 0 2380 b.example.com."]}


def founded(
    tmp_path: Path,
    records: Mapping[str, list[str]],
    advertised: str = "http://10.0.0.1:2380",
    lines: Lines | None = None,
    **flags: Any,
) -> Config:
    found = config(
        tmp_path,
        name="me",
        discovery_srv="example.com",
        initial_advertise_peer_urls=(advertised,),
        **flags,
    )
    with DnsServer(dict(records)) as server:
        log = Logger((lines or Lines(),))
        return discover(
            found,
            log,
            lookup=SystemDns(server.resolver),
            resolve=lambda name: ADDRESSES.get(name, ""),
        )


def test_our_own_record_bears_our_name(tmp_path: Path) -> None:
    found = founded(tmp_path, TWO)
    assert found.initial_cluster == {
        "me": ("http://a.example.com:2380",),
        "0": ("http://b.example.com:2380",),
    }
    assert found.initial_cluster_token == "etcd-cluster"


def test_both_services_count_and_names_stay_apart(tmp_path: Path) -> None:
    records = {
        "_etcd-server-ssl._tcp.example.com": ["1 0 1 b.example.com."],
        "_etcd-server._tcp.example.com": ["1 0 2380 a.example.com.", "1 0 2 c.example.com."],
    }
    assert founded(tmp_path, records).initial_cluster == {
        "0": ("https://b.example.com:1",),
        "me": ("http://a.example.com:2380",),
        "1": ("http://c.example.com:2",),
    }


def test_a_suffix_makes_another_service(tmp_path: Path) -> None:
    records = {"_etcd-server-prod._tcp.example.com": ["1 0 2380 a.example.com."]}
    found = founded(tmp_path, records, discovery_srv_name="prod")
    assert found.initial_cluster == {"me": ("http://a.example.com:2380",)}


@pytest.mark.parametrize(
    ("records", "advertised", "text"),
    [
        (TWO, "http://10.0.0.1:9", 'cannot find local etcd member "me" in SRV records'),
        ({}, "http://10.0.0.1:2380", "error querying DNS SRV records: lookup _etcd-server-ssl._t"),
        (
            TWO,
            "https://10.0.0.1:2380",
            "bootstrap at http://a.example.com:2380 from DNS for etcd-server has scheme mismatch "
            "with expected peer https://10.0.0.1:2380",
        ),
    ],
)
def test_what_does_not_fit(
    tmp_path: Path, records: dict[str, list[str]], advertised: str, text: str
) -> None:
    pair = {}
    if advertised.startswith("https"):
        cert, key = Authority().issue("m").write(tmp_path, "m")
        pair = {"peer_cert_file": str(cert), "peer_key_file": str(key)}
    with pytest.raises(FatalError) as refusal:
        founded(tmp_path, records, advertised, **pair)
    assert str(refusal.value).startswith(text)


def test_targets_that_lead_nowhere_are_passed_over(tmp_path: Path) -> None:
    lines = Lines()
    records = {
        "_etcd-server._tcp.example.com": ["1 0 2380 a.example.com.", "1 0 1 gone.example.com."]
    }
    found = founded(tmp_path, records, lines=lines)
    assert found.initial_cluster == {"me": ("http://a.example.com:2380",)}
    (warning,) = lines.find("failed to resolve a target of an SRV record")
    assert warning["target"] == "gone.example.com"


def test_for_whom_certificates_of_discovered_members_have_to_be(tmp_path: Path) -> None:
    """Without a CA of one's own: for the domain, as whoever spoofs DNS cannot show that."""
    authority = Authority()
    cert, key = authority.issue("m", "127.0.0.1").write(tmp_path, "m")
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.certificate)
    pair = {"peer_cert_file": str(cert), "peer_key_file": str(key)}
    for more, name in (({}, "example.com"), ({"peer_trusted_ca_file": str(ca)}, "")):
        flags = config(tmp_path, discovery_srv="example.com", **pair, **more)
        assert Listeners(flags, SystemClock(), Logger((Lines(),))).dialling.server_name == name
