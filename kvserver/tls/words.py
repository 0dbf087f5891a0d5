"""Failed handshakes in the words of Go's TLS, which operators and their log rules know."""

from __future__ import annotations

import ssl

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": (
        "tls: peer doesn't support any of the certificate's signature algorithms"
    ),
}
_VERIFY = {
    7: "certificate signed by unknown authority",
    10: "certificate has expired or is not yet valid",
    9: "certificate has expired or is not yet valid",
    18: "certificate signed by unknown authority",
    19: "certificate signed by unknown authority",
    20: "certificate signed by unknown authority",
    21: "certificate signed by unknown authority",
    26: "certificate specifies an incompatible key usage",
}
"""By OpenSSL's X509_V_ERR numbers."""
_ALERT = "_ALERT_"


def explain(error: BaseException) -> str:
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return "i/o timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _VERIFY.get(error.verify_code, error.verify_message)
        return f"tls: failed to verify client certificate: x509: {known}"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | EOFError):
        return "EOF"
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason
        if _ALERT in reason:
            words = reason.partition(_ALERT)[2].replace("_", " ").lower()
            return f"remote error: tls: {words}"
        return _REASONS.get(reason, f"tls: {reason.replace('_', ' ').lower()}")
    return str(error) or type(error).__name__
