"""TLS of every listener and every outgoing connection, from one factory (spec/config.md §5).

`TlsSettings` says what is wanted. `ServerTls` is one kind of listener, clients' or members';
`DialTls` is how this member dials others. Both give the context of the *next* handshake: files
that have changed are read again, and files that cannot be used leave the former ones in force.
After a handshake both check what OpenSSL does not: allowed names, revoked serials, and for members
the address they come from.

`words` tells failures as Go tells them, `self_signed` makes certificates for `--auto-tls`,
`ciphers` translates suite names.
"""

from kvserver.tls.dialling import DialTls
from kvserver.tls.listening import ServerTls
from kvserver.tls.settings import TlsError, TlsSettings

__all__ = ["DialTls", "ServerTls", "TlsError", "TlsSettings"]
