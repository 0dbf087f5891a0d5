"""Who leads a cluster under test. What a test does to a member must not hang on whether that one
led, and nothing is to be asked of a cluster that is between two leaders."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from kvserver.client import CallFailed, Client, ClientConfig
from kvserver.proto import rpc_pb2
from tests.support.servers import Server
from tests.support.servers_proc import wait_until

SECONDS_MAX = 60.0
CALL_SECONDS = 5.0


def wait_level(servers: Sequence[Server]) -> Server:
    """Until all of these name one leader among them, have applied the same and told each other
    their names and addresses; who leads."""
    with Looking(servers) as looking:
        wait_until(lambda: looking.leader() is not None, SECONDS_MAX, "a leader, nobody behind")
        leader = looking.leader_before
        assert leader is not None
        return leader


def lead(servers: Sequence[Server], wanted: Server) -> None:
    """The leadership lies with `wanted` and everybody knows: none of the others is missed."""
    with Looking(servers) as looking:
        wait_until(lambda: looking.led_by(wanted), SECONDS_MAX, f"{wanted.name} leads")


class Looking:
    """One client of all of them."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = list(servers)
        self._client = Client(ClientConfig(tuple(server.endpoint for server in servers)))
        self._ids: dict[str, int] = {}
        self.leader_before: Server | None = None

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def leader(self) -> Server | None:
        """None while they do not agree, or one lags."""
        answers = self._client.fan_out(
            [server.endpoint for server in self._servers],
            lambda s: s.maintenance.Status,
            rpc_pb2.StatusRequest(),
            CALL_SECONDS,
        )
        found = [answer.response for answer in answers]
        if None in found:
            return None
        leaders, revisions, terms, applied = (
            {one.leader for one in found},
            {one.header.revision for one in found},
            {one.raftTerm for one in found},
            {one.raftAppliedIndex for one in found},
        )
        if not len(leaders) == len(revisions) == len(terms) == len(applied) == 1:
            return None
        ids = [one.header.member_id for one in found]
        self._ids = {server.name: one for server, one in zip(self._servers, ids, strict=True)}
        led = [s for s in self._servers if {self._ids[s.name]} == leaders]
        self.leader_before = led[0] if led and self._are_named() else None
        return self.leader_before

    def _are_named(self) -> bool:
        """A member tells its name and where its clients come in some time after it has started."""
        try:
            listed = self._client.read(
                lambda s: s.cluster.MemberList, rpc_pb2.MemberListRequest(), CALL_SECONDS
            )
        except CallFailed:
            return False
        return all(member.name and member.clientURLs for member in listed.members)

    def led_by(self, wanted: Server) -> bool:
        leader = self.leader()
        if leader is None or leader is wanted:
            return leader is wanted
        request = rpc_pb2.MoveLeaderRequest(targetID=self._ids[wanted.name])
        # Where an election comes between the next look sees it.
        with suppress(CallFailed):
            self._client.write_to(
                leader.endpoint, lambda s: s.maintenance.MoveLeader, request, CALL_SECONDS
            )
        return False
