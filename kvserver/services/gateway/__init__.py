"""The JSON gateway: every client method as a POST with a JSON body (spec/wire-api.md §4).

It calls the same handlers as gRPC clients do, inside the process (`services/in_process.py`), so
that validation, auth and metrics are the same. Errors have the form of etcd 3.6 and later.

Who may use it from a browser. `--cors` names the web origins that may, and is `*` by default, as in
etcd; a client that is no browser (curl, with whatever content type it sends) never hears of this.
Two rules go beyond etcd, which carries out whatever any page sends it:

- A request of a page whose origin `--cors` does not name is refused with 403. (etcd carries it out
  and only keeps the answer from the page.) Pages served from the request's own host pass.
- A request of a page must say `content-type: application/json`, else 415. A browser sends that to a
  foreign host only after it has asked (OPTIONS), and then without client certificates or other
  credentials that the page does not hold itself; forms and plain-text posts need no leave.

A page is recognised by the headers `Origin` and `Sec-Fetch-Site`, which scripts cannot leave out.

Also beyond etcd: bad JSON in the first request of a stream is HTTP 400 like any other bad JSON; a
metadata field `grpcgateway-accept` is always there, so that the name in a client certificate is
never the identity of a gateway call. Not imitated: HTTP trailers, WebSockets.
"""

from kvserver.services.gateway.app import ClientApp
from kvserver.services.gateway.door import Door
from kvserver.services.gateway.gateway import Gateway

__all__ = ["ClientApp", "Door", "Gateway"]
