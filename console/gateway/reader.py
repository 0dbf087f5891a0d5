"""Everything the console asks of a cluster without changing it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from console.gateway import wire
from console.gateway.clients import clients
from console.gateway.errors import Denied, TooLarge, domain_error
from console.gateway.events import Scan, compact_revision
from console.gateway.feed import Feed, feed_of
from console.gateway.looks import SILENT_SECONDS, looks
from console.gateway.records import History, Key, LeaseList, LeaseTime, Listing, Part
from console.gateway.wire import STATUS_SECONDS
from console.keys.paging import PAGE_KEYS, KeyRange, Page
from console.models import Cluster
from console.overview.health import Member
from kvserver.client import CallFailed, Client
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

READ_SECONDS = 6.0


class Reader:
    """Everything the console asks of a cluster without changing it."""

    def __init__(self, cluster: Cluster, *, is_serializable: bool = False) -> None:
        self.cluster = cluster
        self.is_serializable = is_serializable
        """Ranges are answered from one member's own state: no quorum, perhaps behind
        (spec/kv.md R12)."""

    def reading(self, *, is_serializable: bool) -> Reader:
        """A reader of the same cluster with this choice for its ranges."""
        return Reader(self.cluster, is_serializable=is_serializable)

    @property
    def _client(self) -> Client:
        return clients.of(self.cluster)

    def keys(self, page: Page) -> Listing:
        """A page of a range with values; without them when they would not fit one message."""
        try:
            return self._keys(page, has_values=True)
        except TooLarge:
            return self._keys(page, has_values=False)

    def _keys(self, page: Page, *, has_values: bool) -> Listing:
        keys = KeyRange(page.start, page.range.end)
        part = self._part(keys, PAGE_KEYS, page.revision, has_values=has_values)
        return Listing(
            page=page,
            keys=part.keys,
            total=page.seen + part.count,
            revision=page.revision or part.newest,
            has_more=part.has_more,
            has_values=has_values,
        )

    def part(
        self, keys: KeyRange, limit: int, revision: int = 0, *, has_values: bool = False
    ) -> Part:
        """The first keys of a range: at most `limit`, fewer where those do not fit one message."""
        while True:
            try:
                return self._part(keys, limit, revision, has_values=has_values)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 8)

    def _part(self, keys: KeyRange, limit: int, revision: int, *, has_values: bool) -> Part:
        answer = self._range(
            rpc_pb2.RangeRequest(
                key=keys.start,
                range_end=keys.end,
                limit=limit,
                revision=revision,
                keys_only=not has_values,
            )
        )
        return Part(
            keys=tuple(wire.key(kv, has_value=has_values) for kv in answer.kvs),
            count=answer.count,
            newest=answer.header.revision,
            has_more=answer.more,
        )

    def count(self, keys: KeyRange, revision: int = 0) -> int:
        request = rpc_pb2.RangeRequest(
            key=keys.start, range_end=keys.end, count_only=True, revision=revision
        )
        return int(self._range(request).count)

    def key(self, key: bytes, revision: int = 0) -> tuple[Key | None, int]:
        """The key as of `revision` (0: newest) and the store's newest revision."""
        answer = self._range(rpc_pb2.RangeRequest(key=key, revision=revision))
        found = wire.key(answer.kvs[0], has_value=True) if answer.kvs else None
        return found, answer.header.revision

    def keys_at(self, keys: Sequence[bytes], revision: int) -> list[Key | None]:
        """Several keys as of one revision, in one read-only txn (spec/kv.md T6); in more where
        they would not fit one message."""
        reads = [
            rpc_pb2.RequestOp(
                request_range=rpc_pb2.RangeRequest(
                    key=key, revision=revision, serializable=self.is_serializable
                )
            )
            for key in keys
        ]
        try:
            answer = self._read(lambda stubs: stubs.kv.Txn, rpc_pb2.TxnRequest(success=reads))
        except TooLarge:
            if len(keys) == 1:
                raise
            half = len(keys) // 2
            return self.keys_at(keys[:half], revision) + self.keys_at(keys[half:], revision)
        found = [one.response_range.kvs for one in answer.responses]
        return [wire.key(kvs[0], has_value=True) if kvs else None for kvs in found]

    def newest_revision(self, keys: KeyRange) -> int:
        """The store's newest revision, asked over a range the connection may read. (The header of
        MemberList would say 0: console.md §3 trap 14.)"""
        request = rpc_pb2.RangeRequest(key=keys.start, count_only=True)
        return int(self._range(request).header.revision)

    def history(self, keys: KeyRange, *, start: int, until: int, known_last: int = 0) -> History:
        """The newest events from `start` to `until`. `known_last`: no later one exists."""
        scan = Scan(self._client, keys, start=start, until=until, known_last=known_last)
        return scan.newest()

    def scan(self, keys: KeyRange, *, start: int, until: int, seconds: float | None = None) -> Scan:
        """The same event by event, for who keeps less than the events."""
        return Scan(self._client, keys, start=start, until=until, seconds=seconds)

    def compacted(self, keys: KeyRange, newest: int) -> int:
        return compact_revision(self._client, keys, newest)

    def feed(
        self, starts: Iterable[tuple[KeyRange, int]], *, puts: bool, deletes: bool, **wanted: Any
    ) -> Feed:
        """A live watch of ranges, each from its revision on; `wanted` as `Feed` takes it. The
        caller starts and closes it."""
        return feed_of(self._client, starts, puts=puts, deletes=deletes, **wanted)

    def lease_time(self, lease: int, *, has_keys: bool = False) -> LeaseTime:
        answer = self._read(
            lambda stubs: stubs.lease.LeaseTimeToLive,
            rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=has_keys),
        )
        return LeaseTime(lease, answer.TTL, answer.grantedTTL, tuple(sorted(answer.keys)))

    def leases(self, skip: int, limit: int) -> LeaseList:
        """A page of leases in the order of their ids, each with its keys. One that ended between
        the list and the question is left out. Where keys may not be read, only the list is."""
        answer = self._read(lambda stubs: stubs.lease.LeaseLeases, rpc_pb2.LeaseLeasesRequest())
        ids = sorted(lease.ID for lease in answer.leases)
        found: list[LeaseTime] = []
        unseen, why = 0, ""
        for lease in ids[skip : skip + limit]:
            try:
                one = self.lease_time(lease, has_keys=True)
            except Denied as error:
                unseen, why = unseen + 1, error.message
                continue
            if not one.is_gone:
                found.append(one)
        return LeaseList(tuple(found), len(ids), unseen, why)

    def members(self) -> tuple[list[Member], str | None]:
        """Every member with its own Status, asked at once; the second value says why the list
        itself could not be had, in which case the endpoints stand for the members. One that is
        silent costs a moment (looks.py)."""
        client = self._client
        configured = client.config.endpoints
        are_silent = looks.are_silent(client, configured)
        try:
            listed = client.read(
                lambda stubs: stubs.cluster.MemberList,
                # Served by any member alone, so that a cluster without quorum can be looked at.
                rpc_pb2.MemberListRequest(linearizable=False),
                SILENT_SECONDS if are_silent else STATUS_SECONDS,
            )
        except CallFailed as error:
            if error.code is Code.DEADLINE_EXCEEDED:
                looks.note_silent(client, configured)
            return self._members_by_endpoint(), f"{error.code.name}: {error.message}"
        advertised = [
            endpoint
            for member in listed.members
            for endpoint in wire.endpoints_of(member.clientURLs)
            # Credentials of a TLS connection never leave over plain text.
            if endpoint.is_tls or not any(one.is_tls for one in configured)
        ]
        answers = looks.status(client, list(dict.fromkeys([*configured, *advertised])))
        ours = [a for a in answers if wire.is_of(a, listed.header.cluster_id)]
        members = [wire.member_of(member, ours, answers) for member in listed.members]
        return sorted(members, key=lambda member: (member.name, member.id)), None

    def _members_by_endpoint(self) -> list[Member]:
        client = self._client
        answers = looks.status(client, client.config.endpoints)
        return [wire.nameless_member(answer) for answer in answers]

    def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        request.serializable = self.is_serializable
        return self._read(lambda stubs: stubs.kv.Range, request)

    def _read(self, pick, request):  # type: ignore[no-untyped-def]
        try:
            return self._client.read(pick, request, READ_SECONDS)
        except CallFailed as error:
            raise domain_error(error) from None
