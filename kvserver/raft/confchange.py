"""Configurations, and what a change makes of them: values in, values out (thesis §4).

A configuration names the voters and the learners. While it is joint it has two sets of voters,
and every decision needs a majority of both; `learners_next` are voters of the outgoing half that
become learners when it is left. etcd changes one member at a time and never enters a joint
configuration (spec/raft.md §10); both forms are here because the wire has both.

Invariants (`_checked`): nobody is voter and learner at once; learners_next are outgoing voters;
both are empty unless joint; there is always a voter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvserver.raft.invariants import check
from kvserver.raft.types import (
    NO_ID,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)

_NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Configuration:
    voters: frozenset[int] = _NOBODY
    voters_outgoing: frozenset[int] = _NOBODY
    learners: frozenset[int] = _NOBODY
    learners_next: frozenset[int] = _NOBODY
    auto_leave: bool = False

    @property
    def is_joint(self) -> bool:
        return bool(self.voters_outgoing)

    @property
    def all_voters(self) -> frozenset[int]:
        return self.voters | self.voters_outgoing if self.voters_outgoing else self.voters

    @property
    def members(self) -> frozenset[int]:
        return self.all_voters | self.learners

    def conf_state(self) -> ConfState:
        """As stored and sent: ascending IDs."""
        return ConfState(
            voters=tuple(sorted(self.voters)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.voters_outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=self.auto_leave,
        )


def restore(conf_state: ConfState) -> Configuration:
    """The configuration a ConfState describes."""
    configuration = Configuration(
        voters=frozenset(conf_state.voters),
        voters_outgoing=frozenset(conf_state.voters_outgoing),
        learners=frozenset(conf_state.learners),
        learners_next=frozenset(conf_state.learners_next),
        auto_leave=conf_state.auto_leave,
    )
    return configuration if configuration == Configuration() else _checked(configuration)


def change(configuration: Configuration, conf_change: ConfChangeV2) -> Configuration:
    """What an applied conf change makes of the configuration."""
    changes = conf_change.changes
    if not changes and conf_change.transition is ConfChangeTransition.AUTO:
        return _leave_joint(configuration)
    if conf_change.transition is not ConfChangeTransition.AUTO or len(changes) > 1:
        return _enter_joint(configuration, conf_change)
    return _simple(configuration, changes)


def _simple(configuration: Configuration, changes: tuple[ConfChangeSingle, ...]) -> Configuration:
    """One voter at most comes or goes, so old and new majorities overlap (thesis §4.1)."""
    check(not configuration.is_joint, "simple conf change in a joint configuration")
    changed = _apply(configuration, changes)
    moved = configuration.voters ^ changed.voters
    check(len(moved) <= 1, "a simple conf change may move one voter, not %d", len(moved))
    return _checked(changed)


def _enter_joint(configuration: Configuration, conf_change: ConfChangeV2) -> Configuration:
    check(not configuration.is_joint, "the configuration is joint already")
    check(bool(configuration.voters), "a configuration without voters cannot become joint")
    joint = replace(configuration, voters_outgoing=configuration.voters)
    auto_leave = conf_change.transition is not ConfChangeTransition.JOINT_EXPLICIT
    return _checked(replace(_apply(joint, conf_change.changes), auto_leave=auto_leave))


def _leave_joint(configuration: Configuration) -> Configuration:
    check(configuration.is_joint, "cannot leave a configuration that is not joint")
    return _checked(
        Configuration(
            voters=configuration.voters,
            learners=configuration.learners | configuration.learners_next,
        )
    )


def _apply(configuration: Configuration, changes: tuple[ConfChangeSingle, ...]) -> Configuration:
    for single in changes:
        # An application that finds a change invalid empties it by this ID (spec/raft-wire.md §4).
        if single.node_id != NO_ID:
            configuration = _CHANGES[single.type](configuration, single.node_id)
    return configuration


def _add_voter(configuration: Configuration, node_id: int) -> Configuration:
    return replace(
        configuration,
        voters=configuration.voters | {node_id},
        learners=configuration.learners - {node_id},
        learners_next=configuration.learners_next - {node_id},
    )


def _add_learner(configuration: Configuration, node_id: int) -> Configuration:
    if node_id in configuration.learners | configuration.learners_next:
        return configuration
    without = replace(configuration, voters=configuration.voters - {node_id})
    if node_id in configuration.voters_outgoing:
        return replace(without, learners_next=configuration.learners_next | {node_id})
    return replace(without, learners=configuration.learners | {node_id})


def _remove(configuration: Configuration, node_id: int) -> Configuration:
    return replace(
        configuration,
        voters=configuration.voters - {node_id},
        learners=configuration.learners - {node_id},
        learners_next=configuration.learners_next - {node_id},
    )


def _update(configuration: Configuration, node_id: int) -> Configuration:
    return configuration


_CHANGES = {
    ConfChangeType.ADD_NODE: _add_voter,
    ConfChangeType.REMOVE_NODE: _remove,
    ConfChangeType.UPDATE_NODE: _update,
    ConfChangeType.ADD_LEARNER_NODE: _add_learner,
}


def _checked(configuration: Configuration) -> Configuration:
    check(bool(configuration.voters), "the configuration has no voters left")
    check(
        not configuration.learners & configuration.all_voters,
        "both voter and learner: %s",
        sorted(configuration.learners & configuration.all_voters),
    )
    check(
        configuration.learners_next <= configuration.voters_outgoing,
        "learners to be that are no outgoing voters: %s",
        sorted(configuration.learners_next - configuration.voters_outgoing),
    )
    check(
        configuration.is_joint or not configuration.auto_leave,
        "auto_leave in a configuration that is not joint",
    )
    return configuration
