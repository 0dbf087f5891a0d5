"""Runs etcd's own command line on a reference and on Keydeck and compares what it prints.

What differs by nature is replaced by its name before comparing: endpoints, member, cluster and
lease ids, terms, sizes, durations, and the client's log lines on stderr.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kvserver.proto import rpc_pb2 as rpc
from kvserver.proto import rpc_pb2_grpc as services
from tests.support.servers_proc import ServerProcess, wait_for_output

COMMAND_SECONDS_MAX = 120
"""Only an upper bound for a test that hangs."""
_NUMBERED = re.compile(r'("(?:cluster_id|member_id|raft_term|raftTerm|raftIndex|raftAppliedIndex'
                       r'|leader|dbSize|dbSizeInUse|ClusterID|MemberID|RaftTerm|Leader|DBSize'
                       r'|DBSizeInUse|RaftIndex|RaftAppliedIndex)"\s*:\s*)\d+')  # fmt: skip
_REPLACEMENTS = (
    (_NUMBERED, r"\1N"),
    (re.compile(r"\b\d+(\.\d+)? ([kMG]?B)\b"), "SIZE"),
    (re.compile(r"\b\d+(\.\d+)?(ns|µs|ms|s)\b(?!\))"), "TIME"),
    (re.compile(r"remaining\(\d+s\)"), "remaining(Ns)"),
    (re.compile(r'("ttl":)\d+'), r"\1N"),
    (re.compile(r'("TTL"\s*:\s*)\d+'), r"\1N"),
    (re.compile(r'("[vV]ersion"\s*:\s*)"[^"]*"'), r'\1"V"'),
    (re.compile(r"-{4,}|(?<=\|) {2,}| {2,}(?=\|)"), " "),  # a table is as wide as its ids
    (re.compile(r"/[0-9a-f]{10,16}\b"), "/LEASE"),
    (re.compile(r'("ID"\s*:\s*)\d{10,}'), r"\1ID"),  # of a lease or a member just made
    (re.compile(r"\blease [0-9a-f]{16}\b"), "lease LEASE"),
    (re.compile(r"\b(Member|cluster) {2,}"), r"\1 "),  # ids of 15 digits are padded to 16
)
_LOG_LINE = re.compile(r'^(\{"level":.*\}|\d{4}-\d\d-\d\d.*)$\n?', re.M)


def _without_order(text: str) -> str:
    """Members come in the order of their ids, and ids differ by member."""
    text = re.sub(
        r'(ETCD_INITIAL_CLUSTER=")([^"]*)"',
        lambda found: found.group(1) + ",".join(sorted(found.group(2).split(","))) + '"',
        text,
    )
    lines = text.splitlines(keepends=True)
    return "".join(sorted(lines) if all("started, " in line for line in lines) else lines)


@dataclass(slots=True)
class Answer:
    """What a command left behind, made comparable."""

    status: int
    stdout: str
    stderr: str


@dataclass
class Ctl:
    """One etcdctl binary pointed at one member."""

    binary: Path
    server: ServerProcess
    names: dict[str, str] = field(default_factory=dict)
    """Text of this side (ids, endpoints) -> the name both sides share."""
    captured: dict[str, str] = field(default_factory=dict)
    """Values a script took from earlier output, by name, for `{name}` in later commands."""

    def __post_init__(self) -> None:
        with grpc.insecure_channel(self.server.endpoint) as channel:
            stub = services.ClusterStub(channel)
            header = stub.MemberList(rpc.MemberListRequest(), timeout=60).header
        for number, name in ((header.member_id, "MEMBER"), (header.cluster_id, "CLUSTER")):
            self.names[f"{number:x}"] = name
            self.names[str(number)] = name
        self.names[self.server.endpoint] = "ENDPOINT"
        self.names[f"127.0.0.1:{self.server.peer_port}"] = "PEER"

    def popen(self, command: str, **options: object) -> subprocess.Popen[bytes]:
        arguments = [str(self.binary), f"--endpoints={self.server.endpoint}"]
        arguments += shlex.split(command.format_map(self.captured))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        environment["ETCDCTL_API"] = "3"
        # Of a machine that runs other tests beside this one nothing is asked in five seconds.
        environment["ETCDCTL_COMMAND_TIMEOUT"] = environment["ETCDCTL_DIAL_TIMEOUT"] = "60s"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(arguments, env=environment, **pipes, **options)  # type: ignore[call-overload,no-any-return]

    def run(self, command: str, stdin: bytes = b"") -> Answer:
        process = self.popen(command)
        try:
            stdout, stderr = process.communicate(stdin, timeout=COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(
                f"etcdctl {command}: no end within {COMMAND_SECONDS_MAX} s"
            ) from None
        return Answer(process.returncode, self.level(stdout), self.level(stderr))

    def capture(self, name: str, pattern: str, command: str) -> Answer:
        """Run, and keep an id that is printed in hex as `{name}`; both sides share the name."""
        process = self.popen(command)
        stdout, stderr = process.communicate(timeout=COMMAND_SECONDS_MAX)
        found = re.search(pattern, stdout.decode())
        assert found, f"etcdctl {command}: {stdout!r} {stderr!r}"
        self.captured[name] = found.group(1)
        self.names[found.group(1)] = self.names[str(int(found.group(1), 16))] = name.upper()
        return Answer(process.returncode, self.level(stdout), self.level(stderr))

    def until(self, command: str, wanted: str, stdin: bytes = b"") -> Answer:
        """A command that would go on for ever: interrupted once it has printed `wanted`."""
        process = self.popen(command)
        try:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.flush()
            seen = wait_for_output(process, wanted.encode(), COMMAND_SECONDS_MAX)
        finally:
            status = self.interrupt(process)
        return Answer(status, self.level(seen), "")

    def interrupt(self, process: subprocess.Popen[bytes]) -> int:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return process.returncode

    def level(self, output: bytes) -> str:
        text = output.decode(errors="backslashreplace")
        text = _LOG_LINE.sub("", text)
        for own in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<![0-9a-f]){re.escape(own)}(?![0-9a-f])", self.names[own], text)
        for pattern, replacement in _REPLACEMENTS:
            text = pattern.sub(replacement, text)
        return _without_order(text)


@dataclass
class Twins:
    """The same client on both members; every method compares."""

    reference: Ctl
    subject: Ctl

    @property
    def both(self) -> tuple[Ctl, Ctl]:
        return (self.reference, self.subject)

    def run(self, *commands: str, stdin: bytes = b"") -> list[Answer]:
        """Run each command on both; the answers, once found equal."""
        answers = []
        for command in commands:
            one, other = (ctl.run(command, stdin) for ctl in self.both)
            assert one == other, _told(command, one, other)
            answers.append(one)
        return answers

    def capture(self, name: str, pattern: str, command: str) -> None:
        one, other = (ctl.capture(name, pattern, command) for ctl in self.both)
        assert one == other, _told(command, one, other)

    def call(self, **values: str) -> None:
        """What `{name}` stands for in the commands from here on, on both sides."""
        for ctl in self.both:
            ctl.captured.update(values)

    def until(self, command: str, wanted: str, stdin: bytes = b"") -> Answer:
        one, other = (ctl.until(command, wanted, stdin) for ctl in self.both)
        assert one == other, _told(command, one, other)
        return one

    def revision(self) -> int:
        """The current revision, equal on both."""
        answer = self.run("get no-such-key -w json")[0]
        found = re.search(r'"revision":(\d+)', answer.stdout)
        assert found
        return int(found.group(1))


def _told(command: str, one: Answer, other: Answer) -> str:
    return f"etcdctl {command}\n  reference: {one}\n  subject:   {other}"


def outputs(answers: Sequence[Answer]) -> list[str]:
    return [answer.stdout for answer in answers]
