"""What a leader does with messages (spec/raft.md §6, §7, §8, §9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kvserver.raft import codec, replication
from kvserver.raft.progress import Progress, ProgressState
from kvserver.raft.state import Raft
from kvserver.raft.types import (
    NO_ID,
    DropReason,
    Entry,
    EntryType,
    Message,
    MessageType,
    ProposalDropped,
)

# -- proposals


def propose_datas(raft: Raft, datas: Sequence[bytes]) -> None:
    """Append and send normal entries. Hot path: hundreds at once, nothing done per entry."""
    _admit(raft, datas)
    replication.append_datas(raft, datas, EntryType.NORMAL)
    replication.broadcast_append(raft)


def handle_propose(raft: Raft, message: Message) -> None:
    """Entries of any type, ours or forwarded."""
    entries = message.entries
    _admit(raft, [entry.data for entry in entries])
    first = raft.log.last_index + 1
    accepted = []
    for index, entry in enumerate(entries, first):
        if entry.type is not EntryType.NORMAL:
            if _may_change_configuration(raft, entry):
                raft.pending_conf_index = index
            else:
                # The proposer's waiter never fires: it learns by timing out (spec/raft.md §8).
                entry = Entry(0, 0, EntryType.NORMAL, b"")
        accepted.append(entry)
    replication.append_entries(raft, accepted)
    replication.broadcast_append(raft)


def _admit(raft: Raft, datas: Sequence[bytes]) -> None:
    """Raise ProposalDropped where a leader takes no proposals."""
    if raft.transferee != NO_ID:
        raise ProposalDropped(DropReason.TRANSFER)
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped(DropReason.REMOVED)
    bytes_max = raft.config.uncommitted_bytes_max
    if bytes_max:
        size = sum(map(len, datas))
        # One proposal is always let in, whatever its size, and empty ones cost nothing.
        if raft.uncommitted_bytes and size and raft.uncommitted_bytes + size > bytes_max:
            raise ProposalDropped(DropReason.UNCOMMITTED_LIMIT)
        raft.uncommitted_bytes += size


def release_uncommitted(raft: Raft, committed: Sequence[Entry]) -> None:
    """Entries are handed out for apply: they no longer count as uncommitted."""
    size = sum([len(entry.data) for entry in committed])
    # Entries of leaders before us were never counted.
    raft.uncommitted_bytes = max(0, raft.uncommitted_bytes - size)


def _may_change_configuration(raft: Raft, entry: Entry) -> bool:
    """One change at a time: none is on its way, and it fits the configuration's form."""
    if raft.pending_conf_index > raft.log.applied:
        return False
    leaves_joint = not codec.decode_conf_change(entry).as_v2().changes
    return leaves_joint == raft.configuration.is_joint


# -- answers of followers


def _known(
    handler: Callable[[Raft, Message, Progress], None],
) -> Callable[[Raft, Message], None]:
    """Handle a message only if it is from, or about, a member of the configuration."""

    def handle(raft: Raft, message: Message) -> None:
        progress = raft.tracker.progress.get(message.from_)
        if progress is not None:
            handler(raft, message, progress)

    return handle


def _handle_append_response(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    if message.reject:
        _handle_rejection(raft, message, progress)
        return
    if message.index > raft.log.last_index:
        return  # Nobody can agree with entries that we do not have.
    is_news = progress.acknowledged(message.index)
    answers_probe = progress.state is ProgressState.PROBE and progress.match == message.index
    if not is_news and not answers_probe:
        return
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(message.index)
    elif progress.match + 1 >= raft.log.first_index:
        # Whatever became of the snapshot: the log can go on from here (spec/raft.md §6.4).
        progress.become_replicate()
    if progress.match > raft.log.committed:
        replication.maybe_commit_and_tell(raft)
    if raft.config.tells_commits and progress.may_lack_commit(raft.log.committed):
        replication.maybe_send_append(raft, message.from_, progress)
    while progress.next <= raft.log.last_index:  # Hot: most often there is nothing more.
        if not replication.maybe_send_append(raft, message.from_, progress, sends_empty=False):
            break
    if message.from_ == raft.transferee and progress.match == raft.log.last_index:
        _send_timeout_now(raft, message.from_)


def _handle_rejection(raft: Raft, message: Message, progress: Progress) -> None:
    hint = message.reject_hint
    if message.log_term > 0:
        hint = raft.log.last_index_with_term_up_to(hint, message.log_term)
    if progress.maybe_step_back(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        replication.maybe_send_append(raft, message.from_, progress)


def _handle_heartbeat_response(raft: Raft, message: Message, progress: Progress) -> None:
    """A lost append is found out here, within a heartbeat (spec/raft.md §6.3)."""
    progress.recent_active = True
    progress.resume()
    if message.context:
        raft.read_only.echoed(message.from_, message.context)
        replication.confirm_reads(raft)
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        replication.maybe_send_append(raft, message.from_, progress)


def _handle_unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def _handle_snapshot_status(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is ProgressState.SNAPSHOT:
        progress.snapshot_reported(is_success=not message.reject)


# -- reads and transfers


def handle_read_index(raft: Raft, message: Message) -> None:
    if len(message.entries) == 1:
        replication.request_read(raft, message.from_, message.entries[0].data)


def _handle_transfer_leader(raft: Raft, message: Message, progress: Progress) -> None:
    """Message.from_ is the member that is to lead (thesis §3.10)."""
    transferee = message.from_
    if progress.is_learner or transferee in (raft.id, raft.transferee):
        return
    raft.transferee = transferee
    # The transfer must be over within an election timeout.
    raft.election_elapsed = 0
    if progress.match == raft.log.last_index:
        _send_timeout_now(raft, transferee)
    else:
        replication.maybe_send_append(raft, transferee, progress)


def _send_timeout_now(raft: Raft, to: int) -> None:
    raft.send(Message(MessageType.TIMEOUT_NOW, to=to, from_=raft.id, term=raft.term))


HANDLERS: Mapping[MessageType, Callable[[Raft, Message], None]] = {
    MessageType.PROPOSE: handle_propose,
    MessageType.READ_INDEX: handle_read_index,
    MessageType.APPEND_RESPONSE: _known(_handle_append_response),
    MessageType.HEARTBEAT_RESPONSE: _known(_handle_heartbeat_response),
    MessageType.UNREACHABLE: _known(_handle_unreachable),
    MessageType.SNAPSHOT_STATUS: _known(_handle_snapshot_status),
    MessageType.TRANSFER_LEADER: _known(_handle_transfer_leader),
}
