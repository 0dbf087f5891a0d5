"""What chaos keeps of a bad round is enough to judge it again; a seed names one plan."""

from __future__ import annotations

import random
from pathlib import Path

from kvserver.proto import rpc_pb2 as rpc
from tests.linearizability.calls import Scene, get, put, swap
from tests.support.chaos.journal import read_events, read_history, read_start, save
from tests.support.chaos.leases import Lessee
from tests.support.chaos.load import Book, Caller
from tests.support.chaos.plan import plan_round
from tests.support.chaos.rounds import RoundResult
from tests.support.chaos.verdict import Evidence, judge
from tests.support.linearizability import Operation, Start, check
from tests.support.watch_checks import Interest, WatcherLog


def evidence_of(scene: Scene) -> Evidence:
    log = WatcherLog(Interest(b"\0", b"\0", 2))
    for revision, events in scene.events().items():
        header = rpc.ResponseHeader(revision=revision)
        log.add(rpc.WatchResponse(header=header, events=events))
    last = scene.model.revision
    nobody = Lessee(Caller("c", None, Book(), random.Random(1)), None)  # type: ignore[arg-type]
    return Evidence(Start(1, []), last, last, scene.history, {"m0": log}, {"m0": 1}, [], nobody)


def test_a_saved_round_is_judged_again(tmp_path: Path) -> None:
    scene = Scene()
    scene.call(put(b"a", b"1"))
    scene.call(swap(b"a", 2, b"2"), is_told=False)
    scene.call(get(b"a"))
    scene.history.append(Operation("d", "m0", put(b"b", b""), 0.0, 1.0, is_refused=True))
    evidence = evidence_of(scene)
    assert judge(evidence).violations == []
    assert judge(evidence).unknown_that_happened == 1
    result = RoundResult(7, [], violations=["something"], told=[(1.0, "a fault")])
    result.evidence = evidence
    directory = save(tmp_path / "round-7", result)
    history = list(read_history(directory / "history.jsonl"))
    assert [str(each) for each in history] == [str(each) for each in scene.history]
    events = read_events(directory / "log.jsonl")
    assert events == scene.events()
    assert check(history, events=events).is_linearizable
    assert read_start(directory / "start.json") == evidence.start
    story = (directory / "story.txt").read_text()
    assert "a fault" in story and "something" in story


def test_members_that_differ_are_seen() -> None:
    scene = Scene()
    scene.call(put(b"a", b"1"))
    evidence = evidence_of(scene)
    evidence.hashes["m1"] = 2  # type: ignore[index]
    assert judge(evidence).violations == ["HashKV at revision 2 differs: {'m0': 1, 'm1': 2}"]


def test_a_seed_names_one_plan() -> None:
    def plan(seed: int) -> list[str]:
        return [str(each) for each in plan_round(random.Random(seed), has_small_disk=True)]

    assert [plan(seed) for seed in range(50)] == [plan(seed) for seed in range(50)]
    assert len({tuple(plan(seed)) for seed in range(50)}) > 30
