"""Who is let in after a good handshake: names, revocation, origin (spec/config.md §5)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kvserver.tls import DialTls, ServerTls, TlsError
from kvserver.tls.certificates import is_for, presented_serials, revoked_serials, serial_text
from kvserver.tls.origin import check_origin
from kvserver.transport import TlsRefused
from tests.support.certificates import Authority
from tests.tls.handshakes import Files, Warnings, admitted, shake

SAMPLE = Authority().issue("sample", "127.0.0.1", "a.example.com")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.in_directory(tmp_path)


class FakeResolver:
    """A DNS of two tables, and what was asked of it."""

    def __init__(self, forward: dict[str, list[str]], backward: dict[str, list[str]]) -> None:
        self._forward, self._backward = forward, backward
        self.asked: list[str] = []

    async def addresses_of(self, name: str) -> list[str]:
        self.asked.append(name)
        return self._forward.get(name, [])

    async def names_of(self, address: str) -> list[str]:
        self.asked.append(address)
        return self._backward.get(address, [])


def server(files: Files, **more: object) -> ServerTls:
    return ServerTls(files.settings(trusted_ca_file=str(files.ca), **more), Warnings([]))


# -- allow-lists (rule 6)


async def test_only_allowed_common_names(files: Files) -> None:
    tls = server(files, allowed_cns=("alice", "bob"))
    await admitted(tls, files.client(files.authority.issue("bob")))
    for name in ("mallory", "Bob", "alice.example.com", ""):
        with pytest.raises(TlsRefused, match="client certificate authentication failed"):
            await admitted(tls, files.client(files.authority.issue(name or " ")))


async def test_only_allowed_hostnames(files: Files) -> None:
    tls = server(files, allowed_hostnames=("node.example.com", "10.1.2.3"))
    issue = files.authority.issue
    await admitted(tls, files.client(issue("x", "node.example.com")))
    await admitted(tls, files.client(issue("x", "*.example.com")))
    await admitted(tls, files.client(issue("x", "10.1.2.3", "other")))
    for identity in (
        issue("node.example.com"),  # the common name is no host name
        issue("x", "example.com"),
        issue("x", "*.com"),
        issue("x", "10.1.2.4"),
    ):
        with pytest.raises(TlsRefused):
            await admitted(tls, files.client(identity))


def test_allowed_names_hold_for_whom_is_dialled(files: Files) -> None:
    _, theirs = shake(ServerTls(files.settings(), Warnings([])).context(), files.client())
    trusted = {"trusted_ca_file": str(files.ca)}
    for more, is_allowed in (
        ({}, True),
        ({"allowed_cns": ("server",)}, True),
        ({"allowed_cns": ("somebody",)}, False),
        ({"allowed_hostnames": ("127.0.0.1",)}, True),
        ({"allowed_hostnames": ("elsewhere",)}, False),
    ):
        dialling = DialTls(files.settings(**trusted, **more), Warnings([]))
        assert dialling.is_allowed(theirs) is is_allowed


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "A.Example.Com.", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("a*.example.com", "ab.example.com", False),
        ("a.*.com", "a.example.com", False),
        ("*", "example", False),
    ],
)
def test_wildcards_stand_for_one_label(pattern: str, name: str, matches: bool) -> None:
    assert is_for({"subjectAltName": [("DNS", pattern)]}, name) is matches


@given(st.text(max_size=20), st.text(max_size=20))
def test_names_are_never_trusted_to_be_names(pattern: str, host: str) -> None:
    leaf = {"subjectAltName": [("DNS", pattern), ("IP Address", pattern)]}
    assert is_for(leaf, host) in (True, False)


# -- revocation (rule 7)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
async def test_revoked_serials_are_refused_and_the_list_is_read_again(
    files: Files, encoding: Encoding
) -> None:
    """spec/config.md case 22."""
    alice, bob = files.authority.issue("alice"), files.authority.issue("bob")
    crl = files.directory / "crl"
    crl.write_bytes(files.authority.revoke(alice).public_bytes(encoding))
    tls = server(files, crl_file=str(crl))
    with pytest.raises(TlsRefused, match=f"certificate serial {serial_text(alice.serial)} revoked"):
        await admitted(tls, files.client(alice))
    await admitted(tls, files.client(bob))
    crl.write_bytes(files.authority.revoke(bob).public_bytes(encoding))
    with pytest.raises(TlsRefused, match=f"certificate serial {serial_text(bob.serial)} revoked"):
        await admitted(tls, files.client(bob))
    await admitted(tls, files.client(alice))


async def test_a_broken_list_leaves_the_former_in_force(files: Files) -> None:
    alice = files.authority.issue("alice")
    crl = files.directory / "crl"
    crl.write_bytes(files.authority.revoke(alice).public_bytes(Encoding.PEM))
    warnings = Warnings([])
    settings = files.settings(trusted_ca_file=str(files.ca), crl_file=str(crl))
    tls = ServerTls(settings, warnings)
    crl.write_bytes(b"half a li")
    with pytest.raises(TlsRefused, match="revoked"):
        await admitted(tls, files.client(alice))
    assert "cannot use the CRL file" in warnings.lines[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_every_certificate_of_the_chain_counts(files: Files, version: ssl.TLSVersion) -> None:
    """A revoked authority in between takes its leaves with it."""
    between = files.authority.subordinate("between")
    leaf = between.issue("leaf")
    with_chain = type(leaf)(leaf.certificate + between.certificate, leaf.key)
    client = files.client(with_chain, version)
    crl = files.directory / "crl"
    crl.write_bytes(files.authority.revoke().public_bytes(Encoding.PEM))
    tls = server(files, crl_file=str(crl))
    ours, _ = shake(tls.context(), client)
    assert presented_serials(ours) == [leaf.serial, between.identity.serial]
    await admitted(tls, client)
    crl.write_bytes(files.authority.revoke(between.identity).public_bytes(Encoding.PEM))
    with pytest.raises(
        TlsRefused, match=f"certificate serial {serial_text(between.identity.serial)} revoked"
    ):
        await admitted(tls, client)


class Presenting:
    """A TLS session whose other side has shown these bytes."""

    def __init__(self, *chain: bytes) -> None:
        self._chain = chain

    def get_unverified_chain(self) -> list[bytes]:
        return list(self._chain)


@given(st.data())
def test_certificates_that_nobody_can_read_are_refused(data: st.DataObject) -> None:
    good = ssl.PEM_cert_to_DER_cert(SAMPLE.certificate.decode())
    at = data.draw(st.integers(0, len(good) - 1))
    broken = good[:at] + data.draw(st.binary(min_size=1, max_size=3)) + good[at + 1 :]
    try:
        presented_serials(Presenting(broken))  # type: ignore[arg-type]
    except TlsRefused as refusal:
        assert "malformed certificate" in str(refusal)


@pytest.mark.parametrize(
    ("serial", "text"), [(0x1A2B, "1a2b"), (0xE989E, "0e989e"), (1 << 158, "40" + "00" * 19)]
)
def test_serial_numbers_are_written_as_etcd_does(serial: int, text: str) -> None:
    """In whole bytes (spec/config.md, CRL)."""
    assert serial_text(serial) == text


def test_a_negative_serial_number_is_refused() -> None:
    der = ssl.PEM_cert_to_DER_cert(SAMPLE.certificate.decode())
    at = der.index(SAMPLE.serial.to_bytes(SAMPLE.serial.bit_length() // 8 + 1))
    negative = der[:at] + bytes([der[at] | 0x80]) + der[at + 1 :]
    with pytest.raises(TlsRefused, match="negative serial number"):
        presented_serials(Presenting(negative))  # type: ignore[arg-type]


@given(st.binary(max_size=300))
def test_rubbish_is_no_list_of_revocations(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "rubbish.crl"
    path.write_bytes(data)
    with pytest.raises(TlsError, match="cannot use the CRL file"):
        revoked_serials(str(path))


# -- origin (rule 5)


def leaf(*names: tuple[str, str]) -> dict[str, object]:
    return {"subjectAltName": list(names)}


async def test_an_address_or_a_name_that_resolves_to_it() -> None:
    dns = FakeResolver({"m.example.com": ["10.0.0.9", "10.0.0.1"]}, {"10.0.0.2": ["w.a.org"]})
    for certificate in (
        leaf(),
        leaf(("IP Address", "10.0.0.1")),
        leaf(("IP Address", "::ffff:10.0.0.1")),
        leaf(("DNS", "nowhere"), ("DNS", "m.example.com")),
        leaf(("IP Address", "10.0.0.7"), ("DNS", "m.example.com")),
    ):
        await check_origin(certificate, "10.0.0.1", dns)
    await check_origin(leaf(("DNS", "*.a.org")), "10.0.0.2", dns)
    mapped = FakeResolver({"m": ["10.0.0.1"], "six": ["fe80::1"]}, {})
    await check_origin(leaf(("DNS", "m")), "::ffff:10.0.0.1", mapped)
    await check_origin(leaf(("DNS", "six")), "fe80::1%eth0", mapped)
    await check_origin(leaf(("DNS", "elsewhere")), "", dns)  # a Unix socket has no address
    assert dns.asked == ["nowhere", "m.example.com", "m.example.com", "10.0.0.2"]


async def test_a_stranger_with_a_members_certificate_is_refused() -> None:
    dns = FakeResolver({"m.example.com": ["10.0.0.9"]}, {"10.0.0.1": ["a.b.org"]})
    for certificate, text in (
        (
            leaf(("IP Address", "10.0.0.9")),
            "x509: certificate is valid for 10.0.0.9, not 10.0.0.1",
        ),
        (
            leaf(("DNS", "m.example.com"), ("DNS", "*.org")),
            'tls: "10.0.0.1" does not match any of DNSNames ["m.example.com" "*.org"]',
        ),
    ):
        with pytest.raises(TlsRefused) as refusal:
            await check_origin(certificate, "10.0.0.1", dns)
        assert str(refusal.value) == text


async def test_origin_is_asked_of_members_alone(files: Files) -> None:
    settings = files.settings(trusted_ca_file=str(files.ca))
    client = files.client(files.authority.issue("m", "10.9.9.9"))
    await admitted(ServerTls(settings, Warnings([])), client)
    with pytest.raises(TlsRefused, match=r"valid for 10\.9\.9\.9, not 127\.0\.0\.1"):
        await admitted(ServerTls(settings, Warnings([]), checks_origin=True), client)
