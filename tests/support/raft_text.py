"""Raft's values as the words of a script, and back (see raft_script)."""

from __future__ import annotations

import re

from kvserver.raft import (
    ConfChange,
    ConfChangeSingle,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Snapshot,
)
from kvserver.raft.codec import decode_conf_change, encode_conf_change
from kvserver.raft.types import CAMPAIGN_TRANSFER, ConfChangeTransition

_CHANGES = {
    "add": ConfChangeType.ADD_NODE,
    "remove": ConfChangeType.REMOVE_NODE,
    "learner": ConfChangeType.ADD_LEARNER_NODE,
    "update": ConfChangeType.UPDATE_NODE,
}
_CHANGE_NAMES = {kind: name for name, kind in _CHANGES.items()}


def camel(kind: MessageType) -> str:
    return "".join(part.capitalize() for part in kind.name.split("_"))


_TYPES = {camel(kind): kind for kind in MessageType}


def parse_ids(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",")) if text else ()


def parse_change(text: str) -> ConfChange | ConfChangeV2:
    """`add(4)`, or several joined by `+` and ended by `:explicit` for a joint one; `leave`."""
    if text == "leave":
        return ConfChangeV2()
    body, _, mode = text.partition(":")
    singles = []
    for part in body.split("+"):
        match = re.fullmatch(r"(\w+)\((\d+)\)", part)
        assert match, f"no conf change: {text}"
        singles.append(ConfChangeSingle(_CHANGES[match[1]], int(match[2])))
    if len(singles) == 1 and not mode:
        return ConfChange(0, singles[0].type, singles[0].node_id)
    transition = ConfChangeTransition[f"JOINT_{mode.upper()}"] if mode else None
    return ConfChangeV2(tuple(singles), transition or ConfChangeTransition.AUTO)


def show_change(change: ConfChange | ConfChangeV2) -> str:
    singles = change.as_v2().changes
    return "+".join(f"{_CHANGE_NAMES[s.type]}({s.node_id})" for s in singles) or "leave"


def parse_entry(text: str) -> Entry:
    position, _, data = text.partition("=")
    index, _, term = position.partition(":")
    if "(" in data or data == "leave":
        change = parse_change(data)
        kind = EntryType.CONF_CHANGE if isinstance(change, ConfChange) else EntryType.CONF_CHANGE_V2
        return Entry(int(index), int(term), kind, encode_conf_change(change))
    return Entry(int(index), int(term), EntryType.NORMAL, data.encode())


def show_entry(entry: Entry) -> str:
    position = f"{entry.index}:{entry.term}"
    if entry.type is not EntryType.NORMAL:
        return f"{position}={show_change(decode_conf_change(entry))}"
    return f"{position}={entry.data.decode()}" if entry.data else position


def show_entries(entries: list[Entry] | tuple[Entry, ...]) -> str:
    return " ".join(show_entry(entry) for entry in entries)


def show_context(context: bytes) -> str:
    """A leader's own numbers as #n, anything else as the text it is."""
    if len(context) == 8 and not context[1:].strip(b"\0"):
        return f"#{context[0]}"
    return context.decode()


def parse_context(text: str) -> bytes:
    return int(text[1:]).to_bytes(8, "little") if text.startswith("#") else text.encode()


def show_configuration(state: ConfState) -> str:
    parts = [f"voters {','.join(map(str, state.voters))}"]
    for name in ("learners", "voters_outgoing", "learners_next"):
        if getattr(state, name):
            parts.append(f"{name} {','.join(map(str, getattr(state, name)))}")
    return " ".join(parts)


def show_message(message: Message) -> str:
    """Every field that is not zero, so that an unexpected one shows."""
    kind = message.type
    parts = [camel(kind)]
    if message.term:
        parts.append(f"term {message.term}")
    if kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        parts.append(f"last {message.index}:{message.log_term}")
    elif kind is MessageType.APPEND:
        parts.append(f"prev {message.index}:{message.log_term}")
        parts.append(f"[{show_entries(message.entries)}]")
        parts.append(f"commit {message.commit}")
    elif kind is MessageType.APPEND_RESPONSE and message.reject:
        parts.append(f"reject {message.index} hint {message.reject_hint}:{message.log_term}")
    elif kind is MessageType.HEARTBEAT:
        parts.append(f"commit {message.commit}")
    elif kind is MessageType.SNAPSHOT:
        snapshot = message.snapshot
        assert snapshot
        parts.append(f"snap {snapshot.index}:{snapshot.term}")
        parts.append(show_configuration(snapshot.conf_state))
    elif kind is MessageType.PROPOSE:
        parts.append(f"[{show_entries(message.entries)}]")
    else:
        if message.index:
            parts.append(f"index {message.index}")
        if message.reject:
            parts.append("reject")
        if message.entries:
            parts.append(f"ctx {show_context(message.entries[0].data)}")
    if message.context == CAMPAIGN_TRANSFER:
        parts.append("transfer")
    elif message.context:
        parts.append(f"ctx {show_context(message.context)}")
    return " ".join(parts)


def parse_message(text: str, from_: int, to: int) -> Message:
    name, _, rest = text.partition(" ")
    kind = _TYPES[name]
    fields: dict[str, object] = {}
    conf: dict[str, tuple[int, ...]] = {}
    snap: tuple[int, int] | None = None
    entries = re.search(r"\[(.*?)\]", rest)
    if entries:
        fields["entries"] = tuple(parse_entry(part) for part in entries[1].split())
        rest = rest.replace(entries[0], "")
    words = iter(rest.split())
    for word in words:
        if word == "reject" and kind is not MessageType.APPEND_RESPONSE:
            fields["reject"] = True
        elif word == "transfer":
            fields["context"] = CAMPAIGN_TRANSFER
        elif word in ("prev", "last", "snap"):
            index, _, term = next(words).partition(":")
            if word == "snap":
                snap = (int(index), int(term))
            else:
                fields["index"], fields["log_term"] = int(index), int(term)
        elif word == "reject":
            fields["reject"], fields["index"] = True, int(next(words))
        elif word == "hint":
            hint, _, term = next(words).partition(":")
            fields["reject_hint"], fields["log_term"] = int(hint), int(term or 0)
        elif word == "ctx":
            context = parse_context(next(words))
            if kind in (MessageType.READ_INDEX, MessageType.READ_INDEX_RESPONSE):
                fields["entries"] = (Entry(0, 0, EntryType.NORMAL, context),)
            else:
                fields["context"] = context
        elif word in ("voters", "learners", "voters_outgoing"):
            conf[word] = parse_ids(next(words))
        else:
            fields[word] = int(next(words))
    if snap:
        fields["snapshot"] = Snapshot(snap[0], snap[1], ConfState(**conf))
    return Message(kind, to, from_, **fields)  # type: ignore[arg-type]
