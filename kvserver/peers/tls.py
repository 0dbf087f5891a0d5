"""The TLS context with which this member dials others (spec/peer.md §8)."""

from __future__ import annotations

import ssl

from kvserver.errors import FatalError


def dialling_context(cert_file: str, key_file: str, trusted_ca_file: str) -> ssl.SSLContext:
    """Verifies the other side against the CA, or the system's. Offers no ALPN: an etcd member
    that is offered h2 takes it, and speaks HTTP/1.1 all the same."""
    try:
        context = ssl.create_default_context(cafile=trusted_ca_file or None)
        if cert_file:
            context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise FatalError(f"cannot use the TLS files for dialling members: {error}") from None
    return context
