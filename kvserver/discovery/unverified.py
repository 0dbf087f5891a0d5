"""`--discovery-insecure-skip-tls-verify`: gRPC's client cannot leave verification out, so whatever
certificate is shown now is what is trusted from now on, for this one discovery."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

from kvserver.client import Endpoint
from kvserver.errors import FatalError


def trust_whoever_is_there(endpoints: Iterable[Endpoint], seconds: float) -> tuple[bytes, str]:
    """(what to trust, the name that it goes by). Raises `FatalError` when nobody is there."""
    shown: list[str] = []
    failure: Exception | None = None
    for endpoint in endpoints:
        try:
            address = (endpoint.host, endpoint.port)
            shown.append(ssl.get_server_certificate(address, timeout=seconds))
        except OSError as error:
            failure = error
    if not shown:
        raise FatalError(f"discovery failed: no endpoint shows a certificate: {failure}")
    return "".join(shown).encode(), _name(shown[0])


def _name(pem: str) -> str:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""
    names_of_dns = found.value.get_values_for_type(x509.DNSName)
    if names_of_dns:
        return names_of_dns[0].replace("*", "any", 1)
    return str(found.value.get_values_for_type(x509.IPAddress)[0])
