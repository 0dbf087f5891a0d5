"""`--force-new-cluster`: one member with its data goes on alone (spec/cluster.md §2.4).

For a cluster that has lost its quorum for good. What this member does not know to be committed is
dropped, and conf changes that remove everybody else are committed in its own name, which no quorum
stands behind: the others must never be started again with their old data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvserver.membership import Member
from kvserver.membership.codec import encode_conf_context
from kvserver.raft import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState
from kvserver.raft.codec import decode_conf_change, encode_conf_change

OWN_URL = "http://localhost:2380"
"""For a member that its own log does not name; the operator corrects it by MemberUpdate."""
JOINS = {ConfChangeType.ADD_NODE: False, ConfChangeType.ADD_LEARNER_NODE: True}
"""Whether what joins by a change of this type is a learner."""


def committed_members(conf_state: ConfState, entries: Iterable[Entry]) -> tuple[set[int], set[int]]:
    """Voters and learners once the conf changes among `entries` are applied to `conf_state`; maybe
    more than that, since a change may turn out to be invalid."""
    voters = set(conf_state.voters) | set(conf_state.voters_outgoing)
    learners = set(conf_state.learners) | set(conf_state.learners_next)
    for entry in entries:
        if entry.type == EntryType.NORMAL:
            continue
        for change in decode_conf_change(entry).as_v2().changes:
            is_learner = JOINS.get(change.type)
            if change.type is ConfChangeType.REMOVE_NODE:
                voters.discard(change.node_id)
                learners.discard(change.node_id)
            elif is_learner is not None:
                (learners if is_learner else voters).add(change.node_id)
                if not is_learner:
                    learners.discard(change.node_id)
    return voters, learners


def stand_alone(
    member_id: int,
    hard_state: HardState,
    entries: Sequence[Entry],
    conf_state: ConfState,
    applied_index: int,
) -> tuple[HardState, list[Entry], list[Entry]]:
    """The hard state and the log of the member alone, and which of its entries are new.

    `conf_state` is the configuration at `applied_index`.
    """
    kept = [entry for entry in entries if entry.index <= hard_state.commit]
    unapplied = (entry for entry in kept if entry.index > applied_index)
    voters, learners = committed_members(conf_state, unapplied)
    changes = []
    if member_id not in voters:
        # Before the others go: a configuration without any voter is none.
        is_learner = member_id in learners
        urls = () if is_learner else (OWN_URL,)
        context = encode_conf_context(
            Member(member_id, urls), is_promote=is_learner, peer_urls=None if is_learner else urls
        )
        changes.append(ConfChange(0, ConfChangeType.ADD_NODE, member_id, context))
    changes += [
        ConfChange(0, ConfChangeType.REMOVE_NODE, other, b"")
        for other in sorted((voters | learners) - {member_id})
    ]
    new = [
        Entry(index, hard_state.term, EntryType.CONF_CHANGE, encode_conf_change(change))
        for index, change in enumerate(changes, hard_state.commit + 1)
    ]
    alone = HardState(hard_state.term, hard_state.vote, hard_state.commit + len(new))
    return alone, kept + new, new
