"""Judgements over the certificates of a finished handshake (spec/config.md §5 rules 5-7).

A leaf comes as `SSLObject.getpeercert()` gives it; a chain as DER.
"""

from __future__ import annotations

import ipaddress
import ssl
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from kvserver.tls.settings import TlsError, read_file
from kvserver.transport import TlsRefused

Leaf = Mapping[str, Any]
_PEM = b"-----BEGIN"


def common_name(leaf: Leaf) -> str:
    for relative_name in leaf.get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                return str(value)
    return ""


def dns_names(leaf: Leaf) -> list[str]:
    return [str(value) for kind, value in leaf.get("subjectAltName", ()) if kind == "DNS"]


def addresses(leaf: Leaf) -> list[str]:
    return [str(value) for kind, value in leaf.get("subjectAltName", ()) if kind == "IP Address"]


def is_for(leaf: Leaf, host: str) -> bool:
    """Whether the certificate is for this name or address; the common name does not count."""
    wanted = parse_address(host)
    if wanted is not None:
        return any(parse_address(found) == wanted for found in addresses(leaf))
    name = host.lower().rstrip(".")
    return any(_covers(pattern.lower().rstrip("."), name) for pattern in dns_names(leaf))


def _covers(pattern: str, name: str) -> bool:
    """A wildcard stands for exactly one label, the first (RFC 6125 §6.4.3)."""
    if not pattern.startswith("*."):
        return pattern == name
    first, _, rest = name.partition(".")
    return bool(first) and rest == pattern[2:]


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Without zone and brackets; an IPv4 address that came in IPv6's clothes is itself again."""
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return found.ipv4_mapped
    return found


def presented_serials(tls: ssl.SSLObject) -> list[int]:
    """The serial number of every certificate that the other side has shown, its own first.
    Raises `TlsRefused` for one that OpenSSL let pass and nobody else can read."""
    return [_serial(der) for der in _presented(tls)]


def _serial(der: bytes) -> int:
    try:
        with warnings.catch_warnings():  # about numbers that no RFC allows; judged below
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            number = x509.load_der_x509_certificate(der).serial_number
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise TlsRefused(f"x509: malformed certificate: {error}") from None
    if number < 0:  # Go refuses it as well
        raise TlsRefused("x509: malformed certificate: negative serial number")
    return number


def _presented(tls: ssl.SSLObject) -> list[bytes]:
    public = getattr(tls, "get_unverified_chain", None)  # from Python 3.13 on
    if public is not None:
        return list(public() or ())
    hidden = getattr(getattr(tls, "_sslobj", None), "get_unverified_chain", None)
    chain = hidden() if hidden is not None else None
    if chain is not None:
        return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]
    leaf = tls.getpeercert(binary_form=True)
    return [leaf] if leaf else []


def serial_text(serial: int) -> str:
    """A serial number as etcd writes it: whole bytes, so that a leading zero is not lost."""
    return serial.to_bytes((serial.bit_length() + 7) // 8).hex()


def revoked_serials(path: str) -> frozenset[int]:
    """Of a CRL in PEM or DER. Raises `TlsError`."""
    data = read_file(path)
    try:
        if _PEM in data:
            crl = x509.load_pem_x509_crl(data)
        else:
            crl = x509.load_der_x509_crl(data)
        return frozenset(revoked.serial_number for revoked in crl)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise TlsError(f"cannot use the CRL file {path!r}: {error}") from None


def name_is_allowed(leaf: Leaf, names: Iterable[str], hosts: Iterable[str]) -> bool:
    """Against the allow-lists; an empty pair of lists allows everybody."""
    names, hosts = tuple(names), tuple(hosts)
    if not names and not hosts:
        return True
    return common_name(leaf) in names or any(is_for(leaf, host) for host in hosts)
