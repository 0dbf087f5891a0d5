"""The one factory of TLS contexts for every listener (spec/config.md §2.3).

TLS 1.2 is the least; ALPN offers HTTP/2 and HTTP/1.1. A trusted CA alone already demands client
certificates, as etcd has it.
"""

from __future__ import annotations

import ssl

from kvserver.errors import FatalError


class TlsError(FatalError):
    """A certificate, key or CA file that cannot be used."""


VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


def server_context(
    cert_file: str,
    key_file: str,
    *,
    trusted_ca_file: str = "",
    client_cert_auth: bool = False,
    version_min: str = "TLS1.2",
    version_max: str = "",
) -> ssl.SSLContext:
    """The context of a listener. Raises `TlsError` with the file that is at fault."""
    if not cert_file or not key_file:
        raise TlsError("a TLS listener needs both a certificate file and a key file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[version_min]
    if version_max:
        context.maximum_version = VERSIONS[version_max]
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"cannot use certificate {cert_file!r} and key {key_file!r}: {error}"
        ) from None
    if client_cert_auth and not trusted_ca_file:
        raise TlsError("client-cert-auth needs a trusted CA file")
    if trusted_ca_file:
        try:
            context.load_verify_locations(trusted_ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"cannot use the CA file {trusted_ca_file!r}: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context
