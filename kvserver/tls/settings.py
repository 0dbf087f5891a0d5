"""What one side, clients or members, was given for TLS, and the contexts made of it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvserver.errors import FatalError
from kvserver.tls.ciphers import openssl_ciphers
from kvserver.transport import ALPN_PROTOCOLS

VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_PEM_BEGIN = b"-----BEGIN "


class TlsError(FatalError):
    """A certificate, key, CA or CRL file that cannot be used."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Paths are "" where nothing was given. `is_self_signed`: the pair was made by this member,
    so nobody can be asked to verify it (spec/config.md §5 rule 8)."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    version_min: str = "TLS1.2"
    version_max: str = ""
    is_self_signed: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.cert_file and not self.key_file

    @property
    def demands_certificates(self) -> bool:
        """A trusted CA alone already demands client certificates, as etcd has it (rule 3)."""
        return self.client_cert_auth or bool(self.trusted_ca_file)

    def require_pair(self) -> None:
        """Raises `TlsError` in etcd's words unless certificate and key are both named."""
        if not self.cert_file or not self.key_file:
            raise TlsError(
                "KeyFile and CertFile must both be present"
                f"[key: {self.key_file}, cert: {self.cert_file}]"
            )
        if bool(self.client_cert_file) != bool(self.client_key_file):
            raise TlsError(
                "ClientKeyFile and ClientCertFile must both be present or both absent: "
                f"key: {self.client_key_file}, cert: {self.client_cert_file}]"
            )

    def describe(self) -> str:
        """As etcd logs it at the start."""
        return (
            f"cert = {self.cert_file}, key = {self.key_file}, "
            f"client-cert={self.client_cert_file}, client-key={self.client_key_file}, "
            f"trusted-ca = {self.trusted_ca_file}, "
            f"client-cert-auth = {str(self.client_cert_auth).lower()}, "
            f"crl-file = {self.crl_file}"
        )

    # -- contexts

    def server_context(self) -> ssl.SSLContext:
        """Raises `TlsError` with the file that is at fault."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(ALPN_PROTOCOLS)
        load_pair(context, self.cert_file, self.key_file)
        if self.is_self_signed and not self.version_max and self.version_min == "TLS1.2":
            # Made as etcd makes them, on P-521, and gRPC's own clients do not take signatures of
            # that curve. TLS 1.3 ties the hash to the curve, TLS 1.2 leaves them SHA-256.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if self.client_cert_file:
            load_pair(self._context(ssl.PROTOCOL_TLS_CLIENT), *self.dialling_pair)
        if self.demands_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            self._load_authorities(context)
            # Who a connection belongs to is what its own handshake has proved.
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        return context

    def client_context(self) -> ssl.SSLContext:
        """For dialling members. Offers no ALPN: an etcd member that is offered h2 takes it, and
        speaks HTTP/1.1 all the same (spec/peer.md §8)."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        if self.is_self_signed:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_authorities(context)
        if self.dialling_pair[0]:
            load_pair(context, *self.dialling_pair)
        return context

    @property
    def dialling_pair(self) -> tuple[str, str]:
        if self.client_cert_file:
            return self.client_cert_file, self.client_key_file
        return self.cert_file, self.key_file

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = VERSIONS[self.version_min]
        if self.version_max:
            context.maximum_version = VERSIONS[self.version_max]
        if self.cipher_suites:
            context.set_ciphers(openssl_ciphers(self.cipher_suites))
        # Whatever certificate is in the CA file is trusted, be it a root or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _load_authorities(self, context: ssl.SSLContext) -> None:
        """The trusted CAs; without any, those of this machine."""
        path = self.trusted_ca_file
        if not path:
            context.load_default_certs()
            return
        data = read_file(path)
        try:
            context.load_verify_locations(cadata=data.decode("ascii", "replace"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"cannot use the CA file {path!r}: {error}") from None


def load_pair(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Raises `TlsError`, in Go's words where it has any."""
    for path, what in ((cert_file, "certificate"), (key_file, "key")):
        if _PEM_BEGIN not in read_file(path):
            raise TlsError(f"tls: failed to find any PEM data in {what} input ({path})")

    def no_password() -> str:
        raise TlsError(f"the key {key_file!r} is encrypted; a server cannot ask for its password")

    try:
        context.load_cert_chain(cert_file, key_file, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(
                f"tls: private key does not match public key ({cert_file}, {key_file})"
            ) from None
        raise TlsError(
            f"cannot use certificate {cert_file!r} and key {key_file!r}: {error}"
        ) from None
    except OSError as error:
        raise TlsError(f"cannot use certificate {cert_file!r}: {error}") from None


def read_file(path: str) -> bytes:
    """Raises `TlsError` as Go words it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


Warn = Callable[..., None]
"""Logger.warn: a message and fields."""
