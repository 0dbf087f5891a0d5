"""What counts as the same answer, and what a run of operations on two members comes to.

Left out of the comparison: cluster id, member id and term (only whether they are filled counts,
spec/kv.md H1), the remaining seconds of leases, and the order of lists that
have none. Everything else is equal, or explained by exactly one rule of `differences`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from kvserver.proto import rpc_pb2 as rpc
from tests.compat import differences
from tests.compat.driver import KEEP_ALIVE, KV, LEASE, MAINTENANCE, OWN_WATCH_IDS
from tests.compat.operations import Operation, World

REQUESTS: dict[str, type[Message]] = {
    KV + "Put": rpc.PutRequest,
    KV + "Range": rpc.RangeRequest,
    KV + "DeleteRange": rpc.DeleteRangeRequest,
    KV + "Txn": rpc.TxnRequest,
    KV + "Compact": rpc.CompactionRequest,
    LEASE + "LeaseGrant": rpc.LeaseGrantRequest,
    LEASE + "LeaseRevoke": rpc.LeaseRevokeRequest,
    LEASE + "LeaseTimeToLive": rpc.LeaseTimeToLiveRequest,
    LEASE + "LeaseLeases": rpc.LeaseLeasesRequest,
    MAINTENANCE + "HashKV": rpc.HashKVRequest,
    MAINTENANCE + "Alarm": rpc.AlarmRequest,
    MAINTENANCE + "Defragment": rpc.DefragmentRequest,
    MAINTENANCE + "Status": rpc.StatusRequest,
    KEEP_ALIVE: rpc.LeaseKeepAliveRequest,
}
RESPONSES: dict[str, type[Message]] = {
    KV + "Put": rpc.PutResponse,
    KV + "Range": rpc.RangeResponse,
    KV + "DeleteRange": rpc.DeleteRangeResponse,
    KV + "Txn": rpc.TxnResponse,
    KV + "Compact": rpc.CompactionResponse,
    LEASE + "LeaseGrant": rpc.LeaseGrantResponse,
    LEASE + "LeaseRevoke": rpc.LeaseRevokeResponse,
    LEASE + "LeaseTimeToLive": rpc.LeaseTimeToLiveResponse,
    LEASE + "LeaseLeases": rpc.LeaseLeasesResponse,
    MAINTENANCE + "HashKV": rpc.HashKVResponse,
    MAINTENANCE + "Alarm": rpc.AlarmResponse,
    MAINTENANCE + "Defragment": rpc.DefragmentResponse,
    MAINTENANCE + "Status": rpc.StatusResponse,
    KEEP_ALIVE: rpc.LeaseKeepAliveResponse,
}
REMAINING_SECONDS_MAX = 9_000
"""Leases of a run are granted for far longer than this; a run is shorter."""
_TIMELESS = {LEASE + "LeaseTimeToLive", LEASE + "LeaseLeases"}


@dataclass(slots=True)
class Outcome:
    """One answered call: status, message text, and the reply made comparable."""

    code: int
    details: str
    reply: Any

    def __str__(self) -> str:
        if self.code:
            return f"error {self.code} {self.details!r}"
        return str(self.reply).replace("\n", " ")


def outcome_of(path: str, recorded: tuple[int, str, bytes]) -> Outcome:
    code, details, body = recorded
    reply = RESPONSES[path].FromString(body)
    if not code:
        _level(path, reply)
    return Outcome(code, details, reply)


def level_header(header: rpc.ResponseHeader) -> None:
    """Ids differ by member; that they are there is what matters."""
    header.cluster_id = int(bool(header.cluster_id))
    header.member_id = int(bool(header.member_id))
    header.raft_term = int(bool(header.raft_term))


def _level(path: str, reply: Any) -> None:
    if reply.HasField("header"):
        level_header(reply.header)
    if path not in _TIMELESS:
        return
    if path == LEASE + "LeaseTimeToLive":
        if 0 <= reply.grantedTTL - reply.TTL <= REMAINING_SECONDS_MAX:
            reply.TTL = reply.grantedTTL
        keys = sorted(reply.keys)
        del reply.keys[:]
        reply.keys.extend(keys)
    else:
        leases = sorted(lease.ID for lease in reply.leases)
        del reply.leases[:]
        reply.leases.extend(rpc.LeaseStatus(ID=lease) for lease in leases)


@dataclass(slots=True)
class Difference:
    """A finding: what was asked, what each side answered."""

    number: int
    asked: str
    reference: str
    subject: str
    reread: bytes = b""
    """A Range that asks for the same at the revision of then; nothing for other calls."""
    afterwards: str = ""
    """What both answer to that: the side that says something else now was wrong then."""

    def __str__(self) -> str:
        return (
            f"operation {self.number}: {self.asked}\n"
            f"  reference: {self.reference}\n  subject:   {self.subject}{self.afterwards}"
        )


class Judge:
    """Compares what two members of given versions recorded."""

    def __init__(self, reference: str, subject: str, world: World) -> None:
        self.rules = differences.between(reference, subject)
        self.world = world
        self.explained: dict[str, int] = {}
        self.differences: list[Difference] = []
        self.operations = 0

    def calls(
        self, operations: Sequence[Operation], reference: list[Any], subject: list[Any]
    ) -> None:
        for operation, one, other in zip(operations, reference, subject, strict=True):
            self.operations += 1
            if operation[0] == "call":
                self._call(operation[1], operation[2], one, other)
            elif operation[0] == "keepalive":
                request = rpc.LeaseKeepAliveRequest(ID=operation[1])
                self._call(KEEP_ALIVE, request.SerializeToString(), one, other)
            elif operation[0] == "progress":
                self._progress(one, other)
            elif one != other:
                self._differ(str(operation), str(one), str(other))

    def _call(self, path: str, request: bytes, one: Any, other: Any) -> None:
        reference, subject = outcome_of(path, one), outcome_of(path, other)
        case = differences.Case(
            path, REQUESTS[path].FromString(request), reference, subject, self.world
        )
        for rule in self.rules:
            if rule.translate is not None and rule.translate(case):
                self._explain(rule.name)
        if reference == subject:
            return
        for rule in self.rules:
            if rule.explains is not None and rule.explains(case):
                self._explain(rule.name)
                return
        asked = f"{path} {str(case.request).strip()}".replace("\n", " ")
        self._differ(asked, str(reference), str(subject))
        if path == KV + "Range" and not subject.code:
            again = rpc.RangeRequest.FromString(request)
            again.revision = again.revision or subject.reply.header.revision
            self.differences[-1].reread = again.SerializeToString()

    def _progress(self, one: bytes, other: bytes) -> None:
        responses = [rpc.WatchResponse.FromString(reply) for reply in (one, other)]
        for response in responses:
            level_header(response.header)
        if responses[0] != responses[1]:
            self._differ("progress request", str(responses[0]), str(responses[1]))

    def _explain(self, rule: str) -> None:
        self.explained[rule] = self.explained.get(rule, 0) + 1

    def _differ(self, asked: str, reference: str, subject: str) -> None:
        self.differences.append(Difference(self.operations, asked, reference, subject))

    # Watches

    def watches(self, reference: dict[int, Any], subject: dict[int, Any]) -> list[str]:
        """Complaints about watch streams; empty when all of them told the same story."""
        found = []
        for stream in sorted(reference.keys() | subject.keys()):
            sides = []
            for logs in (reference, subject):
                replies, ended = logs.get(stream, ([], None))
                sides.append(stream_story(replies, f"stream {stream}"))
                if ended is not None:
                    found.append(f"stream {stream} ended: {ended}")
            found += self._stories(stream, sides[0], sides[1])
        return found

    def _stories(self, stream: int, one: StreamStory, other: StreamStory) -> list[str]:
        found = one.complaints + other.complaints
        if one.controls != other.controls:
            unequal = _first_unequal(one.controls, other.controls)
            found.append(f"stream {stream} controls: {unequal}")
        for watch_id in sorted(one.watchers.keys() | other.watchers.keys()):
            mine = one.watchers.get(watch_id, [])
            theirs = other.watchers.get(watch_id, [])
            if mine != theirs:
                start = self.world.starts.get((stream, watch_id), (0, -1))
                rule = differences.explain_watch(self.rules, start, mine, theirs, self.world)
                if rule is not None:
                    self._explain(rule)
                    continue
                found.append(
                    f"stream {stream} watcher {watch_id} (start, compacted at {start}): "
                    f"{_first_unequal(mine, theirs)}"
                )
        return found


@dataclass(slots=True)
class StreamStory:
    """One watch stream told without regard to how events were batched."""

    controls: list[str]
    watchers: dict[int, list[str]]
    complaints: list[str]


def stream_story(replies: Sequence[bytes], label: str) -> StreamStory:
    """Control responses in order, each watcher's events in order, and broken promises."""
    story = StreamStory([], {}, [])
    newest: dict[int, int] = {}
    for body in replies:
        response = rpc.WatchResponse.FromString(body)
        watch_id = response.watch_id
        if watch_id in OWN_WATCH_IDS or (watch_id == -1 and not response.created):
            continue
        own = story.watchers.setdefault(watch_id, [])
        if response.compact_revision:
            level_header(response.header)
            own.append("compacted " + str(response).replace("\n", " "))
        elif response.created or response.canceled:
            level_header(response.header)
            story.controls.append(str(response).replace("\n", " "))
            # A reused id starts a new story.
            newest.pop(watch_id, None)
        else:
            _events(story, newest, response, own, label)
    return story


def _events(
    story: StreamStory,
    newest: dict[int, int],
    response: rpc.WatchResponse,
    own: list[str],
    label: str,
) -> None:
    watch_id = response.watch_id
    if not response.events:
        story.complaints.append(f"{label}: an empty response for watcher {watch_id}")
        return
    for event in response.events:
        own.append(f"{event.kv.mod_revision} " + str(event).replace("\n", " "))
    revisions = [event.kv.mod_revision for event in response.events]
    # spec/watch.md V4, V8: one revision's events come together, and revisions never go back.
    if revisions != sorted(revisions) or revisions[0] <= newest.get(watch_id, -1):
        story.complaints.append(f"{label}: watcher {watch_id} went back to {revisions[:5]}")
    if response.header.revision < revisions[-1]:
        story.complaints.append(f"{label}: header {response.header.revision} below its events")
    if not response.fragment:
        newest[watch_id] = revisions[-1]


def _first_unequal(one: list[str], other: list[str]) -> str:
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return f"at {number}: {a}\n  against: {b}"
    longer = one if len(one) > len(other) else other
    side = "reference" if longer is one else "subject"
    at = min(len(one), len(other))
    return f"only the {side} has, at {at}: {longer[at]} (and {len(longer) - at - 1} more)"
