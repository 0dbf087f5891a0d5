"""The only door to a cluster: wire messages in, frozen records and a few domain errors out.

A `Reader` has no method that changes anything; views that answer GET are given one, so that
opening a page cannot write (console.md §3 trap 12). A `Writer` is a `Reader` that may.
Nothing else in the console imports `kvserver.client` or sees a protobuf message.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from console.clusters.secrets import decrypt
from console.keys.paging import FROM_NUL, PAGE_KEYS, KeyRange, Page
from console.models import Cluster
from console.overview.health import Member, MemberStatus
from kvserver.client import Answer, CallFailed, Client, ClientConfig, Endpoint
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

READ_SECONDS = 6.0
WRITE_SECONDS = 8.0
STATUS_SECONDS = 2.0


class ClusterError(Exception):
    """A call that gave no result. `code` is the gRPC code's name, `message` the server's words."""

    def __init__(self, code: str, message: str, endpoint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.endpoint = endpoint


class Unreachable(ClusterError):
    """No endpoint answered in time."""


class Compacted(ClusterError):
    """The revision asked for is gone."""


class Denied(ClusterError):
    """The connection's etcd user may not do this, or could not sign in."""


class TooLarge(ClusterError):
    """The answer is larger than the console takes in one message."""


class FateUnknown(ClusterError):
    """A write was sent and no answer came: it may or may not have happened."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key at one revision. `value` is None where only keys were asked for."""

    key: bytes
    value: bytes | None
    create_revision: int
    mod_revision: int
    version: int
    lease: int

    @property
    def lease_hex(self) -> str:
        return f"{self.lease:x}"

    @property
    def size_bytes(self) -> int | None:
        return None if self.value is None else len(self.value)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of keys. `total` counts the whole range at `revision`, this page included."""

    page: Page
    keys: tuple[Key, ...]
    total: int
    revision: int
    has_more: bool
    has_values: bool

    @property
    def next_page(self) -> Page | None:
        if not self.has_more or not self.keys:
            return None
        return self.page.following(self.keys[-1].key, len(self.keys), self.revision)


@dataclass(frozen=True, slots=True)
class LeaseTime:
    """`remaining_seconds` below 0: the lease is gone."""

    id: int
    remaining_seconds: int
    granted_seconds: int


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a guarded write. On a conflict nothing was written and `found` is what the
    key holds now, None when it does not exist."""

    is_done: bool
    revision: int
    found: Key | None = None


class Reader:
    """Everything the console asks of a cluster without changing it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

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
        answer = self._range(
            rpc_pb2.RangeRequest(
                key=page.start,
                range_end=page.range.end,
                limit=PAGE_KEYS,
                revision=page.revision,
                keys_only=not has_values,
            )
        )
        return Listing(
            page=page,
            keys=tuple(_key(kv, has_value=has_values) for kv in answer.kvs),
            total=page.seen + answer.count,
            revision=page.revision or answer.header.revision,
            has_more=answer.more,
            has_values=has_values,
        )

    def count(self, keys: KeyRange) -> int:
        request = rpc_pb2.RangeRequest(key=keys.start, range_end=keys.end, count_only=True)
        return int(self._range(request).count)

    def key(self, key: bytes, revision: int = 0) -> tuple[Key | None, int]:
        """The key as of `revision` (0: newest) and the store's newest revision."""
        answer = self._range(rpc_pb2.RangeRequest(key=key, revision=revision))
        found = _key(answer.kvs[0], has_value=True) if answer.kvs else None
        return found, answer.header.revision

    def lease_time(self, lease: int) -> LeaseTime:
        answer = self._read(
            lambda stubs: stubs.lease.LeaseTimeToLive, rpc_pb2.LeaseTimeToLiveRequest(ID=lease)
        )
        return LeaseTime(lease, answer.TTL, answer.grantedTTL)

    def members(self) -> tuple[list[Member], str | None]:
        """Every member with its own Status, asked at once; the second value says why the list
        itself could not be had, in which case the endpoints stand for the members."""
        client = self._client
        configured = client.config.endpoints
        try:
            listed = client.read(
                lambda stubs: stubs.cluster.MemberList,
                # Served by any member alone, so that a cluster without quorum can be looked at.
                rpc_pb2.MemberListRequest(linearizable=False),
                STATUS_SECONDS * 2,
            )
        except CallFailed as error:
            return self._members_by_endpoint(), f"{error.code.name}: {error.message}"
        advertised = [
            endpoint
            for member in listed.members
            for endpoint in _endpoints(member.clientURLs)
            # Credentials of a TLS connection never leave over plain text.
            if endpoint.is_tls or not any(one.is_tls for one in configured)
        ]
        answers = self._status(dict.fromkeys([*configured, *advertised]))
        ours = [a for a in answers if _is_of(a, listed.header.cluster_id)]
        members = [_member(member, ours, answers) for member in listed.members]
        return sorted(members, key=lambda member: (member.name, member.id)), None

    def _members_by_endpoint(self) -> list[Member]:
        answers = self._status(self._client.config.endpoints)
        return [_nameless_member(answer) for answer in answers]

    def _status(self, endpoints: Iterable[Endpoint]) -> list[Answer]:
        return self._client.fan_out(
            endpoints,
            lambda stubs: stubs.maintenance.Status,
            rpc_pb2.StatusRequest(),
            STATUS_SECONDS,
        )

    def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        return self._read(lambda stubs: stubs.kv.Range, request)

    def _read(self, pick, request):  # type: ignore[no-untyped-def]
        try:
            return self._client.read(pick, request, READ_SECONDS)
        except CallFailed as error:
            raise domain_error(error) from None


class Writer(Reader):
    """A reader that may also write. Every write of a key is one guarded txn (traps 1 and 2)."""

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        base_mod_revision: int,
        lease: int = 0,
        keeps_lease: bool = False,
    ) -> Written:
        """Put if the key's mod_revision still is `base_mod_revision` (0: if it does not exist)."""
        put = rpc_pb2.PutRequest(key=key, value=value, lease=lease, ignore_lease=keeps_lease)
        return self._guarded(key, base_mod_revision, rpc_pb2.RequestOp(request_put=put))

    def delete(self, key: bytes, *, base_mod_revision: int) -> Written:
        """Delete if the key's mod_revision still is `base_mod_revision`."""
        delete = rpc_pb2.DeleteRangeRequest(key=key)
        return self._guarded(key, base_mod_revision, rpc_pb2.RequestOp(request_delete_range=delete))

    def _guarded(self, key: bytes, mod_revision: int, operation: rpc_pb2.RequestOp) -> Written:
        compare = rpc_pb2.Compare(
            key=key,
            target=rpc_pb2.Compare.MOD,
            result=rpc_pb2.Compare.EQUAL,
            mod_revision=mod_revision,
        )
        read = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))
        txn = rpc_pb2.TxnRequest(compare=[compare], success=[operation], failure=[read])
        try:
            answer = self._client.write(lambda stubs: stubs.kv.Txn, txn, WRITE_SECONDS)
        except CallFailed as error:
            raise domain_error(error) from None
        if answer.succeeded:
            return Written(True, answer.header.revision)
        kvs = answer.responses[0].response_range.kvs
        found = _key(kvs[0], has_value=True) if kvs else None
        return Written(False, answer.header.revision, found)


class Clients:
    """One shared `Client` a connection, made anew when the connection was changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[int, tuple[object, Client]] = {}

    def of(self, cluster: Cluster) -> Client:
        with self._lock:
            stamp, client = self._clients.get(cluster.pk, (None, None))
            if client is None or stamp != cluster.changed_at:
                if client is not None:
                    client.close()
                client = Client(client_config(cluster))
                self._clients[cluster.pk] = (cluster.changed_at, client)
            return client

    def close(self) -> None:
        with self._lock:
            for _, client in self._clients.values():
                client.close()
            self._clients.clear()


clients = Clients()


def client_config(cluster: Cluster) -> ClientConfig:
    return ClientConfig(
        endpoints=tuple(Endpoint.parse(text) for text in cluster.endpoint_list),
        tls_ca=cluster.tls_ca.encode() or None,
        tls_certificate=cluster.tls_certificate.encode() or None,
        tls_key=decrypt(cluster.tls_key_encrypted).encode() or None,
        tls_server_name=cluster.tls_server_name or None,
        user=cluster.etcd_user or None,
        password=decrypt(cluster.etcd_password_encrypted) or None,
    )


def check_endpoint(text: str) -> str:
    """The endpoint in its one spelling; ValueError says what is wrong with it."""
    return str(Endpoint.parse(text))


def domain_error(error: CallFailed) -> ClusterError:
    kind: type[ClusterError] = ClusterError
    if error.fate_is_unknown:
        kind = FateUnknown
    elif error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}:
        kind = Unreachable
    elif "revision has been compacted" in error.message:
        kind = Compacted
    elif error.code in {Code.PERMISSION_DENIED, Code.UNAUTHENTICATED} or _is_sign_in(error):
        kind = Denied
    elif error.code is Code.RESOURCE_EXHAUSTED and "larger than max" in error.message:
        kind = TooLarge
    return kind(error.code.name, error.message, error.endpoint)


def _is_sign_in(error: CallFailed) -> bool:
    """etcd answers INVALID_ARGUMENT when a user is needed and none, or a wrong one, came."""
    return error.message.endswith(("user name is empty", "invalid user ID or password"))


def _key(kv: rpc_pb2.mvccpb.KeyValue, *, has_value: bool) -> Key:  # type: ignore[name-defined]
    return Key(
        key=kv.key,
        value=kv.value if has_value else None,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def _endpoints(urls: Iterable[str]) -> list[Endpoint]:
    """The addresses among advertised URLs that can be dialled."""
    endpoints = []
    for url in urls:
        try:
            endpoints.append(Endpoint.parse(url))
        except ValueError:
            continue
    return endpoints


def _is_of(answer: Answer, cluster_id: int) -> bool:
    """An advertised address such as http://localhost:2379 may lead to another cluster here."""
    return answer.response is not None and answer.response.header.cluster_id == cluster_id


def _member(member: rpc_pb2.Member, ours: list[Answer], answers: list[Answer]) -> Member:
    said = [answer for answer in ours if answer.response.header.member_id == member.ID]
    best = min(said, key=lambda answer: answer.round_trip_seconds, default=None)
    tried = set(_endpoints(member.clientURLs))
    failure = next((a.failure for a in answers if a.failure and a.endpoint in tried), None)
    return Member(
        id=member.ID,
        name=member.name,
        is_learner=member.isLearner,
        endpoints=tuple(member.clientURLs),
        status=_status(best.response) if best else None,
        failure=why_silent(failure) if failure and not best else None,
        round_trip_seconds=best.round_trip_seconds if best else None,
    )


def why_silent(failure: CallFailed) -> str:
    """A failed Status in a few words: gRPC wraps the cause in the names of what it went through."""
    if failure.code is Code.DEADLINE_EXCEEDED:
        return f"no answer within {STATUS_SECONDS:.0f} s"
    cause = failure.message.rsplit(": ", 1)[-1].partition(" (")[0]
    if failure.code is Code.UNAVAILABLE and cause:
        return cause[:1].lower() + cause[1:80]
    return f"{failure.code.name}: {failure.message}"[:120]


def _nameless_member(answer: Answer) -> Member:
    """An endpoint standing for the member behind it, when the member list cannot be had."""
    response, failure = answer.response, answer.failure
    return Member(
        id=response.header.member_id if response else 0,
        name="",
        is_learner=bool(response and response.isLearner),
        endpoints=(str(answer.endpoint),),
        status=_status(response) if response else None,
        failure=why_silent(failure) if failure else None,
        round_trip_seconds=answer.round_trip_seconds if response else None,
    )


def _status(response: rpc_pb2.StatusResponse) -> MemberStatus:
    return MemberStatus(
        version=response.version,
        db_size_bytes=response.dbSize,
        db_in_use_bytes=response.dbSizeInUse,
        db_quota_bytes=response.dbSizeQuota,
        leader_id=response.leader,
        raft_term=response.raftTerm,
        raft_index=response.raftIndex,
        applied_index=response.raftAppliedIndex,
        revision=response.header.revision,
        is_learner=response.isLearner,
        errors=tuple(response.errors),
    )


__all__ = [
    "FROM_NUL",
    "ClusterError",
    "Compacted",
    "Denied",
    "FateUnknown",
    "Key",
    "LeaseTime",
    "Listing",
    "Reader",
    "TooLarge",
    "Unreachable",
    "Writer",
    "Written",
    "check_endpoint",
    "clients",
]
