"""Cipher suites and versions reach the handshake (spec/config.md §2.3, §4)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from kvserver.tls import ServerTls
from kvserver.tls.ciphers import CIPHER_SUITES, TLS12_SUITES, openssl_ciphers
from kvserver.tls.words import explain
from tests.tls.handshakes import Files, Warnings, shake


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.in_directory(Path(tmp_path_factory.mktemp("tls")))


def test_every_name_is_one_of_openssls() -> None:
    for name, known in TLS12_SUITES.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(openssl_ciphers([name]))
        assert known in {cipher["name"] for cipher in context.get_ciphers()}, name
    assert not any("RC4" in name or "3DES" in name for name in CIPHER_SUITES)


def test_the_suite_asked_for_is_the_one_used(files: Files) -> None:
    wanted = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    tls = ServerTls(files.settings(cipher_suites=(wanted,)), Warnings([]))
    ours, _ = shake(tls.context(), files.client())
    assert ours.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"  # type: ignore[index]
    client = files.client()
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with pytest.raises(ssl.SSLError):
        shake(tls.context(), client)
    # Those of TLS 1.3 are always on.
    ours, _ = shake(tls.context(), files.client(version=ssl.TLSVersion.TLSv1_3))
    assert ours.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("least", "most", "taken"),
    [
        ("TLS1.2", "", ("TLSv1.2", "TLSv1.3")),
        ("TLS1.3", "", ("TLSv1.3",)),
        ("TLS1.2", "TLS1.2", ("TLSv1.2",)),
    ],
)
def test_versions(files: Files, least: str, most: str, taken: tuple[str, ...]) -> None:
    """spec/config.md case 29."""
    tls = ServerTls(files.settings(version_min=least, version_max=most), Warnings([]))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        name = version.name.replace("_", ".")
        if name in taken:
            assert shake(tls.context(), files.client(version=version))[0].version() == name
        else:
            with pytest.raises(ssl.SSLError):
                shake(tls.context(), files.client(version=version))


def test_failures_are_told_in_gos_words(files: Files, tmp_path: Path) -> None:
    """spec/config.md §5 rule 3; the words were read off etcd 3.5.1's log."""
    tls = ServerTls(files.settings(trusted_ca_file=str(files.ca)), Warnings([]))
    stranger = Files.in_directory(tmp_path)
    for client, text in (
        (files.client(), "tls: client didn't provide a certificate"),
        (
            files.client(stranger.authority.issue("x")),
            "tls: failed to verify client certificate: x509: certificate signed by unknown "
            "authority",
        ),
    ):
        with pytest.raises(ssl.SSLError) as caught:
            shake(tls.context(), client)
        assert explain(caught.value) == text
    assert explain(TimeoutError()) == "i/o timeout"
    assert explain(ConnectionResetError()) == "EOF"
