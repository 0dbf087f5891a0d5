"""The /raft endpoints of the peer port (spec/peer.md §2, §4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kvserver.clock import Clock
from kvserver.errors import KeydeckError
from kvserver.logs import timestamp
from kvserver.membership.ids import format_id
from kvserver.peers.identity import RefusedPeer
from kvserver.peers.network import PeerNetwork
from kvserver.peers.peer import KINDS
from kvserver.raft.codec import MalformedMessage, decode_message
from kvserver.transport import HttpRequest, HttpResponse

TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
STREAM_ROOT = "/raft/stream/"
SnapshotReceiver = Callable[[HttpRequest], Awaitable[HttpResponse]]


def wants_body_stream(method: str, path: str) -> bool:
    """A snapshot's body may be gigabytes: its handler starts before it has arrived."""
    return method == "POST" and path == "/raft/snapshot"


class RaftHttp:
    """Handlers of everything below /raft. Owner: the loop."""

    def __init__(self, network: PeerNetwork, clock: Clock) -> None:
        self._network = network
        self._clock = clock
        self.receive_snapshot: SnapshotReceiver | None = None

    async def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """None for a path that is not ours."""
        path = request.path
        if path == "/raft/probing":
            return self._probing()
        try:
            if path == "/raft":
                return self._message(request)
            if path == "/raft/snapshot":
                return await self._snapshot(request)
            if path.startswith(STREAM_ROOT):
                return self._stream(request)
        except RefusedPeer as refusal:
            headers = {**TEXT, "X-Etcd-Cluster-ID": format_id(self._network.identity.cluster_id)}
            if refusal.status == 405:
                headers["Allow"] = "GET" if path.startswith(STREAM_ROOT) else "POST"
            return HttpResponse(refusal.status, headers, f"{refusal.text}\n".encode())
        return None

    def _probing(self) -> HttpResponse:
        now = timestamp(self._clock.wall())
        body = f'{{"OK":true,"Now":"{now}"}}\n'.encode()
        return HttpResponse(200, {"Content-Type": "text/plain; charset=utf-8"}, body)

    def _stream(self, request: HttpRequest) -> HttpResponse:
        network = self._network
        if request.method != "GET":
            raise RefusedPeer(405, "Method Not Allowed")
        headers = request.headers
        network.identity.check(headers)
        kind, _, sender = request.path[len(STREAM_ROOT) :].rpartition("/")
        if kind not in KINDS:
            raise RefusedPeer(404, "invalid path")
        try:
            number = int(sender, 16)
        except ValueError:
            raise RefusedPeer(404, "invalid from") from None
        peer = network.dialling_peer(number, headers.get("x-peerurls", ""))
        if headers.get("x-raft-to") != format_id(network.identity.member_id):
            raise RefusedPeer(412, "to field mismatch")
        stream = peer.attach_stream(kind)
        headers = network.identity.response_headers()
        return HttpResponse(200, headers, stream.body(), stream.write_with)

    def _message(self, request: HttpRequest) -> HttpResponse:
        network = self._network
        if request.method != "POST":
            raise RefusedPeer(405, "Method Not Allowed")
        network.identity.check(request.headers)
        try:
            message = decode_message(request.body)
        except MalformedMessage:
            raise RefusedPeer(400, "error unmarshalling raft message") from None
        network.check_sender(message.from_)
        if message.to and message.to != network.identity.member_id:
            raise RefusedPeer(500, "error processing raft message")
        network.note_remote(message.from_, request.headers.get("x-peerurls", ""))
        network.receive(message, len(request.body))
        return self._taken()

    def _taken(self) -> HttpResponse:
        cluster = format_id(self._network.identity.cluster_id)
        return HttpResponse(204, {"X-Etcd-Cluster-ID": cluster})

    async def _snapshot(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            raise RefusedPeer(405, "Method Not Allowed")
        self._network.identity.check(request.headers)
        if self.receive_snapshot is None:
            raise RefusedPeer(500, "failed to save KV snapshot (not supported by this release)")
        try:
            return await self.receive_snapshot(request)
        except KeydeckError as error:
            raise RefusedPeer(500, f"failed to save KV snapshot ({error})") from None
