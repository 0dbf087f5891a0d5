"""What is kept of a round that went wrong: enough to judge its history again.

One JSON object per line. Messages are their type's name and their bytes in hexadecimal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kvserver.proto import kv_pb2
from kvserver.proto import rpc_pb2 as rpc
from tests.support.chaos.rounds import RoundResult
from tests.support.linearizability import Operation, Start


def save(directory: Path, result: RoundResult) -> Path:
    """The story, the violations and the history; the members' logs are beside it already."""
    directory.mkdir(parents=True, exist_ok=True)
    story = [str(result), *(f"{when:9.3f} {what}" for when, what in result.told), ""]
    (directory / "story.txt").write_text("\n".join([*story, *result.violations]) + "\n")
    evidence = result.evidence
    if evidence is not None:
        write_history(directory / "history.jsonl", evidence.operations)
        events = next(iter(evidence.logs.values())).events
        (directory / "log.jsonl").write_text("".join(f'"{_hex(event)}"\n' for event in events))
        start = [evidence.start.revision, *(_hex(kv) for kv in evidence.start.kvs)]
        (directory / "start.json").write_text(json.dumps(start))
    return directory


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    with path.open("w") as file:
        for each in operations:
            line = {
                "client": each.client,
                "member": each.member,
                "invoked": each.invoked,
                "completed": each.completed,
                "is_refused": each.is_refused,
                "request": _named(each.request),
                "response": None if each.response is None else _named(each.response),
            }
            file.write(json.dumps(line) + "\n")


def read_history(path: Path) -> Iterator[Operation]:
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        request, response = (_message(fields.pop(name)) for name in ("request", "response"))
        yield Operation(**fields, request=request, response=response)


def read_events(path: Path) -> dict[int, list[kv_pb2.Event]]:
    events: dict[int, list[kv_pb2.Event]] = {}
    for line in path.read_text().splitlines():
        event = kv_pb2.Event.FromString(bytes.fromhex(json.loads(line)))
        events.setdefault(event.kv.mod_revision, []).append(event)
    return events


def read_start(path: Path) -> Start:
    revision, *kvs = json.loads(path.read_text())
    return Start(revision, [kv_pb2.KeyValue.FromString(bytes.fromhex(kv)) for kv in kvs])


def _hex(message: Any) -> str:
    return str(message.SerializeToString(deterministic=True).hex())


def _named(message: Any) -> list[str]:
    return [type(message).__name__, _hex(message)]


def _message(named: list[str] | None) -> Any:
    if named is None:
        return None
    name, text = named
    return getattr(rpc, name).FromString(bytes.fromhex(text))
