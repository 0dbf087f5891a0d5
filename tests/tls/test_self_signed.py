"""The certificates of auto-TLS (spec/config.md §5 rule 8, case 18)."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvserver.clock import utc
from kvserver.tls import DialTls, ServerTls, TlsError, TlsSettings
from kvserver.tls.self_signed import self_signed_pair
from tests.tls.handshakes import Warnings, shake

NOW = 1_800_000_000.0


def made(directory: Path, **options: object) -> x509.Certificate:
    cert, _ = self_signed_pair(str(directory), ["127.0.0.1", "host.local"], 2, NOW, **options)  # type: ignore[arg-type]
    return x509.load_pem_x509_certificate(Path(cert).read_bytes())


def test_what_is_made(tmp_path: Path) -> None:
    certificate = made(tmp_path / "fixtures" / "client")
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP521R1)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA512)
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    assert [name.value for name in names] == ["etcd"]
    assert certificate.not_valid_before_utc == utc(NOW)
    assert certificate.not_valid_after_utc == utc(NOW) + timedelta(days=2 * 365)
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert found.get_values_for_type(x509.DNSName) == ["host.local"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes["key.pem"] == 0o600
    assert modes["cert.pem"] == 0o644
    assert modes["client"] == 0o700
    assert len(modes) == 4, "nothing else is left behind"


def test_members_use_theirs_both_ways(tmp_path: Path) -> None:
    usage = made(tmp_path, is_for_clients_too=True).extensions.get_extension_for_class(
        x509.ExtendedKeyUsage
    )
    assert ExtendedKeyUsageOID.CLIENT_AUTH in usage.value


def test_it_is_made_once(tmp_path: Path) -> None:
    first = made(tmp_path)
    assert made(tmp_path) == first
    (tmp_path / "key.pem").unlink()
    assert made(tmp_path) != first


def test_validity_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="selfSignedCertValidity is invalid"):
        self_signed_pair(str(tmp_path), ["h"], 0, NOW)


def test_who_made_its_own_certificate_verifies_nobodys(tmp_path: Path) -> None:
    sides = []
    for name in ("one", "two"):
        cert, key = self_signed_pair(str(tmp_path / name), ["10.0.0.1"], 1, NOW)
        sides.append(TlsSettings(cert_file=cert, key_file=key, is_self_signed=True))
    server, client = sides
    shake(
        ServerTls(server, Warnings([])).context(),
        DialTls(client, Warnings([])).context(),
    )
