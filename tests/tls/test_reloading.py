"""Files that change under a running server (spec/config.md §5 rule 1, cases 21, 22)."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from kvserver.tls import DialTls, ServerTls, TlsError
from tests.tls.handshakes import Files, Warnings, admitted, shake


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files.in_directory(tmp_path)


async def shown_serial(tls: ServerTls, client: ssl.SSLContext) -> int:
    theirs = await admitted(tls, client)
    der = theirs.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


async def test_the_next_handshake_shows_the_new_certificate(files: Files) -> None:
    """spec/config.md case 21."""
    warnings = Warnings([])
    tls = ServerTls(files.settings(), warnings)
    client = files.client()
    first = await shown_serial(tls, client)
    renewed = files.authority.issue("server", "127.0.0.1")
    renewed.write(files.directory, "server")
    assert await shown_serial(tls, client) == renewed.serial != first
    assert warnings.lines == []


async def test_files_that_cannot_be_used_leave_the_former_in_force(files: Files) -> None:
    warnings = Warnings([])
    tls = ServerTls(files.settings(), warnings)
    client = files.client()
    first = await shown_serial(tls, client)
    renewed = files.authority.issue("server", "127.0.0.1")
    files.cert.write_bytes(renewed.certificate)  # the key is still the old one's
    assert await shown_serial(tls, client) == first
    assert await shown_serial(tls, client) == first
    assert len(warnings.lines) == 1, "told once per change, not once per connection"
    assert "private key does not match public key" in warnings.lines[0]
    files.key.write_bytes(renewed.key)
    assert await shown_serial(tls, client) == renewed.serial
    files.cert.unlink()
    assert await shown_serial(tls, client) == renewed.serial
    assert "no such file or directory" in warnings.lines[-1]


async def test_a_new_authority_counts_at_the_next_handshake(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Files.in_directory(tmp_path / "other")
    tls = ServerTls(files.settings(trusted_ca_file=str(files.ca)), Warnings([]))
    own = files.client(files.authority.issue("alice"))
    stranger = files.client(other.authority.issue("bob"))
    await admitted(tls, own)
    with pytest.raises(ssl.SSLCertVerificationError):
        await admitted(tls, stranger)
    files.ca.write_bytes(other.authority.certificate)
    await admitted(tls, stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        await admitted(tls, own)


def test_what_is_dialled_with_is_read_again(files: Files) -> None:
    server = ServerTls(files.settings(trusted_ca_file=str(files.ca)), Warnings([]))
    member = files.authority.issue("member")
    cert, key = member.write(files.directory, "member")
    dialling = DialTls(
        files.settings(
            client_cert_file=str(cert), client_key_file=str(key), trusted_ca_file=str(files.ca)
        ),
        Warnings([]),
    )

    def name_seen() -> str:
        ours, _ = shake(server.context(), dialling.context())
        subject = (ours.getpeercert() or {})["subject"]
        return str(dict(pair for relative in subject for pair in relative)["commonName"])

    assert name_seen() == "member"
    files.authority.issue("renewed").write(files.directory, "member")
    assert name_seen() == "renewed"


def test_at_the_start_every_file_has_to_be_usable(files: Files, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"garbage")
    garbage, missing = str(tmp_path / "garbage"), str(tmp_path / "missing")
    other = files.authority.issue("other").write(tmp_path, "other")[1]
    for more, text in (
        ({"cert_file": ""}, "KeyFile and CertFile must both be present[key: "),
        ({"cert_file": missing}, f"open {missing}: no such file or directory"),
        ({"cert_file": garbage}, "tls: failed to find any PEM data in certificate input"),
        ({"key_file": garbage}, "tls: failed to find any PEM data in key input"),
        ({"key_file": str(other)}, "tls: private key does not match public key"),
        ({"trusted_ca_file": missing}, f"open {missing}: no such file or directory"),
        ({"trusted_ca_file": garbage}, "cannot use the CA file"),
        ({"crl_file": missing}, f"open {missing}: no such file or directory"),
        ({"crl_file": garbage}, "cannot use the CRL file"),
        ({"client_cert_file": missing}, "must both be present or both absent: key: , cert: "),
        (
            {"client_cert_file": missing, "client_key_file": garbage},
            f"open {missing}: no such file or directory",
        ),
    ):
        changed = {"cert_file": str(files.cert), "key_file": str(files.key), **more}
        with pytest.raises(TlsError) as caught:
            ServerTls(type(files.settings())(**changed), Warnings([]))  # type: ignore[arg-type]
        assert text in str(caught.value)
