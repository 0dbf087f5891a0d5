"""Scripts that tell what members of a cluster are told and what they then do.

A script is a text file. A line that starts with `> ` is a command; the lines up to the next blank
line are everything that happens because of it, in order, as this module prints it. Lines that
start with `#` are the story. `run_script` replays a script and returns the text as it should have
been; a test compares the two.

Members named by `new` exist; messages to anybody else are printed and lost, so one member alone
can be shown talking to a cluster. Messages between members that exist wait until `deliver`.

Commands (n, m are member IDs):

    new n voters 1,2,3 [learners 4] [log 1:1 2:1] [snap 10:2] [term T] [vote V] [commit C]
          [window W] [prevote off] [quorum off] [applied A]
    n timeout | n tick [count] | n campaign
    n propose a b | n conf <change> | n read ctx | n transfer m
    n unreachable m | n snapshot m ok|failed | n compact i
    m to n: <message>       a message from m, as it would come over the network
    n disk holds | n disk works    writes wait; waiting writes finish, then writes are instant
    n crash | n restart
    n progress | n log | n state
    cut n m | heal          messages between the two are lost
    deliver                 until no message is under way
    lose                    forget the messages under way

Messages: a type in CamelCase and then words: `Append term 2 prev 3:1 [4:2=a 5:2] commit 3`.
Entries are index:term, `=data` for data, and `=add(4)`, `=remove(4)`, `=learner(4)` for changes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from kvserver.raft import (
    Config,
    ConfState,
    EntryType,
    HardState,
    MemoryStorage,
    Message,
    ProposalDropped,
    RawNode,
    Snapshot,
    plan_ready,
)
from kvserver.raft import plan as steps
from kvserver.raft.codec import decode_conf_change
from tests.support.raft_text import (
    parse_change,
    parse_entry,
    parse_ids,
    parse_message,
    show_configuration,
    show_context,
    show_entries,
    show_message,
)

# -- one member


class ScriptMember:
    """A RawNode with a disk that obeys the script; prints what it does."""

    def __init__(self, config: Config, storage: MemoryStorage, applied: int, say: Say) -> None:
        self.config = config
        self.say = say
        self.node = RawNode(config, storage, applied)
        self.applied = self.node.applied_index
        self.applied_conf = self.node.conf_state
        self.hard_state = storage.hard_state
        self.snapshot = storage.snapshot
        self.log = list(storage.entries)
        self.is_disk_held = False
        self.waiting: list[steps.Step] = []
        self.persisted = 0
        self.sent: list[Message] = []

    def restart(self) -> None:
        """Come back with what the disk has: held writes are lost, the state machine is not."""
        storage = MemoryStorage(
            snapshot=self.snapshot,
            hard_state=self.hard_state,
            entries=self.log,
            conf_state=self.applied_conf,
        )
        self.__init__(self.config, storage, self.applied, self.say)  # type: ignore[misc]

    def drain(self) -> None:
        """Do all that is to be done."""
        while self.node.has_ready():
            ready = self.node.ready()
            soft = ready.soft_state
            if soft is not None:
                self.say(f"{soft.role.value} of term {self.node.term}, leader {soft.leader}")
            for step in plan_ready(ready):
                self.waiting.append(step)
            self.do_steps()

    def do_steps(self) -> None:
        """Do the waiting steps; while the disk is held, writes and what rests on them stay."""
        waiting, self.waiting = self.waiting, []
        for step in waiting:
            is_write = isinstance(step, steps.SaveSnapshot | steps.AppendEntries)
            if (self.is_disk_held and is_write) or step.after_persist > self.persisted:
                self.waiting.append(step)
            else:
                _DO[type(step)](self, step)

    def do_send(self, step: steps.SendMessages | steps.SendAfterPersist) -> None:
        for message in step.messages:
            self.say(f"to {message.to}: {show_message(message)}")
            self.sent.append(message)

    def do_save_snapshot(self, step: steps.SaveSnapshot) -> None:
        self.say(f"disk snapshot {step.snapshot.index}:{step.snapshot.term}")
        self.snapshot, self.log = step.snapshot, []

    def do_append(self, step: steps.AppendEntries) -> None:
        state = step.hard_state
        if step.entries:
            self.say(f"disk {show_entries(step.entries)}")
            kept = step.entries[0].index - self.snapshot.index - 1
            self.log[max(kept, 0) :] = step.entries
        if state is not None:
            before, self.hard_state = self.hard_state, state
            if (before.term, before.vote) != (state.term, state.vote):
                self.say(f"disk term {state.term} vote {state.vote}")
            if before.commit != state.commit:
                self.say(f"commit {state.commit}")
        if step.must_sync:
            self.persisted = step.number
            self.node.persisted(step.number)

    def do_apply(self, step: steps.ApplyEntries) -> None:
        self.say(f"apply {show_entries(step.entries)}")
        for entry in step.entries:
            if entry.type is not EntryType.NORMAL:
                self.applied_conf = self.node.apply_conf_change(decode_conf_change(entry))
                self.say(show_configuration(self.applied_conf))
        self.applied = step.entries[-1].index
        self.node.applied(self.applied)

    def do_reads(self, step: steps.NotifyReadStates) -> None:
        for read in step.read_states:
            self.say(f"read {show_context(read.context)} at {read.index}")

    def do_install(self, step: steps.InstallSnapshot) -> None:
        self.say(f"install {step.snapshot.index}:{step.snapshot.term}")
        self.applied, self.applied_conf = step.snapshot.index, step.snapshot.conf_state
        self.node.applied(self.applied)


Say = Callable[[str], None]
_DO: dict[type, Callable[[ScriptMember, object], None]] = {
    steps.SendMessages: ScriptMember.do_send,  # type: ignore[dict-item]
    steps.SendAfterPersist: ScriptMember.do_send,  # type: ignore[dict-item]
    steps.SaveSnapshot: ScriptMember.do_save_snapshot,  # type: ignore[dict-item]
    steps.AppendEntries: ScriptMember.do_append,  # type: ignore[dict-item]
    steps.ApplyEntries: ScriptMember.do_apply,  # type: ignore[dict-item]
    steps.NotifyReadStates: ScriptMember.do_reads,  # type: ignore[dict-item]
    steps.InstallSnapshot: ScriptMember.do_install,  # type: ignore[dict-item]
}


# -- the interpreter


class Script:
    """The members a script has made, and the messages between them."""

    def __init__(self) -> None:
        self.members: dict[int, ScriptMember] = {}
        self.crashed: dict[int, ScriptMember] = {}
        self.flying: list[Message] = []
        self.cuts: set[frozenset[int]] = set()
        self.output: list[str] = []

    def command(self, line: str) -> list[str]:
        """Run one command and return what happened."""
        self.output = []
        words = line.split()
        message = re.fullmatch(r"(\d+) to (\d+): (.*)", line)
        if message:
            from_, to = int(message[1]), int(message[2])
            self._step(to, parse_message(message[3], from_, to))
        elif words[0].isdigit():
            self._member_command(int(words[0]), words[1], words[2:])
        else:
            getattr(self, f"_do_{words[0]}")(words[1:])
        self._drain()
        return self.output or ["nothing"]

    def _say(self, member: int) -> Say:
        return lambda text: self.output.append(f"{member}  {text}")

    def _drain(self) -> None:
        for member_id, member in sorted(self.members.items()):
            member.drain()
            for message in member.sent:
                if (
                    message.to in self.members
                    and frozenset((member_id, message.to)) not in self.cuts
                ):
                    self.flying.append(message)
            member.sent = []

    def _step(self, to: int, message: Message) -> None:
        try:
            self.members[to].node.step(message)
        except ProposalDropped as error:
            self._say(to)(f"dropped: {error}")

    # commands of the whole script

    def _do_new(self, words: list[str]) -> None:
        member = int(words[0])
        options: dict[str, list[str]] = {}
        name = ""
        for word in words[1:]:
            if word[0].isalpha() and word not in ("on", "off"):
                name = word
                options[name] = []
            else:
                options[name].append(word)

        def number(option: str, default: int) -> int:
            return int(options[option][0]) if option in options else default

        def ids(option: str) -> tuple[int, ...]:
            return parse_ids(options[option][0]) if options.get(option) else ()

        conf = ConfState(
            voters=ids("voters"), learners=ids("learners"), voters_outgoing=ids("outgoing")
        )
        snapshot = None
        if "snap" in options:
            index, _, term = options["snap"][0].partition(":")
            snapshot = Snapshot(int(index), int(term), conf)
        config = Config(
            id=member,
            random=lambda low, high: low,
            pre_vote=options.get("prevote") != ["off"],
            check_quorum=options.get("quorum") != ["off"],
            inflight_appends_max=number("window", 512),
        )
        commit = number("commit", snapshot.index if snapshot else 0)
        storage = MemoryStorage(
            snapshot=snapshot,
            hard_state=HardState(number("term", 0), number("vote", 0), commit),
            entries=[parse_entry(text) for text in options.get("log", [])],
            conf_state=conf,
        )
        self.members[member] = ScriptMember(
            config, storage, number("applied", commit), self._say(member)
        )

    def _do_deliver(self, words: list[str]) -> None:
        """In order of sending; what the deliveries cause is delivered too."""
        self._drain()
        while self.flying:
            flying, self.flying = self.flying, []
            for message in flying:
                if message.to in self.members:
                    self._step(message.to, message)
            self._drain()

    def _do_lose(self, words: list[str]) -> None:
        self.flying = []

    def _do_cut(self, words: list[str]) -> None:
        self.cuts.add(frozenset((int(words[0]), int(words[1]))))

    def _do_heal(self, words: list[str]) -> None:
        self.cuts.clear()

    # commands of one member

    def _member_command(self, member: int, verb: str, words: list[str]) -> None:
        if verb == "restart":
            self.members[member] = self.crashed.pop(member)
            self.members[member].restart()
            return
        if verb == "crash":
            self.crashed[member] = self.members.pop(member)
            return
        try:
            getattr(self, f"_member_{verb}")(self.members[member], words)
        except ProposalDropped as error:
            self._say(member)(f"dropped: {error}")

    def _member_tick(self, member: ScriptMember, words: list[str]) -> None:
        for _ in range(int(words[0]) if words else 1):
            member.node.tick()

    def _member_timeout(self, member: ScriptMember, words: list[str]) -> None:
        """Ticks up to the shortest election timeout, which is what `random` gives here."""
        for _ in range(member.config.election_ticks):
            member.node.tick()

    def _member_campaign(self, member: ScriptMember, words: list[str]) -> None:
        member.node.campaign()

    def _member_propose(self, member: ScriptMember, words: list[str]) -> None:
        member.node.propose([word.encode() for word in words])

    def _member_conf(self, member: ScriptMember, words: list[str]) -> None:
        member.node.propose_conf_change(parse_change(words[0]))

    def _member_read(self, member: ScriptMember, words: list[str]) -> None:
        member.node.read_index(words[0].encode())

    def _member_transfer(self, member: ScriptMember, words: list[str]) -> None:
        member.node.transfer_leader(int(words[0]))

    def _member_unreachable(self, member: ScriptMember, words: list[str]) -> None:
        member.node.report_unreachable(int(words[0]))

    def _member_snapshot(self, member: ScriptMember, words: list[str]) -> None:
        member.node.report_snapshot(int(words[0]), words[1] == "ok")

    def _member_compact(self, member: ScriptMember, words: list[str]) -> None:
        index = int(words[0])
        storage = member.node.storage
        member.snapshot = storage.create_snapshot(index, member.node.conf_state)
        storage.compact(index)
        member.log = list(storage.entries)

    def _member_disk(self, member: ScriptMember, words: list[str]) -> None:
        member.is_disk_held = words[0] == "holds"
        member.do_steps()
        member.do_steps()

    def _member_progress(self, member: ScriptMember, words: list[str]) -> None:
        for peer, progress in member.node.status().progress.items():
            paused = ", paused" if progress.is_paused else ""
            self._say(member.config.id)(
                f"{peer} {progress.state.value} match {progress.match} next {progress.next}{paused}"
            )

    def _member_log(self, member: ScriptMember, words: list[str]) -> None:
        self._say(member.config.id)(f"log {show_entries(member.node.storage.entries)}")

    def _member_state(self, member: ScriptMember, words: list[str]) -> None:
        status = member.node.status()
        self._say(member.config.id)(
            f"{status.role.value} term {status.term} vote {status.vote} leader {status.leader} "
            f"commit {status.committed} applied {status.applied}"
        )


def run_script(text: str) -> str:
    """Replay a script and return it with what really happens after each command."""
    script = Script()
    return "\n".join(_replayed(script, text.splitlines())) + "\n"


def _replayed(script: Script, lines: list[str]) -> Iterator[str]:
    is_output = False
    for line in lines:
        if line.startswith("> "):
            yield line
            happened = script.command(line[2:])
            if not line.startswith("> new "):
                yield from happened
            is_output = True
        elif not line or line.startswith("#"):
            is_output = False
            yield line
        elif not is_output:
            yield line


def main(paths: list[str]) -> None:
    """Write what really happens into the scripts, for reading and comparing with git."""
    for path in map(Path, paths):
        happened = run_script(path.read_text())
        path.write_text(happened)


if __name__ == "__main__":
    main(sys.argv[1:])
