"""What a leader sends and when its entries are committed (spec/raft.md §6, thesis §3.5-§3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, repeat

from kvserver.raft.progress import Progress, ProgressState
from kvserver.raft.state import Raft
from kvserver.raft.types import Entry, EntryType, Message, MessageType, ReadState

# -- the leader's own log


def append_datas(raft: Raft, datas: Sequence[bytes], kind: EntryType) -> None:
    """Give each data the next index and our term, and append them all.

    Hot path: map and zip build the tuples without a bytecode per entry (0.13 against 0.28 us).
    """
    rows = zip(count(raft.log.last_index + 1), repeat(raft.term), repeat(kind), datas)
    raft.log.append(list(map(tuple.__new__, repeat(Entry), rows)))


def append_entries(raft: Raft, entries: Sequence[Entry]) -> None:
    """The same for entries of mixed types; their index and term are given here."""
    first = raft.log.last_index + 1
    term = raft.term
    raft.log.append(
        [Entry(index, term, entry.type, entry.data) for index, entry in enumerate(entries, first)]
    )


def entries_persisted(raft: Raft) -> None:
    """Our own disk has more of the log: it counts as one voter's."""
    ours = raft.tracker.progress.get(raft.id)
    if ours is not None and ours.acknowledged(raft.log.persisted):
        maybe_commit_and_tell(raft)


def has_committed_in_term(raft: Raft) -> bool:
    """Whether we know all that was committed before us: an entry of our term is committed."""
    return raft.log.term(raft.log.committed) == raft.term


def maybe_commit(raft: Raft) -> bool:
    """Commit what a majority has, if it ends in an entry of our own term (thesis §3.6.2).

    The first commit of a term releases the reads that waited for it.
    """
    log = raft.log
    index = raft.tracker.committed_index()
    if index <= log.committed or log.term(index) != raft.term:
        return False
    is_first_of_term = bool(raft.read_only.postponed)
    log.commit_to(index)
    if is_first_of_term:
        release_postponed_reads(raft)
    return True


def maybe_commit_and_tell(raft: Raft) -> None:
    """The same, and everybody hears of it unless the owner sees to that."""
    if maybe_commit(raft) and raft.config.tells_commits:
        broadcast_append(raft)


# -- appends and snapshots


def broadcast_append(raft: Raft) -> None:
    """An append to everybody who may get one, be it only to tell the commit index."""
    if raft.tracker.sole_voter == raft.id and len(raft.tracker.progress) == 1:
        return
    for member, progress in raft.tracker.progress.items():
        if member != raft.id:
            maybe_send_append(raft, member, progress)


def maybe_send_append(raft: Raft, to: int, progress: Progress, *, sends_empty: bool = True) -> bool:
    """Send what the member lacks, unless it is paused; say whether anything was sent.

    With sends_empty an append without entries goes out too: it tells the commit index.
    """
    # Hot: for every member, whenever something is proposed.
    if progress.is_paused_flow or progress.state is ProgressState.SNAPSHOT:
        return False
    log = raft.log
    first = progress.next
    prev_term = log.storage.term(first - 1)
    if prev_term is None or first <= log.storage.offset:
        return _maybe_send_snapshot(raft, to, progress)
    entries: tuple[Entry, ...] = ()
    if first <= log.last_index and progress.may_carry_entries:
        entries = tuple(log.entries_from(first, raft.config.append_bytes_max))
    if not entries and not sends_empty:
        return False
    committed = log.committed
    kind = MessageType.APPEND
    raft.send(Message(kind, to, raft.id, raft.term, prev_term, first - 1, entries, committed))
    progress.sent(len(entries), committed)
    return True


def _maybe_send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    """The member lacks entries that are compacted; one that is silent gets nothing."""
    if not progress.recent_active:
        return False
    snapshot = raft.log.storage.snapshot
    raft.send(Message(MessageType.SNAPSHOT, to, raft.id, raft.term, snapshot=snapshot))
    progress.become_snapshot(snapshot.index)
    return True


# -- heartbeats and reads


def broadcast_heartbeat(raft: Raft) -> None:
    """Keep everybody from campaigning, and ask to echo the number of the latest read.

    A member believes the commit index in a heartbeat without looking at its log, so it is never
    told of more than it is known to have (spec/raft.md §13.4).
    """
    context = raft.read_only.heartbeat_context
    committed = raft.log.committed
    for member, progress in raft.tracker.progress.items():
        if member != raft.id:
            commit = min(progress.match, committed)
            raft.send(
                Message(
                    MessageType.HEARTBEAT,
                    member,
                    raft.id,
                    raft.term,
                    commit=commit,
                    context=context,
                )
            )
            progress.told_commit(commit)


def request_read(raft: Raft, from_: int, context: bytes) -> None:
    """Begin a read: answer it, number it and ask for echoes, or keep it for later."""
    if not has_committed_in_term(raft):
        raft.read_only.postponed.append((from_, context))
    elif raft.tracker.sole_voter == raft.id:
        answer_read(raft, from_, context, raft.log.committed)
    else:
        raft.read_only.add(from_, context, max(raft.log.committed, raft.promised))
        broadcast_heartbeat(raft)


def release_postponed_reads(raft: Raft) -> None:
    postponed, raft.read_only.postponed = raft.read_only.postponed, []
    for from_, context in postponed:
        request_read(raft, from_, context)


def answer_read(raft: Raft, from_: int, context: bytes, index: int) -> None:
    """Hand a confirmed read to whoever asked: to ourselves as a read state."""
    if from_ == raft.id:
        raft.read_states.append(ReadState(index, context))
        return
    entry = Entry(0, 0, EntryType.NORMAL, context)
    raft.send(
        Message(
            MessageType.READ_INDEX_RESPONSE,
            from_,
            raft.id,
            raft.term,
            index=index,
            entries=(entry,),
        )
    )


def confirm_reads(raft: Raft) -> None:
    """Answer the reads that a majority's echoes have confirmed."""
    for read in raft.read_only.take_confirmed(raft.configuration, raft.id):
        answer_read(raft, read.from_, read.context, read.index)
