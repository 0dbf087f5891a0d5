"""Cipher suites by the names that Go and etcd's flag use, and what OpenSSL calls them.

Only suites of TLS 1.2: those of 1.3 are always on, with etcd as with Keydeck. RC4 and 3DES are not
here: etcd takes them with its Go, no OpenSSL of today does.
"""

from __future__ import annotations

from collections.abc import Iterable

_CIPHERS = {
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "CHACHA20_POLY1305": "CHACHA20-POLY1305",
    "AES_128_CBC_SHA256": "AES128-SHA256",
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
}
_KEYS = {"ECDHE_ECDSA": "ECDHE-ECDSA-", "ECDHE_RSA": "ECDHE-RSA-", "RSA": ""}
_NEVER_WITH_RSA = "CHACHA20"

TLS12_SUITES = {
    f"TLS_{key}_WITH_{cipher}": prefix + known
    for key, prefix in _KEYS.items()
    for cipher, known in _CIPHERS.items()
    if not (key == "RSA" and cipher.startswith(_NEVER_WITH_RSA))
}
TLS13_SUITES = frozenset(
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
)
CIPHER_SUITES = frozenset(TLS12_SUITES) | TLS13_SUITES
"""Every name that `--cipher-suites` takes."""
HTTP2_REQUIRED = frozenset(
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
)
"""RFC 9113 §9.2.2: a server of HTTP/2 over TLS 1.2 has one of these; etcd refuses to start
without."""


def openssl_ciphers(suites: Iterable[str]) -> str:
    """The argument of `SSLContext.set_ciphers`, in the order given."""
    return ":".join(TLS12_SUITES[name] for name in suites if name in TLS12_SUITES)
