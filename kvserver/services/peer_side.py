"""What members ask each other beside raft: promotions, leases, hashes (spec/peer.md §5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError

from kvserver import errors
from kvserver.limits import PEER_APPLIED_WAIT_SECONDS
from kvserver.membership.ids import format_id
from kvserver.membership.types import Member
from kvserver.peers.identity import Identity, RefusedPeer
from kvserver.proto import lease_pb2, rpc_pb2
from kvserver.runtime.background import Background
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.http import TEXT
from kvserver.services.lease import LeaseService
from kvserver.services.member_changes import MemberChanges
from kvserver.services.peer_hashes import hash_here
from kvserver.transport import HttpRequest, HttpResponse

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/protobuf"}
NOT_CAUGHT_UP = "waiting for node to catch up its applied index has timed out"
PRECONDITIONS = (
    errors.MemberNotLearner,
    errors.LearnerNotReady,
    errors.MemberNotEnoughStarted,
)
Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class PeerSide:
    """Handlers of the side endpoints. Owner: the loop."""

    def __init__(
        self,
        member: MemberLoop,
        background: Background,
        identity: Identity,
        changes: MemberChanges,
        leases: LeaseService,
    ) -> None:
        self._member = member
        self._background = background
        self._identity = identity
        self._changes = changes
        self._leases = leases
        self.routes: dict[str, Handler] = {
            "/leases": self._renew,
            "/leases/internal": self._time_to_live,
            "/members/hashkv": self._hash_kv,
            "/downgrade/enabled": self._downgrade_enabled,
        }

    # -- promotions

    async def promote(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return _text(405, "Method Not Allowed", Allow="POST")
        text = request.path.rpartition("/")[2]
        if not text.isdecimal():
            return _text(404, f"member {text} not found in cluster")
        try:
            await self._changes.promote_here(int(text))
        except errors.MemberNotFound:
            return _text(404, "membership: ID not found")
        except errors.RequestError as error:
            if isinstance(error, PRECONDITIONS):
                return _text(412, error.message)
            return HttpResponse(500, JSON, b'{"message":"Internal Server Error"}\n')
        headers = {**JSON, "X-Etcd-Cluster-ID": format_id(self._identity.cluster_id)}
        return HttpResponse(200, headers, encode_members(self._member.membership.members()))

    # -- leases

    async def _renew(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return _text(405, "Method Not Allowed", Allow="POST")
        try:
            lease_id = rpc_pb2.LeaseKeepAliveRequest.FromString(request.body).ID
        except DecodeError:
            return _text(400, "error unmarshalling request")
        refusal = await self._wait_applied()
        if refusal is not None:
            return refusal
        try:
            ttl = await self._leases.renew_here(lease_id)
        except errors.RequestError as error:
            return _text(400, error.message)
        if ttl is None:
            return _text(400, "not a primary lessor")
        if not ttl:
            return _text(404, "lease not found")
        answer = rpc_pb2.LeaseKeepAliveResponse(ID=lease_id, TTL=ttl)
        return HttpResponse(200, PROTOBUF, answer.SerializeToString())

    async def _time_to_live(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return _text(405, "Method Not Allowed", Allow="POST")
        wrapped = lease_pb2.LeaseInternalRequest()
        try:
            wrapped.ParseFromString(request.body)
        except DecodeError:
            return _text(400, "error unmarshalling request")
        if not wrapped.HasField("LeaseTimeToLiveRequest"):
            return _text(400, "error unmarshalling request")
        refusal = await self._wait_applied()
        if refusal is not None:
            return refusal
        lessor, asked = self._member.lessor, wrapped.LeaseTimeToLiveRequest
        if not lessor.is_primary:
            return _text(400, "not a primary lessor")
        if not lessor.exists(asked.ID):
            return _text(404, "lease not found")
        ttl, granted = lessor.time_to_live(asked.ID, self._member.clock.monotonic())
        answer = lease_pb2.LeaseInternalResponse()
        found = answer.LeaseTimeToLiveResponse
        found.header.SetInParent()
        found.ID, found.TTL, found.grantedTTL = asked.ID, ttl, granted
        if asked.keys:
            found.keys.extend(lessor.keys(asked.ID))
        return HttpResponse(200, PROTOBUF, answer.SerializeToString())

    async def _wait_applied(self) -> HttpResponse | None:
        """What is committed now, here or to the knowledge of who asks, may hold the lease: wait
        until it is applied."""
        member = self._member
        vouched = member.node.vouched
        end = member.loop.time() + PEER_APPLIED_WAIT_SECONDS
        while member.applied_index < vouched:
            if member.loop.time() > end:
                return _text(408, NOT_CAUGHT_UP)
            await asyncio.sleep(0.001)
        return None

    # -- hashes

    async def _hash_kv(self, request: HttpRequest) -> HttpResponse:
        if request.method != "GET":
            return _text(405, "Method Not Allowed", Allow="GET")
        if "x-etcd-cluster-id" in request.headers:
            try:
                self._identity.check_cluster(request.headers)
            except RefusedPeer as refusal:
                return _text(refusal.status, refusal.text)
        try:
            revision = json.loads(request.body)["revision"]
        except (ValueError, KeyError, TypeError):
            revision = None
        if not isinstance(revision, int) or isinstance(revision, bool):
            return _text(400, "error unmarshalling request")
        try:
            found = await hash_here(self._member, self._background, revision)
        except errors.RequestError as error:
            return _text(400, error.message.removeprefix("etcdserver: "))
        fields = {
            "header": {"revision": self._member.store.revision},
            "hash": found.hash,
            "compact_revision": found.compact_revision,
            "hash_revision": found.revision,
        }
        return HttpResponse(200, JSON, json.dumps(fields, separators=(",", ":")).encode())

    # -- downgrades

    async def _downgrade_enabled(self, request: HttpRequest) -> HttpResponse:
        """A joiner asks."""
        try:
            await self._member.readable()
        except errors.RequestError as error:
            return _text(500, f"failed linearized read: {error.message}")
        answer = b"true" if self._member.membership.downgrade_target else b"false"
        return HttpResponse(200, {"Content-Type": "text/plain; charset=utf-8"}, answer)


def _text(status: int, text: str, **headers: str) -> HttpResponse:
    return HttpResponse(status, {**TEXT, **headers}, f"{text}\n".encode())


def encode_members(members: list[Member]) -> bytes:
    """The array that /members and promotions answer with."""
    return json.dumps([_fields(m) for m in members], separators=(",", ":")).encode() + b"\n"


def _fields(member: Member) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": member.id, "peerURLs": list(member.peer_urls)}
    if member.is_learner:
        fields["isLearner"] = True
    if member.name:
        fields["name"] = member.name
    if member.client_urls:
        fields["clientURLs"] = list(member.client_urls)
    return fields
