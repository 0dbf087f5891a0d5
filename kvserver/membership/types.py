"""The one value of membership: a member."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the cluster. An empty name means it has never started (spec/cluster.md §3)."""

    id: int
    peer_urls: tuple[str, ...] = ()
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        return bool(self.name)
