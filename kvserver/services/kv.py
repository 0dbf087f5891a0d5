"""The KV service: validation, then the log or a read (spec/kv.md).

Checks come in the order of spec/kv.md §4. A plain `Put` costs no task and no future: its `Call`
waits in the member's table until the entry is applied.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from kvserver import errors
from kvserver.apply.command import Kind
from kvserver.apply.quota import put_cost, txn_cost
from kvserver.auth.identity import NOBODY
from kvserver.mvcc.range import check_range
from kvserver.mvcc.range_stream import check_range_stream
from kvserver.mvcc.txn_check import (
    check_delete,
    check_put,
    check_txn,
    txn_is_read_only,
    txn_is_serializable,
)
from kvserver.proto import rpc_pb2
from kvserver.runtime.background import Background, PhysicalWaiter
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.access import Access
from kvserver.services.gate import Gate, parse, undecodable
from kvserver.transport import Call, Method, Stream

PREFIX = "/etcdserverpb.KV/"

_put_request = rpc_pb2.PutRequest.FromString
_range_request = rpc_pb2.RangeRequest.FromString


class KVService:
    """Handlers of `etcdserverpb.KV`."""

    def __init__(
        self,
        member: MemberLoop,
        background: Background,
        gate: Gate,
        access: Access,
        txn_ops_max: int,
    ) -> None:
        self._member = member
        self._applier = member.applier
        self._store = member.store
        self._background = background
        self._gate = gate
        self._access = access
        self._auth = access.store
        self._txn_ops_max = txn_ops_max

    def methods(self, request_bytes_max: int) -> Iterator[Method]:
        unary = {
            "Put": self.put,
            "DeleteRange": self.delete_range,
            "Txn": self.txn,
            "Compact": self.compact,
        }
        for name, handler in unary.items():
            yield Method(PREFIX + name, "unary", self._gate.unary(handler), request_bytes_max)
        guarded = self._gate.unary(self.range_, learner_ok=True)
        yield Method(PREFIX + "Range", "unary", guarded, request_bytes_max)
        yield Method(PREFIX + "RangeStream", "stream", self.range_stream, request_bytes_max)

    # -- writes

    def put(self, call: Call, body: bytes) -> None:
        # Hot, as is `range_`: nothing here but what a put needs.
        try:
            request = _put_request(body)
        except DecodeError as error:
            raise undecodable(error) from None
        if self._applier.is_tight:
            self._member.check_quota(put_cost(request))
        check_put(request)
        identity = self._access.identity(call) if self._auth.is_enabled else NOBODY
        self._member.propose(Kind.PUT, request, body, call, identity)

    def delete_range(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.DeleteRangeRequest, body)
        check_delete(request)
        identity = self._access.identity(call)
        self._member.propose(Kind.DELETE_RANGE, request, body, call, identity)

    def compact(self, call: Call, body: bytes) -> None:
        request = parse(rpc_pb2.CompactionRequest, body)
        waiter = PhysicalWaiter(self._background, call) if request.physical else call
        identity = self._access.identity(call)
        self._member.propose(Kind.COMPACTION, request, body, waiter, identity)

    def txn(self, call: Call, body: bytes) -> bytes | None:
        request = parse(rpc_pb2.TxnRequest, body)
        if txn_is_read_only(request):
            check_txn(request, self._txn_ops_max)
            if txn_is_serializable(request):
                return self._read_txn(call, request)
            return self._member.read(call, lambda: self._read_txn(call, request))
        if self._applier.is_tight:
            self._member.check_quota(txn_cost(request))
        check_txn(request, self._txn_ops_max)
        self._member.propose(Kind.TXN, request, body, call, self._access.identity(call))
        return None

    def _read_txn(self, call: Call, request: rpc_pb2.TxnRequest) -> bytes:
        self._access.permit(call, request)
        revision, reply = self._member.store.txn(request)
        return self._member.header(revision) + reply

    # -- reads

    def range_(self, call: Call, body: bytes) -> bytes | None:
        member = self._member
        try:
            request = _range_request(body)
        except DecodeError as error:
            raise undecodable(error) from None
        check_range(request)
        if member.reads_at_once or request.serializable:
            if request.range_end or self._auth.is_enabled:
                return self._read_range(call, request)
            revision, reply = self._store.range_(request)  # one key needs no cursor
            return member.header(revision) + reply
        if member.is_learner:
            raise errors.NotSupportedForLearner
        return member.read(call, lambda: self._read_range(call, request))

    def _read_range(self, call: Call, request: rpc_pb2.RangeRequest) -> bytes | None:
        member = self._member
        if self._auth.is_enabled:
            self._access.permit(call, request)
        if not request.range_end:  # hot: one key needs no cursor
            revision, reply = member.store.range_(request)
            return member.header(revision) + reply
        cursor = member.store.range_cursor(request)
        auth_revision = self._auth.revision

        def answer() -> bytes:
            self._check_revision(auth_revision)
            revision, reply = cursor.result()
            return member.header(revision) + reply

        if cursor.step():
            return answer()
        self._background.run(cursor, call, answer)
        return None

    def _check_revision(self, revision: int) -> None:
        """Drop what was read in slices if rights may have changed meanwhile (spec/kv.md §4.7)."""
        if self._auth.is_enabled and self._auth.revision != revision:
            raise errors.AuthOldRevision

    async def range_stream(self, stream: Stream) -> None:
        self._gate.open_stream(stream)
        async for body in stream:
            request = parse(rpc_pb2.RangeRequest, body)
            check_range_stream(request)
            if not request.serializable:
                await self._member.readable()
            await self._access.settle(stream)
            self._access.permit(stream, request)
            auth_revision = self._auth.revision
            for chunk in self._member.store.range_stream(request, self._member.header):
                self._check_revision(auth_revision)
                stream.send(chunk)
                await stream.drain()
            return
