"""The certificates of `--auto-tls` and `--peer-auto-tls`, as etcd makes and keeps them: in
`<data-dir>/fixtures/client` and `/peer`, reused while they are there (spec/config.md §5 rule 8).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kvserver.clock import utc
from kvserver.tls.settings import TlsError

SECONDS_PER_YEAR = 365 * 24 * 3600
SERIAL_BITS = 128


def self_signed_pair(
    directory: str,
    hosts: Iterable[str],
    validity_years: int,
    wall_seconds: float,
    *,
    is_for_clients_too: bool = False,
) -> tuple[str, str]:
    """The paths of certificate and key; both are made if one of them is missing. `hosts` are names
    and addresses without ports. `is_for_clients_too`: members also dial with it."""
    if validity_years <= 0:
        raise TlsError("selfSignedCertValidity is invalid,it should be greater than 0")
    cert_path, key_path = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    if os.path.exists(cert_path) and os.path.exists(key_path):
        return cert_path, key_path
    key = ec.generate_private_key(ec.SECP521R1())
    until = wall_seconds + SECONDS_PER_YEAR * validity_years
    certificate = _certificate(key, hosts, wall_seconds, until, is_for_clients_too)
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        _write(key_path, private, 0o600)
        _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise TlsError(f"cannot keep a self-signed certificate: {error}") from None
    return cert_path, key_path


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    hosts: Iterable[str],
    since: float,
    until: float,
    is_for_clients_too: bool,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    if is_for_clients_too:
        usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names = [_general_name(host) for host in dict.fromkeys(hosts)]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() % (1 << SERIAL_BITS) or 1)
        .not_valid_before(utc(since))
        .not_valid_after(utc(until))
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA512())
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: str, data: bytes, mode: int) -> None:
    """The whole file or none; the rights do not depend on the umask."""
    temporary = path + ".tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    os.rename(temporary, path)
