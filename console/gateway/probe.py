"""A connection tried before it is kept: every endpoint asked who it is, then a read as its user.

Nothing of it is shared or kept: the client is made for this one look and closed after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.gateway.clients import client_config
from console.gateway.wire import why_silent
from console.models import Cluster
from kvserver.client import Answer, CallFailed, Client
from kvserver.errors import Code
from kvserver.proto import rpc_pb2

PROBE_SECONDS = 4.0

HINTS = (
    ("certificate verify failed", "The CA certificates do not vouch for this endpoint."),
    ("Hostname", "The certificate is for another name: set the server name, or use that name."),
    ("WRONG_VERSION_NUMBER", "This endpoint does not speak TLS: try http://."),
    ("tlsv1 alert", "The endpoint refused the handshake: it may want a client certificate."),
    ("certificate required", "The endpoint wants a client certificate."),
    ("Connection refused", "Nothing listens there."),
    ("no answer within", "Nothing answered: a firewall, or TLS where plain text was tried."),
    ("Socket closed", "The connection was cut: TLS where plain text was tried, or the reverse."),
    ("DNS", "The host name is not known here."),
)
"""What a failed dial usually means, by a part of what it says."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One endpoint."""

    endpoint: str
    is_good: bool
    said: str
    hint: str = ""
    version: str = ""
    cluster_id: str = ""
    member_id: str = ""
    round_trip_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """`reading` is what became of a read of one key as the connection's user, "" when it worked."""

    endpoints: tuple[Tried, ...]
    reading: str
    user: str
    members: int

    @property
    def is_good(self) -> bool:
        return all(one.is_good for one in self.endpoints) and not self.reading and not self.splits

    @property
    def splits(self) -> bool:
        """Whether the endpoints lead to different clusters."""
        return len({one.cluster_id for one in self.endpoints if one.cluster_id}) > 1


def probe(cluster: Cluster) -> Probe:
    """Try a connection that need not be stored. Raises `ValueError` for material that is none,
    such as a key that cannot be read."""
    client = Client(client_config(cluster))
    try:
        answers = client.fan_out(
            client.config.endpoints,
            lambda stubs: stubs.maintenance.Status,
            rpc_pb2.StatusRequest(),
            PROBE_SECONDS,
        )
        tried = tuple(_tried(answer) for answer in answers)
        reading, members = _read(client, answers)
        return Probe(tried, reading, cluster.user_name, members)
    finally:
        client.close()


def _tried(answer: Answer) -> Tried:
    endpoint = str(answer.endpoint)
    if answer.response is not None:
        header = answer.response.header
        return Tried(
            endpoint,
            True,
            "answers",
            version=answer.response.version,
            cluster_id=f"{header.cluster_id:x}",
            member_id=f"{header.member_id:x}",
            round_trip_seconds=answer.round_trip_seconds,
        )
    assert answer.failure is not None
    if _is_refusal(answer.failure):
        # It speaks etcd and does not want this user: the connection itself is good.
        return Tried(endpoint, True, f"answers, and refuses: {answer.failure.message}")
    said = why_silent(answer.failure)
    whole = f"{answer.failure.message} {said}"
    hint = next((words for part, words in HINTS if part in whole), "")
    return Tried(endpoint, False, said, hint)


def _is_refusal(failure: CallFailed) -> bool:
    return failure.code in {Code.UNAUTHENTICATED, Code.PERMISSION_DENIED} or (
        failure.code is Code.INVALID_ARGUMENT and failure.message.startswith("etcdserver: ")
    )


def _read(client: Client, answers: Sequence[Answer]) -> tuple[str, int]:
    """A read and the member list, as the connection's user; why not, and how many members."""
    if not any(a.response is not None or _is_refusal(a.failure) for a in answers if a):  # type: ignore[arg-type]
        return "No endpoint answers.", 0
    try:
        client.read(lambda s: s.kv.Range, rpc_pb2.RangeRequest(key=b"\0"), PROBE_SECONDS)
    except CallFailed as error:
        if error.code is not Code.PERMISSION_DENIED:  # signed in, without a right to this key
            return f"{error.code.name}: {error.message}", 0
    try:
        request = rpc_pb2.MemberListRequest(linearizable=False)
        listed = client.read(lambda s: s.cluster.MemberList, request, PROBE_SECONDS)
    except CallFailed:
        return "", 0
    return "", len(listed.members)
