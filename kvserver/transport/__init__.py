"""gRPC over HTTP/2, and HTTP/1.1 on the same port, spoken by hand (design D2).

Knows bytes, not etcd: methods with handlers go in, connections come out. Nothing here imports
another package of ours. Read `connection.py` for the way in, `output.py` for the way out,
`call.py` and `stream.py` for what handlers get, `accept.py` for how a protocol is chosen.
"""

from kvserver.transport.call import Call
from kvserver.transport.counters import Counters, MethodCounters
from kvserver.transport.errors import RpcError
from kvserver.transport.http_message import HttpError, HttpRequest, HttpResponse
from kvserver.transport.limits import TransportLimits
from kvserver.transport.method import Method
from kvserver.transport.peer import Peer
from kvserver.transport.server import ALPN_PROTOCOLS, Server
from kvserver.transport.stream import Stream
from kvserver.transport.tls import TlsRefused, TlsSource

__all__ = [
    "ALPN_PROTOCOLS",
    "Call",
    "Counters",
    "HttpError",
    "HttpRequest",
    "HttpResponse",
    "Method",
    "MethodCounters",
    "Peer",
    "RpcError",
    "Server",
    "Stream",
    "TlsRefused",
    "TlsSource",
    "TransportLimits",
]
