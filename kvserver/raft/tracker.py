"""The members as this one sees them: configuration, progress of each, votes of a campaign.

Owner: the event loop, through `Raft`.
"""

from __future__ import annotations

from kvserver.raft.confchange import Configuration
from kvserver.raft.inflights import Inflights
from kvserver.raft.progress import Progress
from kvserver.raft.quorum import VoteResult, joint_index, joint_vote


class ProgressTracker:
    __slots__ = ("configuration", "inflight_appends_max", "progress", "sole_voter", "votes")

    def __init__(self, inflight_appends_max: int) -> None:
        self.inflight_appends_max = inflight_appends_max
        self.configuration = Configuration()
        self.sole_voter = 0
        """The voter of a configuration that has just one, else 0."""
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def adopt(self, configuration: Configuration, last_index: int) -> None:
        """Go over to another configuration: drop those who left, take in those who came.

        A newcomer's first append carries the last entry, and it counts as active so that it may
        get a snapshot and does not unseat the leader (spec/raft.md §6.3).
        """
        self.configuration = configuration
        members = configuration.members
        for member in [member for member in self.progress if member not in members]:
            del self.progress[member]
        for member in sorted(members - self.progress.keys()):
            progress = Progress(max(last_index, 1), Inflights(self.inflight_appends_max))
            progress.recent_active = True
            self.progress[member] = progress
        for member, progress in self.progress.items():
            progress.is_learner = member in configuration.learners
        voters = configuration.all_voters
        self.sole_voter = next(iter(voters)) if len(voters) == 1 else 0

    def reset_progress(self, last_index: int) -> None:
        """Begin anew, as a leader does: probe everybody from the end of our log on."""
        for member, old in self.progress.items():
            progress = Progress(last_index + 1, Inflights(self.inflight_appends_max))
            progress.is_learner = old.is_learner
            self.progress[member] = progress

    def committed_index(self) -> int:
        """Highest index that a majority of voters has on disk."""
        progress = self.progress
        configuration = self.configuration
        return joint_index(
            configuration.voters,
            configuration.voters_outgoing,
            lambda voter: progress[voter].match,
        )

    # -- votes

    def reset_votes(self) -> None:
        self.votes = {}

    def record_vote(self, voter: int, granted: bool) -> VoteResult:
        """Count a vote, the first of each voter only, and say what is decided."""
        self.votes.setdefault(voter, granted)
        configuration = self.configuration
        return joint_vote(configuration.voters, configuration.voters_outgoing, self.votes)

    # -- check quorum

    def take_quorum_active(self, self_id: int) -> bool:
        """Whether a majority was heard from since the last call; everybody starts silent again."""
        active = {
            member: progress.recent_active or member == self_id
            for member, progress in self.progress.items()
            if not progress.is_learner
        }
        for member, progress in self.progress.items():
            progress.recent_active = member == self_id
        configuration = self.configuration
        result = joint_vote(configuration.voters, configuration.voters_outgoing, active)
        return result is VoteResult.WON
