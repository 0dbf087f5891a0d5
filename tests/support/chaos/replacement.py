"""A member is lost for good and another one takes its place (spec/cluster.md §3, §2.2).

Remove the lost one, add a learner with an empty directory, start it, promote it once it has
caught up: while the clients go on.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import grpc

from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.cluster import ChaosMember
from tests.support.chaos.faults import Fault, Scene

STEP_SECONDS_MAX = 120.0
CALL_SECONDS_MAX = 5.0
PAUSE_SECONDS = 0.1
T = TypeVar("T")


class Replace(Fault):
    """Alone in its round: a change of members needs a healthy cluster, and is checked for it."""

    def strike(self, scene: Scene) -> None:
        (victim,) = self.victims
        number = self._retried(scene, lambda: _id_of(self._helper(scene), victim.name))
        if scene.dice.random() < 0.7:
            victim.kill()
        self._remove(scene, number)
        scene.cluster.drop(victim)
        newcomer = scene.cluster.newcomer()
        number = self._add(scene, newcomer)
        newcomer.spawn()
        scene.tell(f"  {newcomer.label} joins")
        self._promote(scene, number)
        scene.tell(f"  {newcomer.label} votes")

    def _helper(self, scene: Scene) -> ChaosMember:
        """Some member that may be asked to change the membership."""
        unfit = {each.name for each in self.victims}
        fit = [m for m in scene.cluster.members if m.name not in unfit and m.lives]
        return scene.dice.choice(fit)

    def _remove(self, scene: Scene, number: int) -> None:
        def step() -> bool:
            cluster = self._helper(scene).cluster
            if number not in _members(cluster):
                return True
            cluster.MemberRemove(rpc.MemberRemoveRequest(ID=number), timeout=CALL_SECONDS_MAX)
            return True

        self._retried(scene, step)

    def _add(self, scene: Scene, newcomer: ChaosMember) -> int:
        def step() -> int | None:
            cluster = self._helper(scene).cluster
            for number, member in _members(cluster).items():
                if newcomer.peer_url in member.peerURLs:
                    return number
            request = rpc.MemberAddRequest(peerURLs=[newcomer.peer_url], isLearner=True)
            return int(cluster.MemberAdd(request, timeout=CALL_SECONDS_MAX).member.ID)

        return self._retried(scene, step)

    def _promote(self, scene: Scene, number: int) -> None:
        def step() -> bool:
            cluster = self._helper(scene).cluster
            if not _members(cluster)[number].isLearner:
                return True
            request = rpc.MemberPromoteRequest(ID=number)
            cluster.MemberPromote(request, timeout=CALL_SECONDS_MAX)
            return True

        self._retried(scene, step)

    def _retried(self, scene: Scene, step: Callable[[], T | None]) -> T:
        """The first answer; errors of the passing kind are what the deadline is for."""
        deadline = monotonic() + STEP_SECONDS_MAX
        last = "nothing"
        while monotonic() < deadline:
            try:
                answer = step()
            except grpc.RpcError as error:
                last = str(error.details())
            else:
                if answer is not None:
                    return answer
            scene.wait(PAUSE_SECONDS)
        raise AssertionError(f"not within {STEP_SECONDS_MAX} s; the last answer was: {last}")


def _members(cluster: Any) -> dict[int, rpc.Member]:
    request = rpc.MemberListRequest(linearizable=True)
    return {m.ID: m for m in cluster.MemberList(request, timeout=CALL_SECONDS_MAX).members}


def _id_of(helper: ChaosMember, name: str) -> int | None:
    return next((n for n, m in _members(helper.cluster).items() if m.name == name), None)
